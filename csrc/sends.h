/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_SENDS_H
#define PYLB_SENDS_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "packet.h"

#define MOST_SENDS	32	/* runs that are being put together at a time */
#define MOST_SEGMENTS	64	/* datagrams in one send (UDP_MAX_SEGMENTS of older kernels) */
#define MOST_BYTES	65507	/* of one send */
#define MOST_IOVECS	192	/* buffers of one send */

/**
 * struct send - Datagrams of equal size from one socket to one peer
 * @peer:	Its address
 * @sender:	Which of the sockets
 * @size:	Bytes of each but the last
 * @segments:	How many
 * @bytes:	Of all
 * @closed:	The last one was shorter: nothing may follow
 * @count:	How many of @iov there are
 * @iov:	Where they lie
 */
struct send {
	uint32_t peer, sender;
	uint32_t size, segments, bytes;
	bool closed;
	size_t count;
	struct iovec iov[MOST_IOVECS];
};

/**
 * struct sends - What a batch is to send to the overlay
 * @most:	Datagrams that may go into one send: 1 without UDP_SEGMENT
 * @count:	How many of @open there are
 * @open:	Oldest first
 * @flush:	Sends one, and forgets it
 * @context:	For @flush
 */
struct sends {
	uint32_t most;
	uint32_t count;
	struct send open[MOST_SENDS];
	void (*flush)(void *context, struct send *s);
	void *context;
};

void sends_add(struct sends *all, uint32_t peer, uint32_t sender, const struct iovec *parts,
	       size_t count, uint32_t size);
void sends_flush(struct sends *all);

#endif
