/*
 * driver.c
 *		Drives the broker without PostgreSQL.  It reads commands, one on each line, and
 *		answers each of them with one line.
 *
 *	configure NAME=VALUE ...   call broker_configure() with servers, credentials, tls_ca_file,
 *	                           tls_cert_file, tls_key_file, stream, subjects, max_age,
 *	                           duplicate_window and replicas; what is left out is empty or 0
 *	publish COUNT [SUBJECT [SIZE [SECONDS]]]
 *	                           hand over so many messages, as soon as there is room.  Their ids,
 *	                           which are also the first words of their bodies, are m1, m2, ...
 *	                           They expire after so many seconds, which may be negative
 *	withdraw NUMBER            withdraw the message m<NUMBER>
 *	status                     everything that is known, as NAME=VALUE, texts last
 *	covers SUBJECT             "yes" or "no"
 *	threads                    how many threads this process has, and how many of them, not
 *	                           counting the main thread, do not block all signals
 *	destroy                    end; "ended" or "hangs", and how many ms that took
 *
 * Ends with exit status 3 and a line on stderr if a receipt comes twice, or for a message
 * that was withdrawn, or for one that was never handed over.
 */
#include "broker/broker.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_MESSAGES 2000000
#define RECEIPTS 256

typedef struct Batch
{
	int left;
	char subject[4096];
	int size;
	int seconds; /* until they expire; 0: never */
} Batch;

static Broker *broker;
static int event_fd;

/* By number: 0 if the message was handed over, 'w' if withdrawn, or a letter for the verdict. */
static char receipts_of[MAX_MESSAGES + 1];
static int handed;    /* messages */
static int counts[4]; /* receipts, by verdict */
static char last_error[256];
static Batch batches[16]; /* not yet handed over */
static int nbatches;
static char body[64 * 1024 * 1024];

/* The monotonic clock in milliseconds. */
static long long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* End because the broker has broken its contract. */
static void __attribute__((noreturn)) fail(const char *what, int number)
{
	fprintf(stderr, "driver: %s: message %d\n", what, number);
	_exit(3);
}

/* ------------------------------------------------------------------------
 * Messages and receipts
 * ------------------------------------------------------------------------ */

/* The tag of a message.  take_receipts() compares all of it. */
static BrokerTag
tag_of(int number)
{
	BrokerTag tag = {.version = number, .kind = 7};

	memcpy(tag.id, &number, sizeof(number));
	return tag;
}

/* Hand over messages as long as there is room. */
static void
hand_over(void)
{
	static const char *const headers[] = {"Content-Type", "text/plain", "X-One", "1", NULL};

	while (nbatches > 0)
	{
		Batch *batch = &batches[0];
		char id[32];
		int length;
		struct timespec now;
		BrokerMessage message = {.subject = batch->subject, .id = id, .headers = headers, .body = body};

		if (batch->left == 0)
		{
			memmove(batches, batches + 1, sizeof(Batch) * (size_t) --nbatches);
			continue;
		}
		if (handed == MAX_MESSAGES)
			fail("too many", handed);
		message.tag = tag_of(handed + 1);
		snprintf(id, sizeof(id), "m%d", handed + 1);
		length = snprintf(body, sizeof(body), "m%d ", handed + 1);
		if (length < batch->size)
		{
			memset(body + length, 'x', (size_t) (batch->size - length));
			length = batch->size;
		}
		message.body_length = (size_t) length;
		if (batch->seconds != 0)
		{
			clock_gettime(CLOCK_REALTIME, &now);
			message.expires_at = ((long long) now.tv_sec + batch->seconds) * 1000000;
		}
		if (!broker_publish(broker, &message))
			break;
		handed++;
		batch->left--;
	}
	broker_flush(broker);
}

/* Read all receipts, and check that each message gets only one. */
static void
take_receipts(void)
{
	BrokerReceipt receipts[RECEIPTS];
	int n;

	do
	{
		n = broker_receipts(broker, receipts, RECEIPTS);
		for (int i = 0; i < n; i++)
		{
			int number = receipts[i].tag.version;
			BrokerTag tag = tag_of(number);

			if (number < 1 || number > handed || memcmp(&tag, &receipts[i].tag, sizeof(tag)) != 0)
				fail("receipt for a message that was not handed over", number);
			if (receipts_of[number] != 0)
				fail(receipts_of[number] == 'w' ? "receipt for a message that was withdrawn" : "second receipt",
				     number);
			receipts_of[number] = "arxu"[receipts[i].verdict];
			counts[receipts[i].verdict]++;
			if (receipts[i].error[0] != '\0')
				snprintf(last_error, sizeof(last_error), "%s", receipts[i].error);
		}
	} while (n == RECEIPTS);
}

/* ------------------------------------------------------------------------
 * Commands
 * ------------------------------------------------------------------------ */

/* The value of NAME=VALUE among the words; empty if there is none. */
static const char *
setting(char **words, const char *name)
{
	size_t length = strlen(name);

	for (; *words != NULL; words++)
		if (strncmp(*words, name, length) == 0 && (*words)[length] == '=')
			return *words + length + 1;
	return "";
}

static void
configure(char **words)
{
	BrokerConfig config = {
		.servers = setting(words, "servers"),
		.credentials = setting(words, "credentials"),
		.tls_ca_file = setting(words, "tls_ca_file"),
		.tls_cert_file = setting(words, "tls_cert_file"),
		.tls_key_file = setting(words, "tls_key_file"),
		.name = "driver",
		.stream = setting(words, "stream"),
		.subjects = setting(words, "subjects"),
		.max_age = atoll(setting(words, "max_age")),
		.duplicate_window = atoll(setting(words, "duplicate_window")),
		.replicas = atoi(setting(words, "replicas")),
	};

	puts(broker_configure(broker, &config) ? "done" : "failed");
}

static void
publish(char **words)
{
	Batch *batch = &batches[nbatches++];

	if (nbatches > 16)
		fail("too many batches", nbatches);
	*batch = (Batch){.left = words[0] ? atoi(words[0]) : 1};
	snprintf(batch->subject, sizeof(batch->subject), "%s", words[0] && words[1] ? words[1] : "event-engine.driver");
	if (words[0] && words[1] && words[2])
	{
		batch->size = atoi(words[2]);
		batch->seconds = words[3] ? atoi(words[3]) : 0;
	}
	hand_over();
	puts("done");
}

static void
withdraw(char **words)
{
	int number = words[0] ? atoi(words[0]) : 0;
	BrokerTag tag = tag_of(number);

	broker_withdraw(broker, &tag);
	/* The message may have had its receipt before. */
	take_receipts();
	if (number >= 1 && number <= handed && receipts_of[number] == 0)
		receipts_of[number] = 'w';
	puts("done");
}

/* Print everything that is known. */
static void
print_status(void)
{
	BrokerStatus s;
	int left = 0;

	take_receipts();
	broker_status(broker, &s);
	for (int i = 0; i < nbatches; i++)
		left += batches[i].left;
	printf(
		"state=%s server=%s version=%s max_message=%zu ttl=%d unacknowledged=%d published=%llu resent=%llu reconnects=%llu "
		"subject_changes=%llu room=%d handed=%d left=%d acknowledged=%d rejected=%d expired=%d uncovered=%d error={%s} notice={%s} "
		"receipt={%s}\n",
		broker_state_name(s.state), s.server, s.version, s.max_message, s.ttl, s.unacknowledged,
		(unsigned long long) s.published, (unsigned long long) s.resent, (unsigned long long) s.reconnects,
		(unsigned long long) s.subject_changes, broker_room(broker), handed, left, counts[0], counts[1], counts[2],
		counts[3], s.error, s.notice, last_error);
}

/*
 * Count the threads, and those other than the main thread that do not block all signals.
 *
 * SIGKILL, SIGSTOP and the two signals of the C library (32 and 33) cannot be blocked.  SIGSYS
 * (31) is left out too: the thread sanitizer of gcc 14 does not block it in its own thread,
 * and no other process sends it.
 */
static void
print_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *task;
	int n = 0;
	int open_to_signals = 0;

	while (tasks != NULL && (task = readdir(tasks)) != NULL)
	{
		char path[300];
		char line[256];
		FILE *file;

		if (task->d_name[0] == '.')
			continue;
		n++;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		file = fopen(path, "r");
		while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		{
			unsigned long long blocked;

			if (sscanf(line, "SigBlk: %llx", &blocked) == 1 && atoi(task->d_name) != getpid())
				open_to_signals += (blocked | 1ULL << 8 | 1ULL << 18 | 7ULL << 30) != ~0ULL;
		}
		if (file != NULL)
			fclose(file);
	}
	if (tasks != NULL)
		closedir(tasks);
	printf("threads=%d open_to_signals=%d\n", n, open_to_signals);
}

/* End the broker, print how that went, and exit. */
static void
destroy(void)
{
	long long start = now_ms();
	bool ended = broker_destroy(broker);

	printf("%s %lld\n", ended ? "ended" : "hangs", now_ms() - start);
	fflush(stdout);
	/* Like the engine, run no exit handlers if a thread still hangs. */
	if (!ended)
		_exit(0);
	exit(0);
}

/* Run the command of a line. */
static void
run_command(char *line)
{
	char *words[16] = {NULL};
	int n = 0;

	for (char *word = strtok(line, " \n"); word != NULL && n < 15; word = strtok(NULL, " \n"))
		words[n++] = word;
	if (n == 0)
		return;
	if (strcmp(words[0], "configure") == 0)
		configure(words + 1);
	else if (strcmp(words[0], "publish") == 0)
		publish(words + 1);
	else if (strcmp(words[0], "withdraw") == 0)
		withdraw(words + 1);
	else if (strcmp(words[0], "status") == 0)
		print_status();
	else if (strcmp(words[0], "covers") == 0)
		puts(broker_covers(broker, words[1] ? words[1] : "") ? "yes" : "no");
	else if (strcmp(words[0], "threads") == 0)
		print_threads();
	else if (strcmp(words[0], "destroy") == 0)
		destroy();
	else
		puts("unknown command");
	fflush(stdout);
}

int
main(void)
{
	static char input[65536];
	size_t length = 0;

	broker = broker_create(&event_fd);
	if (broker == NULL)
		return 1;
	for (;;)
	{
		struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = event_fd, .events = POLLIN}};
		char *end;
		ssize_t n;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return 1;
		if (fds[1].revents != 0)
		{
			take_receipts();
			hand_over();
		}
		if (fds[0].revents == 0)
			continue;
		n = read(STDIN_FILENO, input + length, sizeof(input) - length - 1);
		if (n <= 0)
			destroy();
		length += (size_t) n;
		input[length] = '\0';
		while ((end = strchr(input, '\n')) != NULL)
		{
			char line[65536];

			*end = '\0';
			snprintf(line, sizeof(line), "%s", input);
			length -= (size_t) (end + 1 - input);
			memmove(input, end + 1, length + 1);
			run_command(line);
		}
	}
}
