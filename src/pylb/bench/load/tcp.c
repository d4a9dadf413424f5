/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP: bulk transfer over one or several connections, and a storm of short ones.
 *
 * Bulk data is read into a buffer and not skipped with MSG_TRUNC: a receiver that
 * never looks at its data is no load that anybody has.
 *
 * In the storm the server closes each connection as soon as it has accepted it, so
 * that TIME_WAIT is the server's and the client never runs out of ports.
 */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections of the storm that are under way at a time */
#define PARALLEL 64

static struct slots counted;

/**
 * drain() - Read a connection to its end and count its bytes
 * @argument:	Descriptor
 *
 * Return: NULL
 */
static void *drain(void *argument)
{
	int descriptor = (int)(intptr_t)argument;
	char *buffer = malloc(BULK);
	ssize_t got;

	if (!buffer)
		fail("malloc");
	while ((got = recv(descriptor, buffer, BULK, 0)) > 0)
		slots_add(&counted, now_ns(), (uint64_t)got);
	free(buffer);
	close(descriptor);
	return NULL;
}

/**
 * drain_all() - A thread for each connection that comes
 * @listener:	Listening socket
 */
static void drain_all(int listener)
{
	pthread_t thread;
	int descriptor;

	for (;;) {
		descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (descriptor < 0)
			continue;
		if (pthread_create(&thread, NULL, drain, (void *)(intptr_t)descriptor))
			fail("pthread_create");
		pthread_detach(thread);
	}
}

/**
 * print_counted() - The result of a server that counts
 *
 * Return: exit status
 */
static int print_counted(void)
{
	printf("{");
	slots_print(&counted);
	printf("}\n");
	fflush(stdout);
	/* Not exit(): threads still run. */
	_exit(0);
}

/**
 * tcp_sink() - Receive and count bytes
 * @options:	port
 *
 * Return: exit status
 */
int tcp_sink(const struct options *options)
{
	serve(drain_all, listening(options->port));
	return print_counted();
}

/**
 * struct stream - One connection of tcp_send()
 * @options:	Of the run
 * @sent:	Bytes that were sent
 * @error:	errno of a failed connect(), 0 for none
 */
struct stream {
	const struct options *options;
	uint64_t sent;
	int error;
};

/**
 * send_stream() - Send for the time that the run has
 * @argument:	struct stream
 *
 * Return: NULL
 */
static void *send_stream(void *argument)
{
	struct stream *stream = argument;
	const struct options *options = stream->options;
	struct sockaddr_in to = endpoint(options->address, options->port);
	/* A sender that the receiver's window has blocked sees the end all the same. */
	struct timeval patience = { .tv_sec = 0, .tv_usec = 100000 };
	int descriptor = tcp_socket(0);
	char *buffer = calloc(1, BULK);
	uint64_t end;
	ssize_t put;

	if (!buffer)
		fail("calloc");
	setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ .tv_sec = 3 },
		   sizeof(patience));
	if (connect(descriptor, (struct sockaddr *)&to, sizeof(to))) {
		stream->error = errno;
	} else {
		setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		end = now_ns() + (uint64_t)(options->seconds * (double)NS_PER_S);
		while (now_ns() < end) {
			put = send(descriptor, buffer, BULK, 0);
			if (put > 0)
				stream->sent += (uint64_t)put;
			else if (errno != EAGAIN && errno != EINTR)
				break;
		}
	}
	/* What is still queued must not run on into the next measurement. */
	setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
		   sizeof(struct linger));
	close(descriptor);
	free(buffer);
	return NULL;
}

/**
 * tcp_send() - Send as fast as it goes
 * @options:	address, port, seconds, streams
 *
 * Return: exit status
 */
int tcp_send(const struct options *options)
{
	struct stream *streams = calloc(options->streams, sizeof(*streams));
	pthread_t *threads = calloc(options->streams, sizeof(*threads));
	uint64_t sent = 0;
	unsigned int i;

	if (!streams || !threads)
		fail("calloc");
	for (i = 0; i < options->streams; i++) {
		streams[i].options = options;
		if (pthread_create(&threads[i], NULL, send_stream, &streams[i]))
			fail("pthread_create");
	}
	for (i = 0; i < options->streams; i++) {
		pthread_join(threads[i], NULL);
		sent += streams[i].sent;
		if (streams[i].error) {
			errno = streams[i].error;
			fail("connect");
		}
	}
	printf("{\"sent\": %llu}\n", (unsigned long long)sent);
	free(streams);
	free(threads);
	return 0;
}

/**
 * accept_all() - Accept, count and close
 * @listener:	Listening socket
 */
static void accept_all(int listener)
{
	int descriptor;

	for (;;) {
		descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (descriptor < 0)
			continue;
		slots_add(&counted, now_ns(), 1);
		close(descriptor);
	}
}

/**
 * tcp_accept() - The server of the storm
 * @options:	port, ports
 *
 * Return: exit status
 */
int tcp_accept(const struct options *options)
{
	sigset_t ends;
	unsigned int i;

	/* They inherit what is blocked here: SIGTERM is serve()'s to wait for. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	for (i = 1; i < options->ports; i++)
		start_worker(accept_all, listening((uint16_t)(options->port + i)));
	serve(accept_all, listening(options->port));
	return print_counted();
}

/**
 * struct storm - A run of tcp_connect()
 * @options:	Of the run
 * @epoll:	Descriptor
 * @turn:	Which destination, address and port, is next
 * @open:	Connections under way
 * @failed:	Connections that failed
 * @error:	errno of the last that did
 */
struct storm {
	const struct options *options;
	int epoll;
	unsigned int turn;
	unsigned int open;
	uint64_t failed;
	int error;
};

/**
 * storm_open() - Begin one more connection
 * @storm:	The run
 */
static void storm_open(struct storm *storm)
{
	const struct options *options = storm->options;
	uint32_t address = options->address + storm->turn % options->addresses;
	uint16_t port = (uint16_t)(options->port + storm->turn / options->addresses);
	struct sockaddr_in to = endpoint(address, port);
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };
	int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		fail("socket");
	storm->turn = (storm->turn + 1) % (options->addresses * options->ports);
	if (connect(descriptor, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
		storm->failed++;
		storm->error = errno;
		close(descriptor);
		return;
	}
	event.data.fd = descriptor;
	if (epoll_ctl(storm->epoll, EPOLL_CTL_ADD, descriptor, &event))
		fail("epoll_ctl");
	storm->open++;
}

/**
 * storm_close() - End a connection on which something has come
 * @storm:	The run
 * @descriptor:	Socket
 */
static void storm_close(struct storm *storm, int descriptor)
{
	char byte;

	/* Its end is what a connection that was accepted gets. */
	if (recv(descriptor, &byte, 1, 0) == 0) {
		slots_add(&counted, now_ns(), 1);
	} else {
		storm->failed++;
		storm->error = errno;
	}
	close(descriptor);
	storm->open--;
}

/**
 * tcp_connect() - The client of the storm
 * @options:	address, addresses, port, ports, seconds
 *
 * Return: exit status
 */
int tcp_connect(const struct options *options)
{
	struct storm storm = { .options = options, .epoll = epoll_create1(EPOLL_CLOEXEC) };
	struct epoll_event events[PARALLEL];
	uint64_t end = now_ns() + (uint64_t)(options->seconds * (double)NS_PER_S);
	int got, i, tries;

	if (storm.epoll < 0)
		fail("epoll_create1");
	while (now_ns() < end) {
		for (tries = 0; storm.open < PARALLEL && tries < PARALLEL; tries++)
			storm_open(&storm);
		got = epoll_wait(storm.epoll, events, PARALLEL, 10);
		for (i = 0; i < got; i++)
			storm_close(&storm, events[i].data.fd);
	}
	printf("{");
	slots_print(&counted);
	printf(", \"failed\": %llu, \"error\": \"%s\"}\n", (unsigned long long)storm.failed,
	       storm.error ? strerror(storm.error) : "");
	return 0;
}
