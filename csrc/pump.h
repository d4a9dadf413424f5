/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_PUMP_H
#define PYLB_PUMP_H

#include <sys/types.h>

#include "dataplane.h"
#include "gro.h"
#include "offload.h"
#include "sends.h"

#define LONE_APART	10000ull	/* nanoseconds: packets further apart come alone */
#define TUN_PACKETS	256		/* of one batch, at most */
#define TUN_BYTES	(64u << 10)	/* after which a batch ends, less one packet */
#define TUN_BUFFER	(TUN_BYTES + HEADROOM + VIRTIO_HEADER + IP_MAX + 64)
#define DATAGRAMS	16		/* received in one call, each up to 64 segments */
#define DATAGRAM_BUFFER	(HEADROOM + 65536)
#define HEADER_BUFFER	(256u << 10)	/* headers of segments that are to be sent */
#define ERRNOS		160

/**
 * struct pylb_pump - A pump
 * @dp:		Dataplane; its lock guards everything here
 * @epoll:	What the loop sleeps on
 * @stop:	eventfd that ends the loop
 * @notify:	The owner's eventfd: there are events
 * @tun:	TUN, -1: none
 * @last_read:	When the TUN was last read, nanoseconds
 * @lone:	There was one packet then: the next, too, is read without asking for more
 * @resting:	The TUN failed and is left alone until the next tick
 * @receiver:	Socket of the overlay, -1: none
 * @senders:	Sockets that the overlay is sent from
 * @n_senders:	Their number
 * @port:	Where peers receive, host order
 * @offloads:	What the descriptors can
 * @moved:	By enum pylb_moved
 * @refused:	The same, and errno
 * @sends:	What is being gathered for the overlay
 * @gro:	The batch
 * @tun_buffer:	Packets read from the TUN
 * @datagrams:	Datagrams received
 * @headers:	Headers of segments
 * @used:	Bytes of @headers in use
 */
struct pylb_pump {
	struct pylb_dataplane *dp;
	int epoll, stop, notify;
	int tun;
	uint64_t last_read;
	bool lone, resting;
	int receiver;
	int senders[MOST_SENDS];
	size_t n_senders;
	uint16_t port;
	struct pylb_offloads offloads;
	uint64_t moved[4];
	uint64_t refused[4][ERRNOS];
	struct sends sends;
	struct gro gro;
	uint8_t tun_buffer[TUN_BUFFER];
	uint8_t datagrams[DATAGRAMS][DATAGRAM_BUFFER];
	uint8_t headers[HEADER_BUFFER];
	size_t used;
};

void count_moved(struct pylb_pump *pump, enum pylb_moved what, uint32_t packets, ssize_t done);
void transmit(struct pylb_pump *pump);
void transmit_send(void *pump, struct send *s);

#endif
