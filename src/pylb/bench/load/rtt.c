/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trips: one request at a time, every time kept, so that percentiles are exact.
 */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Round trips that are kept; a faster run stops there */
#define MOST (1 << 22)
/* Seconds after which a datagram is lost */
#define LOST_S 0.25
/* Part of the run that is warm-up and not counted */
#define WARM 0.15

/**
 * quick_ack() - Send no segment late
 * @descriptor:	TCP socket
 */
static void quick_ack(int descriptor)
{
	int on = 1;

	setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/**
 * echo_one() - Send back what comes over a connection
 * @argument:	Descriptor
 *
 * Return: NULL
 */
static void *echo_one(void *argument)
{
	int descriptor = (int)(intptr_t)argument;
	char buffer[2048];
	ssize_t got;

	quick_ack(descriptor);
	while ((got = recv(descriptor, buffer, sizeof(buffer), 0)) > 0)
		if (send(descriptor, buffer, (size_t)got, 0) != got)
			break;
	close(descriptor);
	return NULL;
}

/**
 * echo_all() - A thread for each connection
 * @listener:	Listening socket
 */
static void echo_all(int listener)
{
	pthread_t thread;
	int descriptor;

	for (;;) {
		descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (descriptor < 0)
			continue;
		if (pthread_create(&thread, NULL, echo_one, (void *)(intptr_t)descriptor))
			fail("pthread_create");
		pthread_detach(thread);
	}
}

/**
 * tcp_echo() - Serve echoes over TCP
 * @options:	port
 *
 * Return: exit status
 */
int tcp_echo(const struct options *options)
{
	serve(echo_all, listening(options->port));
	printf("{}\n");
	fflush(stdout);
	_exit(0);
}

/**
 * echo_datagrams() - Send back every datagram
 * @descriptor:	Bound socket
 */
static void echo_datagrams(int descriptor)
{
	struct sockaddr_in from;
	char buffer[2048];
	socklen_t len;
	ssize_t got;

	for (;;) {
		len = sizeof(from);
		got = recvfrom(descriptor, buffer, sizeof(buffer), 0, (struct sockaddr *)&from,
			       &len);
		if (got > 0)
			sendto(descriptor, buffer, (size_t)got, 0, (struct sockaddr *)&from, len);
	}
}

/**
 * udp_echo() - Serve echoes over UDP
 * @options:	port
 *
 * Return: exit status
 */
int udp_echo(const struct options *options)
{
	serve(echo_datagrams, bound_udp(options->port));
	printf("{}\n");
	fflush(stdout);
	_exit(0);
}

/**
 * by_value() - Order of two round trips, for qsort()
 * @a:	One
 * @b:	The other
 *
 * Return: as qsort() wants it
 */
static int by_value(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/**
 * exchange() - One round trip
 * @descriptor:	Connected socket
 * @buffer:	Request; its first eight bytes are its number
 * @size:	Its length
 * @stream:	TCP, whose answer may come in pieces
 *
 * Return: whether the answer to this request came
 */
static bool exchange(int descriptor, char *buffer, size_t size, bool stream)
{
	uint64_t sent, back;
	size_t have = 0;
	ssize_t got;

	memcpy(&sent, buffer, sizeof(sent));
	if (send(descriptor, buffer, size, 0) != (ssize_t)size)
		return false;
	while (have < size) {
		got = recv(descriptor, buffer + have, size - have, 0);
		if (got <= 0)
			return false;
		if (stream) {
			have += (size_t)got;
			continue;
		}
		/* The answer to one that was given up is not this one's. */
		memcpy(&back, buffer, sizeof(back));
		if (back == sent)
			return true;
	}
	return true;
}

/**
 * rtt() - Round trips for the time that the run has
 * @options:	address, port, seconds, size
 * @type:	SOCK_STREAM or SOCK_DGRAM
 *
 * Return: exit status
 */
static int rtt(const struct options *options, int type)
{
	struct sockaddr_in to = endpoint(options->address, options->port);
	struct timeval patience = { 0, (suseconds_t)(LOST_S * 1e6) };
	int descriptor = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	uint32_t *took = malloc(MOST * sizeof(*took));
	uint64_t start, begin, end, done, number = 0, lost = 0;
	bool stream = type == SOCK_STREAM;
	char buffer[2048] = { 0 };
	size_t count = 0;

	if (descriptor < 0 || !took)
		fail("socket");
	if (stream) {
		setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ .tv_sec = 3 },
			   sizeof(patience));
		patience.tv_sec = 3;
		quick_ack(descriptor);
	}
	setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(descriptor, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	start = now_ns();
	end = start + (uint64_t)(options->seconds * (double)NS_PER_S);
	begin = start + (uint64_t)(WARM * options->seconds * (double)NS_PER_S);
	do {
		number++;
		memcpy(buffer, &number, sizeof(number));
		start = now_ns();
		if (exchange(descriptor, buffer, options->size, stream)) {
			done = now_ns();
			if (done >= begin)
				took[count++] = (uint32_t)(done - start);
		} else if (stream) {
			errno = errno ? errno : ECONNRESET;
			fail("round trip");
		} else {
			lost++;
			done = now_ns();
		}
	} while (done < end && count < MOST);
	qsort(took, count, sizeof(*took), by_value);
	printf("{\"count\": %zu, \"lost\": %llu", count, (unsigned long long)lost);
	if (count)
		printf(", \"p50\": %u, \"p90\": %u, \"p99\": %u, \"min\": %u, \"max\": %u",
		       took[count / 2], took[count * 9 / 10], took[count * 99 / 100], took[0],
		       took[count - 1]);
	printf("}\n");
	free(took);
	close(descriptor);
	return 0;
}

/**
 * tcp_rtt() - Round trips over one TCP connection
 * @options:	address, port, seconds, size
 *
 * Return: exit status
 */
int tcp_rtt(const struct options *options)
{
	return rtt(options, SOCK_STREAM);
}

/**
 * udp_rtt() - Round trips of datagrams
 * @options:	address, port, seconds, size
 *
 * Return: exit status
 */
int udp_rtt(const struct options *options)
{
	return rtt(options, SOCK_DGRAM);
}
