/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams that leave together.
 *
 * Theory of Operation
 * ===================
 *
 * UDP_SEGMENT takes many datagrams in one sendmsg(): all of one size, but for the last,
 * which may be shorter.  So datagrams to one peer from one socket are gathered while
 * they are equal, and what is gathered goes when one comes that does not fit, and at
 * the end of the batch.  A flow always leaves from one socket (its hash picks it), so
 * gathering by socket keeps every flow in order while others interleave.
 */
#include "sends.h"

/**
 * flush() - Send what one of them has gathered
 * @all:		What is being gathered
 * @s:		One of them
 */
static void flush(struct sends *all, struct send *s)
{
	all->flush(all->context, s);
	s->segments = 0;
}

/**
 * find() - Where datagrams from a socket to a peer are gathered
 * @all:		What is being gathered
 * @peer:		Address
 * @sender:	Socket
 *
 * Return: the place, empty if there was none
 */
static struct send *find(struct sends *all, uint32_t peer, uint32_t sender)
{
	struct send *s;

	for (uint32_t i = 0; i < all->count; i++) {
		s = &all->open[i];
		if (s->peer == peer && s->sender == sender)
			return s;
	}
	if (all->count == MOST_SENDS)
		sends_flush(all);
	s = &all->open[all->count++];
	s->peer = peer;
	s->sender = sender;
	s->segments = 0;
	return s;
}

/**
 * sends_add() - Send a datagram, at the latest with sends_flush()
 * @all:	What is being gathered
 * @peer:	Address to send it to
 * @sender:	Socket to send it from
 * @parts:	Where it lies; not to be touched until it is sent
 * @count:	Number of @parts
 * @size:	Bytes of the datagram
 */
void sends_add(struct sends *all, uint32_t peer, uint32_t sender, const struct iovec *parts,
	       size_t count, uint32_t size)
{
	struct send *s = find(all, peer, sender);

	if (s->segments &&
	    (s->closed || size > s->size || s->segments >= all->most ||
	     s->bytes + size > MOST_BYTES || s->count + count > MOST_IOVECS))
		flush(all, s);
	if (!s->segments) {
		s->size = size;
		s->bytes = 0;
		s->count = 0;
	}
	s->closed = size < s->size;
	for (size_t i = 0; i < count; i++)
		s->iov[s->count++] = parts[i];
	s->segments++;
	s->bytes += size;
}

/**
 * sends_flush() - Send all that is left
 * @all:	What was gathered
 */
void sends_flush(struct sends *all)
{
	for (uint32_t i = 0; i < all->count; i++) {
		if (all->open[i].segments)
			flush(all, &all->open[i]);
	}
	all->count = 0;
}
