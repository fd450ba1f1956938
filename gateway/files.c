/*
 * files.c
 *		The files of the web page.  They are read once, at the start, so the path of a
 *		request never reaches the file system.
 */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libwebsockets.h>

#include "log.h"
#include "memory.h"
#include "request.h"
#include "seen.h"
#include "text.h"

#define MAX_FILES 256

typedef struct File
{
	char *path; /* of a request for it */
	const char *content_type;
	Text content;
	char etag[20];
} File;

static File files[MAX_FILES];
static int nfiles;

static const char *
content_type_of(const char *name)
{
	static const char *const types[][2] = {
		{".html", "text/html; charset=utf-8"},
		{".css", "text/css; charset=utf-8"},
		{".js", "text/javascript; charset=utf-8"},
		{".json", "application/json"},
		{".svg", "image/svg+xml"},
		{".png", "image/png"},
		{".webmanifest", "application/manifest+json"},
	};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(dot, types[i][0]) == 0)
			return types[i][1];
	return NULL;
}

/* FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t
hash_of(const Text *t)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < t->size; i++)
		hash = (hash ^ (unsigned char) t->data[i]) * 0x100000001b3ULL;
	return hash;
}

static void
load_file(const char *name, const char *path)
{
	FILE *in = fopen(name, "rb");
	char block[65536];
	size_t n;
	File *f;

	if (in == NULL || nfiles == MAX_FILES)
	{
		log_line(LOG_WARN, "%s: %s", name, in == NULL ? strerror(errno) : "there are too many files for the page");
		if (in != NULL)
			fclose(in);
		return;
	}
	f = &files[nfiles++];
	while ((n = fread(block, 1, sizeof(block), in)) > 0)
		text_add(&f->content, block, n);
	fclose(in);
	f->path = memory_copy_text(path);
	f->content_type = content_type_of(name);
	snprintf(f->etag, sizeof(f->etag), "%016llx", (unsigned long long) hash_of(&f->content));
}

/* Load the files of a folder that have a name with a known ending. */
static void
load_folder(const char *folder, const char *prefix)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	char name[4096];
	char path[512];

	if (dir == NULL)
	{
		log_line(LOG_WARN, "cannot read the files of the page: %s: %s", folder, strerror(errno));
		return;
	}
	while ((entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.' || content_type_of(entry->d_name) == NULL)
			continue;
		if (snprintf(name, sizeof(name), "%s/%s", folder, entry->d_name) >= (int) sizeof(name) ||
		    snprintf(path, sizeof(path), "%s%s", prefix, entry->d_name) >= (int) sizeof(path))
			continue;
		load_file(name, path);
	}
	closedir(dir);
}

void
files_load(const char *www)
{
	char assets[4096];

	load_folder(www, "/");
	if (snprintf(assets, sizeof(assets), "%s/assets", www) < (int) sizeof(assets))
		load_folder(assets, "/assets/");
}

void
files_forget(void)
{
	while (nfiles > 0)
	{
		free(files[--nfiles].path);
		text_free(&files[nfiles].content);
	}
}

/* Answer with a file; / stands for index.html, and /rides for rides.html. */
bool
files_answer(Request *request)
{
	const char *path = request->path;
	char seen[64];

	if (strcmp(path, "/") == 0)
		path = "/index.html";
	else if (strcmp(path, "/rides") == 0)
		path = "/rides.html";
	for (int i = 0; i < nfiles; i++)
	{
		const File *f = &files[i];

		if (strcmp(f->path, path) != 0)
			continue;
		request->status = 200;
		request->content_type = f->content_type;
		request->etag = f->etag;
		request->cache = "no-cache";
		request->content = f->content.size == 0 ? "" : f->content.data;
		request->content_size = f->content.size;
		if (lws_hdr_copy(request->wsi, seen, sizeof(seen), WSI_TOKEN_HTTP_IF_NONE_MATCH) > 0 &&
		    strstr(seen, f->etag) != NULL)
		{
			request->status = 304;
			request->content_size = 0;
		}
		return true;
	}
	return false;
}
