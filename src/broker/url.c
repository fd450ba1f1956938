/*
 * url.c
 *		URLs of servers, and the users, passwords and tokens in them.
 */
#include "broker/broker_int.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Write the host and port of a URL, without user and password; the default port is 4222. */
void
url_host(const char *url, char *out, size_t size)
{
	const char *start = strstr(url, "://");
	const char *at;
	const char *colon;

	start = start != NULL ? start + 3 : url;
	at = strrchr(start, '@');
	if (at != NULL)
		start = at + 1;
	colon = strrchr(start, ']') != NULL ? strchr(strrchr(start, ']'), ':') : strchr(start, ':');
	snprintf(out, size, "%s%s", start, colon != NULL ? "" : ":4222");
}

/* Remove user and password from all URLs in a text. */
void
url_mask(char *text)
{
	while ((text = strstr(text, "://")) != NULL)
	{
		size_t length = strcspn(text += 3, " \t'\",");
		char *at = memrchr(text, '@', length);

		if (at != NULL)
			memmove(text, at + 1, strlen(at + 1) + 1);
	}
}

/* Copy the text from "from" to "end" with each %XX decoded, as far as it fits. */
void
url_decode(const char *from, const char *end, char *out, size_t size)
{
	size_t n = 0;

	while (from < end && n + 1 < size)
	{
		unsigned int byte;
		char hex[3] = {0};

		if (*from == '%' && end - from >= 3)
			memcpy(hex, from + 1, 2);
		if (isxdigit((unsigned char) hex[0]) && isxdigit((unsigned char) hex[1]) && sscanf(hex, "%x", &byte) == 1)
		{
			out[n++] = (char) byte;
			from += 3;
		}
		else
			out[n++] = *from++;
	}
	out[n] = '\0';
}

/*
 * Copy a text with the escapes that JSON needs in a string, as far as it fits.  nats.c
 * does not escape names and passwords when it writes them into the JSON of its login.
 */
void
url_escape(const char *from, char *out, size_t size)
{
	size_t n = 0;

	for (; *from != '\0' && n + 7 < size; from++)
	{
		if ((unsigned char) *from < 0x20)
			n += (size_t) snprintf(out + n, size - n, "\\u%04x", (unsigned int) *from);
		else
		{
			if (*from == '"' || *from == '\\')
				out[n++] = '\\';
			out[n++] = *from;
		}
	}
	out[n] = '\0';
}
