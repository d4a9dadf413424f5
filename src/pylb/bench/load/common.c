/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all modes share: the clock, counts over time, sockets, and a server's life.
 */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/**
 * now_ns() - The time
 *
 * Return: CLOCK_MONOTONIC in ns
 */
uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/**
 * sleep_until() - Sleep to a time, which may have passed
 * @when:	CLOCK_MONOTONIC in ns
 */
void sleep_until(uint64_t when)
{
	struct timespec at = { (time_t)(when / NS_PER_S), (long)(when % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/**
 * fail() - End the program with what failed and errno on stderr
 * @what:	The call, or what it was for
 */
void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/**
 * slots_add() - Count events
 * @slots:	Where
 * @now:	When, ns
 * @count:	How many
 */
void slots_add(struct slots *slots, uint64_t now, uint64_t count)
{
	uint64_t none = 0, slot, last;

	__atomic_compare_exchange_n(&slots->origin, &none, now, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
	slot = (now - __atomic_load_n(&slots->origin, __ATOMIC_RELAXED)) / SLOT_NS;
	/* Another thread's first event may be a little later than this one. */
	if ((int64_t)slot < 0)
		slot = 0;
	if (slot >= SLOTS)
		slot = SLOTS - 1;
	__atomic_fetch_add(&slots->count[slot], count, __ATOMIC_RELAXED);
	__atomic_fetch_add(&slots->total, count, __ATOMIC_RELAXED);
	last = __atomic_load_n(&slots->last, __ATOMIC_RELAXED);
	if (slot > last)
		__atomic_store_n(&slots->last, slot, __ATOMIC_RELAXED);
}

/**
 * slots_print() - Print a count as members of a JSON object, without its braces
 * @slots:	What
 */
void slots_print(const struct slots *slots)
{
	uint64_t i;

	printf("\"total\": %llu, \"slot\": %g, \"counts\": [", (unsigned long long)slots->total,
	       (double)SLOT_NS / (double)NS_PER_S);
	for (i = 0; slots->total && i <= slots->last; i++)
		printf("%s%llu", i ? ", " : "", (unsigned long long)slots->count[i]);
	printf("]");
}

/**
 * endpoint() - A socket address
 * @address:	IPv4, host order
 * @port:	Host order
 *
 * Return: the sockaddr
 */
struct sockaddr_in endpoint(uint32_t address, uint16_t port)
{
	struct sockaddr_in where = { 0 };

	where.sin_family = AF_INET;
	where.sin_port = htons(port);
	where.sin_addr.s_addr = htonl(address);
	return where;
}

/**
 * bound() - A socket that is bound to a port on every address
 * @type:	SOCK_STREAM or SOCK_DGRAM
 * @port:	Host order
 *
 * Return: descriptor
 */
static int bound(int type, uint16_t port)
{
	struct sockaddr_in own = endpoint(INADDR_ANY, port);
	int descriptor = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;

	if (descriptor < 0)
		fail("socket");
	setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(descriptor, (struct sockaddr *)&own, sizeof(own)))
		fail("bind");
	return descriptor;
}

/**
 * tcp_socket() - A socket whose congestion control is CUBIC, whatever the machine prefers
 * @flags:	SOCK_NONBLOCK, or 0
 *
 * BBR paces: what a paced stream measures is timers.  A kernel without CUBIC keeps
 * its own.
 *
 * Return: descriptor
 */
int tcp_socket(int flags)
{
	int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (descriptor < 0)
		fail("socket");
	setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	return descriptor;
}

/**
 * listening() - A TCP socket that listens
 * @port:	Host order
 *
 * Return: descriptor
 */
int listening(uint16_t port)
{
	int descriptor = bound(SOCK_STREAM, port);

	/* The kernel caps it at net.core.somaxconn. */
	if (listen(descriptor, 65535))
		fail("listen");
	return descriptor;
}

/**
 * bound_udp() - A UDP socket with a large receive buffer
 * @port:	Host order
 *
 * Return: descriptor
 */
int bound_udp(uint16_t port)
{
	int descriptor = bound(SOCK_DGRAM, port), bytes = 64 << 20;

	setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	return descriptor;
}

/**
 * struct work - What a server's thread is to do
 * @worker:	Never returns
 * @descriptor:	Its argument
 */
struct work {
	void (*worker)(int);
	int descriptor;
};

/**
 * run_work() - A thread's start
 * @argument:	struct work, which it frees
 *
 * Return: never
 */
static void *run_work(void *argument)
{
	struct work work = *(struct work *)argument;

	free(argument);
	work.worker(work.descriptor);
	return NULL;
}

/**
 * start_worker() - Have a thread serve
 * @worker:	What serves, for ever
 * @descriptor:	Its argument
 */
void start_worker(void (*worker)(int), int descriptor)
{
	struct work *work = malloc(sizeof(*work));
	pthread_t thread;

	if (!work)
		fail("malloc");
	*work = (struct work){ worker, descriptor };
	if (pthread_create(&thread, NULL, run_work, work))
		fail("pthread_create");
	pthread_detach(thread);
}

/**
 * serve() - Say that the server is ready, and have a thread serve until SIGTERM or SIGINT
 * @worker:	What serves
 * @descriptor:	Its argument, a socket that is bound or listens already
 */
void serve(void (*worker)(int), int descriptor)
{
	int signal_number;
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	start_worker(worker, descriptor);
	printf("ready\n");
	fflush(stdout);
	sigwait(&ends, &signal_number);
}

/**
 * fnv1a() - FNV-1a, 64 bits, which every changed, lost or moved byte changes
 * @hash:	Hash of what came before, FNV_BASIS at first
 * @data:	Bytes
 * @len:	Number of them
 *
 * Return: hash with them
 */
uint64_t fnv1a(uint64_t hash, const uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ data[i]) * 0x100000001b3ULL;
	return hash;
}

/**
 * pattern() - Fill a buffer with what a seed says (splitmix64)
 * @seed:	State
 * @data:	Buffer
 * @len:	Its length
 *
 * Return: state to go on from
 */
uint64_t pattern(uint64_t seed, uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 8) {
		uint64_t word = (seed += 0x9e3779b97f4a7c15ULL);

		word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
		word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
		word ^= word >> 31;
		memcpy(data + i, &word, len - i < 8 ? len - i : 8);
	}
	return seed;
}
