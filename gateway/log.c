/*
 * log.c
 *		Log lines, on stderr.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

LogLevel log_level = LOG_INFO;

/* Write a line to stderr, without a time: systemd's journal and others like it add that. */
void
log_line(LogLevel level, const char *format, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	va_list args;

	if (level > log_level)
		return;
	fprintf(stderr, "eda-gateway: %s: ", names[level]);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}
