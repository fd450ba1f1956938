/*
 * settings.c
 *		Copies of the caller's settings.
 *
 * The caller may set new settings while the courier still works with the ones before.
 * So each copy counts its users, and the last one to release it frees it.
 */
#include "broker/broker_int.h"

#include <stdlib.h>
#include <string.h>

/* The members of BrokerConfig that are strings. */
static const size_t string_offsets[] = {
	offsetof(BrokerConfig, servers),       offsetof(BrokerConfig, credentials),  offsetof(BrokerConfig, tls_ca_file),
	offsetof(BrokerConfig, tls_cert_file), offsetof(BrokerConfig, tls_key_file), offsetof(BrokerConfig, name),
	offsetof(BrokerConfig, stream),        offsetof(BrokerConfig, subjects),
};
#define NSTRINGS (sizeof(string_offsets) / sizeof(string_offsets[0]))

/* The i-th string of a config. */
static const char **
settings_string(const BrokerConfig *config, size_t i)
{
	return (const char **) ((char *) config + string_offsets[i]);
}

/* Give up one use of settings, which are freed with the last use; NULL is allowed. */
void
settings_release(Settings *settings)
{
	if (settings == NULL || --settings->users > 0)
		return;
	for (size_t i = 0; i < NSTRINGS; i++)
		free((char *) *settings_string(&settings->config, i));
	texts_free(settings->servers);
	texts_free(settings->subjects);
	free(settings);
}

/* Copy a config; returns NULL if there is no memory. */
Settings *
settings_create(const BrokerConfig *config)
{
	Settings *settings = calloc(1, sizeof(Settings));
	int nsubjects;
	bool complete = true;

	if (settings == NULL)
		return NULL;
	settings->users = 1;
	settings->config = *config;
	for (size_t i = 0; i < NSTRINGS; i++)
		complete &= (*settings_string(&settings->config, i) = strdup(*settings_string(config, i))) != NULL;
	settings->servers = texts_split(config->servers, "nats://", &settings->nservers);
	settings->subjects = texts_split(config->subjects, "", &nsubjects);
	if (complete && settings->servers != NULL && settings->subjects != NULL)
		return settings;
	settings_release(settings);
	return NULL;
}

/* Are these settings a copy of this config? */
bool
settings_equal(const Settings *settings, const BrokerConfig *config)
{
	for (size_t i = 0; i < NSTRINGS; i++)
		if (strcmp(*settings_string(&settings->config, i), *settings_string(config, i)) != 0)
			return false;
	return settings->config.max_age == config->max_age &&
	       settings->config.duplicate_window == config->duplicate_window &&
	       settings->config.replicas == config->replicas;
}

/*
 * The duplicate window, in seconds, of a stream that we create: how long the stream
 * recognizes a message that we send again.  JetStream refuses a window longer than max_age.
 */
int64_t
settings_duplicate_window(const BrokerConfig *config)
{
	if (config->max_age > 0 && config->duplicate_window > config->max_age)
		return config->max_age;
	return config->duplicate_window;
}
