/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is what arrives what was sent?  A stream of pseudo-random bytes over TCP.
 *
 * The sender hashes what it sends, closes its half, and gets back the hash and the
 * length of what the receiver has read.
 */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/**
 * struct answer - What the receiver has read; both ends are on one machine
 * @hash:	fnv1a() of it
 * @bytes:	Its length
 */
struct answer {
	uint64_t hash;
	uint64_t bytes;
};

/**
 * hash_one() - Read a connection to its end and answer
 * @argument:	Descriptor
 *
 * Return: NULL
 */
static void *hash_one(void *argument)
{
	int descriptor = (int)(intptr_t)argument;
	struct answer answer = { FNV_BASIS, 0 };
	uint8_t *buffer = malloc(BULK);
	ssize_t got;

	if (!buffer)
		fail("malloc");
	while ((got = recv(descriptor, buffer, BULK, 0)) > 0) {
		answer.hash = fnv1a(answer.hash, buffer, (size_t)got);
		answer.bytes += (uint64_t)got;
	}
	send(descriptor, &answer, sizeof(answer), 0);
	close(descriptor);
	free(buffer);
	return NULL;
}

/**
 * hash_all() - A thread for each connection
 * @listener:	Listening socket
 */
static void hash_all(int listener)
{
	pthread_t thread;
	int descriptor;

	for (;;) {
		descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (descriptor < 0)
			continue;
		if (pthread_create(&thread, NULL, hash_one, (void *)(intptr_t)descriptor))
			fail("pthread_create");
		pthread_detach(thread);
	}
}

/**
 * hash_sink() - Receive, hash and answer
 * @options:	port
 *
 * Return: exit status
 */
int hash_sink(const struct options *options)
{
	serve(hash_all, listening(options->port));
	printf("{}\n");
	fflush(stdout);
	_exit(0);
}

/**
 * send_all() - send() until everything is sent
 * @descriptor:	Socket
 * @data:	Bytes
 * @len:	Number of them
 */
static void send_all(int descriptor, const uint8_t *data, size_t len)
{
	ssize_t put;

	for (; len; data += put, len -= (size_t)put) {
		put = send(descriptor, data, len, 0);
		if (put <= 0)
			fail("send");
	}
}

/**
 * hash_send() - Send pieces of changing length, and compare the hashes
 * @options:	address, port, seconds
 *
 * Return: exit status
 */
int hash_send(const struct options *options)
{
	struct sockaddr_in to = endpoint(options->address, options->port);
	int descriptor = tcp_socket(0);
	uint64_t seed = now_ns(), end, hash = FNV_BASIS, bytes = 0;
	struct timeval patience = { .tv_sec = 10 };
	uint8_t *buffer = malloc(BULK);
	struct answer answer = { 0 };
	size_t len, have;
	ssize_t got;

	if (!buffer)
		fail("malloc");
	setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(descriptor, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	end = now_ns() + (uint64_t)(options->seconds * (double)NS_PER_S);
	do {
		/* Odd lengths too, so that segments begin and end anywhere. */
		len = 1 + (size_t)(seed % BULK);
		seed = pattern(seed, buffer, len);
		hash = fnv1a(hash, buffer, len);
		send_all(descriptor, buffer, len);
		bytes += len;
	} while (now_ns() < end);
	shutdown(descriptor, SHUT_WR);
	for (have = 0; have < sizeof(answer); have += (size_t)got) {
		got = recv(descriptor, (char *)&answer + have, sizeof(answer) - have, 0);
		if (got == 0)
			errno = ECONNRESET;
		if (got <= 0)
			fail("answer");
	}
	printf("{\"bytes\": %llu, \"received\": %llu, \"match\": %s}\n", (unsigned long long)bytes,
	       (unsigned long long)answer.bytes,
	       answer.bytes == bytes && answer.hash == hash ? "true" : "false");
	close(descriptor);
	free(buffer);
	return 0;
}
