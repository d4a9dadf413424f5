/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting fragments together before translation, and apart again behind it.
 *
 * Theory of Operation
 * ===================
 *
 * Ports are only in the first fragment, so conntrack needs the whole datagram, as in
 * Linux (nf_defrag_ipv4.c).  A datagram's fragments wait in a queue, found by
 * (source, destination, protocol, identification).  Overlaps are refused whole (RFC
 * 5722's rule, applied to IPv4 as Linux does); an exact duplicate is ignored.
 *
 *	queue ► first ► next ► next ...		in order of arrival, for reports
 *	      └ sorted[]			the same by offset, for everything else
 *
 * Fragments of one queue never overlap, so what a new one clashes with can only be its
 * neighbour: a binary search finds it, however small an attacker cuts a datagram.
 *
 * Memory is bounded: MAX_QUEUES datagrams, MAX_PAYLOAD bytes of what they carry, and
 * MAX_KEPT bytes of packets as they came in, which only packets that are mostly padding
 * reach.  Each waits 30 s (Linux' ipfrag_time).  What came in is kept because a packet
 * that is dropped is reported as it was.
 *
 * This is the one place of the packet path that allocates.  Without memory a fragment
 * is dropped like one too many.
 */
#include "fragments.h"

#include <stdlib.h>

#define TIMEOUT		(30 * 1000000000ull)	/* nanoseconds */
#define MAX_QUEUES	1024
#define MAX_PAYLOAD	(4u << 20)		/* bytes */
#define MAX_KEPT	(64u << 20)		/* bytes */
#define BUCKETS		1024			/* a power of two */
#define HEADER_MAX	60			/* bytes of an IP header with options */
#define HEADROOM	64			/* bytes before a packet that others may use */
#define UNKNOWN		UINT32_MAX		/* no length yet */

/**
 * struct part - A fragment that waits
 * @next:	The one that came after it
 * @origin:	As it came in; its data are @bytes
 * @payload:	What it carries, somewhere in @bytes
 * @offset:	Where that belongs in the datagram's payload
 * @len:	Bytes of it
 * @bytes:	The packet, and the payload once more unless it lies there
 */
struct part {
	struct part *next;
	struct pylb_packet origin;
	const uint8_t *payload;
	uint32_t offset, len;
	uint8_t bytes[];
};

/**
 * struct queue - A datagram whose fragments wait
 * @deadline:	When it is given up, nanoseconds
 * @src:	Key: source address
 * @dst:	Key: destination address
 * @ident:	Key: identification
 * @protocol:	Key: IANA number
 * @first_len:	Bytes of @first, 0: the first fragment is not there yet
 * @total:	Bytes of the whole payload, or UNKNOWN
 * @size:	Bytes of payload that are there
 * @largest:	Bytes of the largest fragment, header included
 * @count:	Fragments
 * @room:	How many @sorted has room for
 * @sorted:	Fragments by offset
 * @head:	The fragment that came first
 * @tail:	The one that came last
 * @chain:	Next queue in the same bucket, or in the list of free ones
 * @older:	The queue made before this one
 * @newer:	The queue made after it
 * @first:	Header of the first fragment
 */
struct queue {
	uint64_t deadline;
	uint32_t src, dst;
	uint16_t ident;
	uint8_t protocol;
	uint8_t first_len;
	uint32_t total, size, largest;
	uint32_t count, room;
	struct part **sorted;
	struct part *head, *tail;
	struct queue *chain, *older, *newer;
	uint8_t first[HEADER_MAX];
};

/**
 * struct reassembler - All datagrams whose fragments wait
 * @payload:	Bytes of payload that wait
 * @kept:	Bytes of packets that wait, as they came in
 * @soonest:	No queue has a deadline before this one, nanoseconds
 * @oldest:	The queue that was made first
 * @newest:	The one that was made last
 * @free:	Queues that are not in use
 * @buckets:	Hash table
 * @queues:	All of them
 * @buffer:	The last datagram that became whole, HEADROOM before it
 */
struct reassembler {
	uint32_t payload, kept;
	uint64_t soonest;
	struct queue *oldest, *newest, *free;
	struct queue *buckets[BUCKETS];
	struct queue queues[MAX_QUEUES];
	uint8_t buffer[HEADROOM + IP_MAX];
};

/**
 * reassembler_new() - Make a reassembler
 *
 * Return: an empty one, NULL if there is no memory
 */
struct reassembler *reassembler_new(void)
{
	struct reassembler *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	for (uint32_t i = 0; i < MAX_QUEUES; i++) {
		r->queues[i].chain = r->free;
		r->free = &r->queues[i];
	}
	r->soonest = UINT64_MAX;
	return r;
}

/**
 * bucket_of() - Where a datagram's queue is found
 * @r:		Reassembler
 * @t:		Its fragment's addresses and protocol
 * @ident:	Identification
 *
 * Where the reassembler lies in memory is what senders cannot know: whoever aims at one
 * bucket misses.
 *
 * Return: the bucket
 */
static struct queue **bucket_of(struct reassembler *r, const struct tuple *t, uint16_t ident)
{
	uint64_t x = ((uint64_t)t->src << 32 | t->dst) ^ (uintptr_t)r;

	x = (x ^ x >> 32) * 0x9e3779b97f4a7c15;
	x = (x ^ x >> 29 ^ ((uint64_t)ident << 8 | t->protocol)) * 0xbf58476d1ce4e5b9;
	return &r->buckets[x >> 32 & (BUCKETS - 1)];
}

/**
 * find() - The queue of a datagram
 * @r:		Reassembler
 * @t:		Its fragment's addresses and protocol
 * @ident:	Identification
 *
 * Return: the queue, NULL if nothing of it waits
 */
static struct queue *find(struct reassembler *r, const struct tuple *t, uint16_t ident)
{
	struct queue *q = *bucket_of(r, t, ident);

	while (q && (q->src != t->src || q->dst != t->dst || q->protocol != t->protocol ||
		     q->ident != ident))
		q = q->chain;
	return q;
}

/**
 * open_queue() - Begin to collect a datagram
 * @r:		Reassembler with a free queue
 * @t:		Its fragment's addresses and protocol
 * @ident:	Identification
 * @now:	Nanoseconds
 *
 * Return: the queue
 */
static struct queue *open_queue(struct reassembler *r, const struct tuple *t, uint16_t ident,
				uint64_t now)
{
	struct queue **bucket = bucket_of(r, t, ident);
	struct queue *q = r->free;

	r->free = q->chain;
	*q = (struct queue){
		.deadline = now + TIMEOUT,
		.src = t->src,
		.dst = t->dst,
		.ident = ident,
		.protocol = t->protocol,
		.total = UNKNOWN,
		.chain = *bucket,
		.older = r->newest,
	};
	*bucket = q;
	*(r->newest ? &r->newest->newer : &r->oldest) = q;
	r->newest = q;
	if (q->deadline < r->soonest)
		r->soonest = q->deadline;
	return q;
}

/**
 * close_queue() - Forget a datagram
 * @r:		Reassembler
 * @q:		Its queue
 *
 * Return: its fragments in order of arrival, for drop_parts()
 */
static struct part *close_queue(struct reassembler *r, struct queue *q)
{
	struct tuple t = { .src = q->src, .dst = q->dst, .protocol = q->protocol };
	struct queue **link = bucket_of(r, &t, q->ident);

	while (*link != q)
		link = &(*link)->chain;
	*link = q->chain;
	*(q->older ? &q->older->newer : &r->oldest) = q->newer;
	*(q->newer ? &q->newer->older : &r->newest) = q->older;
	free(q->sorted);
	r->payload -= q->size;
	q->chain = r->free;
	r->free = q;
	return q->head;
}

/**
 * drop_parts() - Let go of fragments
 * @r:		Reassembler
 * @part:	The first of them
 * @last:	One that is not reported, or NULL
 * @lost:	Called for each other one, or NULL
 * @context:	For @lost
 * @reason:	enum pylb_drop
 */
static void drop_parts(struct reassembler *r, struct part *part, const struct part *last,
		       lost_fn lost, void *context, int reason)
{
	while (part) {
		struct part *next = part->next;

		if (lost && part != last)
			lost(context, reason, &part->origin);
		r->kept -= part->origin.len;
		free(part);
		part = next;
	}
}

/**
 * reassembler_free() - Free a reassembler and what waits in it
 * @r:	Reassembler
 */
void reassembler_free(struct reassembler *r)
{
	while (r->oldest)
		drop_parts(r, close_queue(r, r->oldest), NULL, NULL, NULL, 0);
	free(r);
}

/**
 * position_of() - Where a fragment belongs among those that are there
 * @q:		Queue
 * @offset:	Its offset
 *
 * Return: how many have a smaller offset
 */
static uint32_t position_of(const struct queue *q, uint32_t offset)
{
	uint32_t low = 0, high = q->count;

	if (q->count && q->sorted[q->count - 1]->offset < offset)
		return q->count;
	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (q->sorted[middle]->offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/**
 * make_part() - Copy a fragment
 * @p:		The fragment
 * @origin:	As it came in
 *
 * Return: the copy, NULL if there is no memory
 */
static struct part *make_part(const struct packet *p, const struct pylb_packet *origin)
{
	const uint8_t *payload = p->data + p->l4;
	uint32_t len = p->len - p->l4;
	uintptr_t at = (uintptr_t)payload - (uintptr_t)origin->data;
	bool inside = at <= origin->len && len <= origin->len - at;
	struct part *part = malloc(sizeof(*part) + origin->len + (inside ? 0 : len));

	if (!part)
		return NULL;
	memcpy(part->bytes, origin->data, origin->len);
	if (!inside) {
		at = origin->len;
		memcpy(part->bytes + at, payload, len);
	}
	part->next = NULL;
	part->origin = *origin;
	part->origin.data = part->bytes;
	part->payload = part->bytes + at;
	part->offset = (p->fragment & IP_OFFSET_MASK) * 8u;
	part->len = len;
	return part;
}

/**
 * insert() - Let a fragment wait
 * @r:		Reassembler
 * @q:		Its queue
 * @at:		From position_of()
 * @p:		The fragment
 * @origin:	As it came in
 *
 * Return: false if there is no room
 */
static bool insert(struct reassembler *r, struct queue *q, uint32_t at, const struct packet *p,
		   const struct pylb_packet *origin)
{
	struct part *part;

	if (r->payload + (p->len - p->l4) > MAX_PAYLOAD || origin->len > MAX_KEPT - r->kept)
		return false;
	if (q->count == q->room) {
		uint32_t room = q->room ? 2 * q->room : 4;
		struct part **sorted = realloc(q->sorted, room * sizeof(*sorted));

		if (!sorted)
			return false;
		q->sorted = sorted;
		q->room = room;
	}
	part = make_part(p, origin);
	if (!part)
		return false;
	memmove(&q->sorted[at + 1], &q->sorted[at], (q->count - at) * sizeof(*q->sorted));
	q->sorted[at] = part;
	q->count++;
	*(q->tail ? &q->tail->next : &q->head) = part;
	q->tail = part;
	q->size += part->len;
	r->payload += part->len;
	r->kept += origin->len;
	if (p->len > q->largest)
		q->largest = p->len;
	if (!part->offset) {
		memcpy(q->first, p->data, p->l4);
		q->first_len = (uint8_t)p->l4;
	}
	if (!(p->fragment & IP_MORE_FRAGMENTS))
		q->total = part->offset + part->len;
	return true;
}

/**
 * fits() - Can a fragment be part of the datagram, as far as that is known?
 * @q:		Queue
 * @at:		From position_of()
 * @offset:	Of the fragment
 * @end:	Where it ends
 * @more:	It is not the last one
 *
 * Return: false if it overlaps another, or lies behind the end, or ends before others do
 */
static bool fits(const struct queue *q, uint32_t at, uint32_t offset, uint32_t end, bool more)
{
	const struct part *before = at ? q->sorted[at - 1] : NULL;
	const struct part *behind = at < q->count ? q->sorted[at] : NULL;

	if (before && before->offset + before->len > offset)
		return false;
	if (behind && (behind->offset < end || !more))
		return false;
	return q->total == UNKNOWN || (more ? end <= q->total : end == q->total);
}

/**
 * join() - Put a datagram together
 * @r:		Reassembler; the datagram lies in its buffer
 * @q:		Queue with all of its fragments
 * @whole:	Out: the packet
 *
 * Return: PACKET_OK, or the enum pylb_drop that tells what is wrong with it
 */
static int join(struct reassembler *r, const struct queue *q, struct packet *whole)
{
	uint8_t *header = r->buffer + HEADROOM, *payload = header + q->first_len;
	uint32_t len = q->first_len + q->total;

	/* Each fragment's own header fitted; the first one's may be longer. */
	if (len > IP_MAX)
		return PYLB_DROP_BAD_FRAGMENT;
	memcpy(header, q->first, q->first_len);
	for (uint32_t i = 0; i < q->count; i++)
		memcpy(payload + q->sorted[i]->offset, q->sorted[i]->payload, q->sorted[i]->len);
	put16(header + 2, (uint16_t)len);
	put16(header + 6, get16(header + 6) & IP_DONT_FRAGMENT);
	packet_ip_checksum(header, q->first_len);
	*whole = (struct packet){
		.data = header,
		.len = len,
		.here = len,
		.l4 = q->first_len,
		.fragment = get16(header + 6),
		.segments = 1,
		.tuple = { .src = q->src, .dst = q->dst, .protocol = q->protocol },
		.ttl = header[8],
		.csum = CSUM_COMPLETE,
	};
	return packet_parse_transport(whole);
}

/**
 * reassembler_add() - Take a fragment
 * @r:		Reassembler
 * @p:		The fragment, with all its bytes at @p->data
 * @origin:	As it came in
 * @now:	Nanoseconds
 * @lost:	Called for each fragment that waited and is given up
 * @context:	For @lost
 * @whole:	Out, on FRAGMENT_WHOLE: the datagram, HEADROOM bytes free before it; good
 *		until the next call
 * @largest:	Out, on FRAGMENT_WHOLE: bytes of the largest of its fragments
 * @reason:	Out, on FRAGMENT_BAD: the enum pylb_drop for which @p is dropped
 *
 * Return: what became of it
 */
enum reassembly reassembler_add(struct reassembler *r, const struct packet *p,
				const struct pylb_packet *origin, uint64_t now, lost_fn lost,
				void *context, struct packet *whole, uint32_t *largest, int *reason)
{
	uint32_t offset = (p->fragment & IP_OFFSET_MASK) * 8u, len = p->len - p->l4;
	bool more = p->fragment & IP_MORE_FRAGMENTS;
	uint16_t ident = get16(p->data + 4);
	const struct part *last;
	struct queue *q;
	uint32_t at;

	*reason = PYLB_DROP_BAD_FRAGMENT;
	if (!len || (more && len % 8) || p->l4 + offset + len > IP_MAX)
		return FRAGMENT_BAD;
	q = find(r, &p->tuple, ident);
	if (!q) {
		*reason = PYLB_DROP_FRAGMENT_LIMIT;
		if (!r->free || r->payload + len > MAX_PAYLOAD || origin->len > MAX_KEPT - r->kept)
			return FRAGMENT_BAD;
		q = open_queue(r, &p->tuple, ident, now);
	}
	at = position_of(q, offset);
	if (at < q->count && q->sorted[at]->offset == offset && q->sorted[at]->len == len &&
	    !memcmp(q->sorted[at]->payload, p->data + p->l4, len))
		return FRAGMENT_KEPT;
	if (!fits(q, at, offset, offset + len, more)) {
		*reason = PYLB_DROP_BAD_FRAGMENT;
		drop_parts(r, close_queue(r, q), NULL, lost, context, *reason);
		return FRAGMENT_BAD;
	}
	if (!insert(r, q, at, p, origin)) {
		*reason = PYLB_DROP_FRAGMENT_LIMIT;
		if (!q->count)
			close_queue(r, q);
		return FRAGMENT_BAD;
	}
	if (q->size != q->total || !q->first_len)
		return FRAGMENT_KEPT;
	last = q->tail;
	*largest = q->largest;
	*reason = join(r, q, whole);
	if (*reason == PACKET_OK)
		lost = NULL;
	drop_parts(r, close_queue(r, q), last, lost, context, *reason);
	return *reason == PACKET_OK ? FRAGMENT_WHOLE : FRAGMENT_BAD;
}

/**
 * reassembler_expire() - Give up datagrams that did not become whole in time
 * @r:		Reassembler
 * @now:	Nanoseconds
 * @lost:	Called for each of their fragments
 * @context:	For @lost
 */
void reassembler_expire(struct reassembler *r, uint64_t now, lost_fn lost, void *context)
{
	struct queue *newer;

	if (now < r->soonest)
		return;
	r->soonest = UINT64_MAX;
	for (struct queue *q = r->oldest; q; q = newer) {
		newer = q->newer;
		if (q->deadline <= now)
			drop_parts(r, close_queue(r, q), NULL, lost, context,
				   PYLB_DROP_FRAGMENT_TIMEOUT);
		else if (q->deadline < r->soonest)
			r->soonest = q->deadline;
	}
}

/**
 * reassembler_next_deadline() - When the oldest datagram in wait is given up
 * @r:	Reassembler
 *
 * Return: nanoseconds, UINT64_MAX while none waits
 */
uint64_t reassembler_next_deadline(const struct reassembler *r)
{
	return r->oldest ? r->oldest->deadline : UINT64_MAX;
}

/**
 * fragment_next() - Make the next fragment of a packet (RFC 791 section 3.2)
 * @p:		Packet, with all its bytes at @p->data and a complete checksum
 * @size:	Most bytes of a fragment; the header and 8 more at least
 * @offset:	Where in the payload it begins, 0 first
 * @to:		@size bytes of room
 * @len:	Out: bytes of the fragment
 *
 * IP options are copied to every fragment, which is more than RFC 791 asks.
 *
 * Return: where the next one begins, 0 when this was the last
 */
uint32_t fragment_next(const struct packet *p, uint32_t size, uint32_t offset, uint8_t *to,
		       uint32_t *len)
{
	uint32_t body = p->len - p->l4 - offset, part = (size - p->l4) & ~7u;
	bool more = part < body;

	if (!more)
		part = body;
	memcpy(to, p->data, p->l4);
	memcpy(to + p->l4, p->data + p->l4 + offset, part);
	*len = p->l4 + part;
	put16(to + 2, (uint16_t)*len);
	put16(to + 6, (uint16_t)((p->fragment & IP_DONT_FRAGMENT) |
				 (more ? IP_MORE_FRAGMENTS : 0) | offset >> 3));
	packet_ip_checksum(to, p->l4);
	return more ? offset + part : 0;
}
