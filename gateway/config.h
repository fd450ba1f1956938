/*
 * config.h
 *		The command line.
 */
#ifndef EDA_GATEWAY_CONFIG_H
#define EDA_GATEWAY_CONFIG_H

#define MAX_ORIGINS 32

typedef struct Config
{
	const char *conninfo;
	char address[256];                    /* to listen on */
	int port;                             /* 0: any free one */
	const char *www;                      /* the folder of the page's files */
	const char *tokens_file;              /* NULL: there are no tokens */
	const char *origins[MAX_ORIGINS + 1]; /* pages of these may call; NULL after the last one */
	int pool;                             /* connections to the database */
	int max_body;                         /* bytes */
	int max_connections;                  /* of clients */
	int max_in_flight;                    /* requests of one caller */
	const char *tls_cert;                 /* NULL: no TLS */
	const char *tls_key;
} Config;

extern Config config;

extern void config_read(int argc, char **argv);

#endif
