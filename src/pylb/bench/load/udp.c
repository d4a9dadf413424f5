/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams: a sender that is not the bottleneck, and a receiver that counts.
 *
 * One flow is sent with UDP_SEGMENT, SEGMENTS datagrams a message, which are cut
 * before they leave the sender (offload.c); many flows by flows.c.
 *
 * A datagram begins with its sequence number, 64 bits in host order.  With
 * --check the rest follows from that number.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define BATCH 64
/*
 * How often the receiver looks.  It never waits in the socket: waking it for each
 * datagram would cost the sender, in whose context a veth delivers, several times
 * what the datagram itself costs.  Its buffer holds what comes meanwhile.
 */
#define LOOK_NS (NS_PER_S / 2000)
/* Longest datagram that coalescing may give, and room for its control message */
#define LONGEST 65536

static struct slots counted;
static uint64_t corrupt;
static bool checked;

/**
 * verify() - Hold a datagram to its sequence number
 * @data:	Payload
 * @len:	Its length
 */
static void verify(const uint8_t *data, size_t len)
{
	uint8_t expected[LONGEST];
	uint64_t sequence;

	if (len < sizeof(sequence)) {
		corrupt++;
		return;
	}
	memcpy(&sequence, data, sizeof(sequence));
	pattern(sequence, expected, len - sizeof(sequence));
	if (memcmp(data + sizeof(sequence), expected, len - sizeof(sequence)))
		corrupt++;
}

/**
 * segment_size() - Length of the datagrams that the kernel has coalesced
 * @header:	Message with its control data
 * @len:	Length of all
 *
 * Return: length of each but the last, @len when it is one
 */
static size_t segment_size(struct msghdr *header, size_t len)
{
	struct cmsghdr *control;
	int size;

	for (control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
		if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
			memcpy(&size, CMSG_DATA(control), sizeof(size));
			return size > 0 ? (size_t)size : len;
		}
	return len;
}

/**
 * receive_all() - Receive and count datagrams
 * @descriptor:	Bound socket
 */
static void receive_all(int descriptor)
{
	uint8_t *data = malloc((size_t)BATCH * LONGEST);
	char (*control)[CMSG_SPACE(sizeof(int))] = calloc(BATCH, sizeof(*control));
	struct mmsghdr *messages = calloc(BATCH, sizeof(*messages));
	struct iovec parts[BATCH];
	uint64_t datagrams;
	int got, i;

	if (!data || !control || !messages)
		fail("malloc");
	for (i = 0; i < BATCH; i++)
		parts[i] = (struct iovec){ data + (size_t)i * LONGEST, LONGEST };
	for (;;) {
		for (i = 0; i < BATCH; i++)
			messages[i].msg_hdr = (struct msghdr){
				.msg_iov = &parts[i],
				.msg_iovlen = 1,
				.msg_control = control[i],
				.msg_controllen = sizeof(control[i]),
			};
		got = recvmmsg(descriptor, messages, BATCH, MSG_DONTWAIT, NULL);
		if (got <= 0)
			sleep_until(now_ns() + LOOK_NS);
		datagrams = 0;
		for (i = 0; i < got; i++) {
			size_t len = messages[i].msg_len, at, each;

			each = segment_size(&messages[i].msg_hdr, len);
			datagrams += each ? (len + each - 1) / each : 1;
			for (at = 0; checked && at < len; at += each)
				verify((uint8_t *)parts[i].iov_base + at,
				       len - at < each ? len - at : each);
		}
		if (datagrams)
			slots_add(&counted, now_ns(), datagrams);
	}
}

/**
 * udp_sink() - Receive and count datagrams
 * @options:	port, check
 *
 * Return: exit status
 */
int udp_sink(const struct options *options)
{
	int descriptor = bound_udp(options->port), on = 1;

	checked = options->check;
	setsockopt(descriptor, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
	serve(receive_all, descriptor);
	printf("{");
	slots_print(&counted);
	printf(", \"corrupt\": %llu}\n", (unsigned long long)corrupt);
	fflush(stdout);
	_exit(0);
}

/**
 * struct sender - One run of udp_send()
 * @options:	Of the run
 * @descriptor:	Socket
 * @sequence:	Number of the next datagram
 * @refused:	Datagrams that the kernel did not take
 * @flows:	Many flows, or NULL
 */
struct sender {
	const struct options *options;
	int descriptor;
	uint64_t sequence;
	uint64_t refused;
	struct flows *flows;
};

/**
 * send_one_flow() - Send some datagrams of one flow in one message
 * @sender:	Run
 * @count:	How many at most
 *
 * Return: how many were tried
 */
static uint64_t send_one_flow(struct sender *sender, uint64_t count)
{
	size_t size = sender->options->size, n = count < SEGMENTS ? count : SEGMENTS, i;
	static uint8_t data[SEGMENTS * 1400];

	if (n * size > 65507)
		n = 65507 / size;
	for (i = 0; i < n; i++) {
		uint64_t sequence = sender->sequence + i;

		memcpy(data + i * size, &sequence, sizeof(sequence));
		if (sender->options->check)
			pattern(sequence, data + i * size + sizeof(sequence),
				size - sizeof(sequence));
	}
	sender->sequence += n;
	if (send(sender->descriptor, data, n * size, 0) < 0)
		sender->refused += n;
	return n;
}

/**
 * udp_send() - Send datagrams
 * @options:	address, port, seconds, flows, rate, size, check
 *
 * Return: exit status
 */
int udp_send(const struct options *options)
{
	struct sockaddr_in to = endpoint(options->address, options->port);
	bool cut = true;
	struct sender sender = { .options = options };
	int size = (int)options->size, bytes = 16 << 20;
	uint64_t start, end, now = 0, tried = 0, due;

	if (options->flows > 1) {
		sender.flows = flows_make(options);
		sender.descriptor = flows_socket();
	} else {
		cut = segment_in_software(DEVICE);
		sender.descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (connect(sender.descriptor, (struct sockaddr *)&to, sizeof(to)))
			fail("connect");
		if (setsockopt(sender.descriptor, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)))
			fail("UDP_SEGMENT");
	}
	setsockopt(sender.descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	start = now_ns();
	end = start + (uint64_t)(options->seconds * (double)NS_PER_S);
	while ((now = now_ns()) < end) {
		due = UINT64_MAX;
		if (options->rate > 0) {
			due = (uint64_t)(options->rate * (double)(now - start) / (double)NS_PER_S);
			due = due > tried ? due - tried : 0;
		}
		if (!due)
			sleep_until(now + NS_PER_S / 2000);
		else if (sender.flows)
			tried += flows_send(sender.flows, sender.descriptor, due, &sender.refused);
		else
			tried += send_one_flow(&sender, due);
	}
	printf("{\"sent\": %llu, \"refused\": %llu, \"seconds\": %.6f, \"cut\": %s}\n",
	       (unsigned long long)(tried - sender.refused), (unsigned long long)sender.refused,
	       (double)(now - start) / (double)NS_PER_S, cut ? "true" : "false");
	free(sender.flows);
	return 0;
}
