/* SPDX-License-Identifier: Apache-2.0 */
#include "offload_probe.h"

#include <stdlib.h>

#include "gro.h"
#include "offload.h"
#include "sends.h"

enum { PROBE_GRO, PROBE_READ, PROBE_SENDS, PROBE_SUM, PROBE_TOEPLITZ, PROBE_CUT };

#define MOST_HELD	(RUNS + SLICES)	/* packets of one batch */

static bool collide;	/* all flows have the same hash */

/**
 * index_hash() - Stands in for the table's hash: a test can foresee its upper byte
 * @x:		Index
 * @t:		Tuple
 *
 * Return: the fields' sum in the upper byte, or 0 for all
 */
uint64_t index_hash(const struct index *x, const struct tuple *t)
{
	uint64_t sum = (uint64_t)t->src + t->dst + t->sport + t->dport + t->protocol;

	(void)x;
	return collide ? 0 : sum << 56;
}

/**
 * struct cursor - Where a case is being read, or an answer written
 * @in:		What is left to read
 * @left:	Bytes there
 * @out:	Where to write
 * @room:	Bytes left there
 * @bad:	Something was not there, or did not fit
 */
struct cursor {
	const uint8_t *in;
	size_t left;
	uint8_t *out;
	size_t room;
	bool bad;
};

static const uint8_t *take(struct cursor *c, size_t len)
{
	const uint8_t *at = c->in;

	if (len > c->left) {
		c->bad = true;
		return NULL;
	}
	c->in += len;
	c->left -= len;
	return at;
}

static uint32_t number(struct cursor *c, size_t len)
{
	const uint8_t *bytes = take(c, len);
	uint32_t value = 0;

	for (size_t i = 0; bytes && i < len; i++)
		value |= (uint32_t)bytes[i] << (8 * i);
	return value;
}

static void put(struct cursor *c, const void *bytes, size_t len)
{
	if (len > c->room) {
		c->bad = true;
		return;
	}
	if (len)
		memcpy(c->out, bytes, len);
	c->out += len;
	c->room -= len;
}

static void put_number(struct cursor *c, uint32_t value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));

		put(c, &byte, 1);
	}
}

/**
 * own_copy() - Bytes in a block of their own size, so that the sanitizer sees its ends
 * @bytes:	Bytes
 * @len:	Their number
 *
 * Return: the copy, to be freed
 */
static uint8_t *own_copy(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	if (len)
		memcpy(copy, bytes, len);
	return copy;
}

/* Parts of an answer. */

static void put_whole(struct cursor *c, const struct packet *p)
{
	put_number(c, p->len, 4);
	put(c, p->data, p->here);
	for (const struct slice *s = p->more; s; s = s->next)
		put(c, s->data, s->len);
}

static void put_segments(struct cursor *c, const struct packet *p)
{
	uint8_t headers[MOST_HEADERS];
	struct slice payload[MOST_PARTS];
	struct segmenter s;
	uint32_t len;
	int parts;

	segmenter_start(&s, p);
	while (!c->bad && (len = segmenter_next(&s, headers, payload, &parts))) {
		uint32_t total = len;

		for (int i = 0; i < parts; i++)
			total += payload[i].len;
		put_number(c, 1, 1);
		put_number(c, total, 4);
		put(c, headers, len);
		for (int i = 0; i < parts; i++)
			put(c, payload[i].data, payload[i].len);
	}
	put_number(c, 0, 1);
}

static void put_packet(struct cursor *c, const struct packet *p)
{
	uint8_t header[VIRTIO_HEADER];

	put_number(c, p->csum, 1);
	put_number(c, p->segments, 2);
	put_number(c, p->gso_size, 2);
	offload_write(p, header);
	put(c, header, sizeof(header));
	put_whole(c, p);
	if (p->gso_size)
		put_segments(c, p);
	else
		put_number(c, 0, 1);
}

/* The probes. */

static void finish_batch(struct cursor *c, struct gro *g, uint8_t **held, size_t *n_held)
{
	gro_finish(g);
	put_number(c, g->n_runs, 2);
	for (uint32_t i = 0; i < g->n_runs; i++)
		put_packet(c, &g->runs[i].packet);
	gro_clear(g);
	while (*n_held)
		free(held[--*n_held]);
}

static void probe_gro(struct cursor *c)
{
	struct gro *g = calloc(1, sizeof(*g));
	bool tcp = number(c, 1), udp = number(c, 1);
	struct table *t = calloc(1, sizeof(*t));
	uint8_t *held[MOST_HELD];
	size_t n_held = 0;
	uint32_t count;

	if (!g || !t)
		abort();
	collide = number(c, 1);
	count = number(c, 2);
	gro_clear(g);
	for (uint32_t i = 0; i < count && !c->bad; i++) {
		bool has_header = number(c, 1);
		const uint8_t *header = take(c, VIRTIO_HEADER);
		uint32_t len = number(c, 4);
		const uint8_t *bytes = take(c, len);
		struct pylb_packet origin = { 0 };
		struct packet p;

		if (c->bad)
			break;
		if (!gro_has_room(g))
			finish_batch(c, g, held, &n_held);
		held[n_held++] = own_copy(bytes, len);
		if (packet_parse(&p, held[n_held - 1], len) == PACKET_OK &&
		    (!has_header || offload_read(&p, header) == PACKET_OK)) {
			gro_add(g, t, &p, &origin, tcp, udp);
		} else {
			free(held[--n_held]);
		}
	}
	finish_batch(c, g, held, &n_held);
	free(t);
	free(g);
}

static void probe_read(struct cursor *c)
{
	const uint8_t *given = take(c, VIRTIO_HEADER);
	uint32_t len = number(c, 4);
	const uint8_t *bytes = take(c, len);
	uint8_t *header, *data;
	struct packet p;
	int reason;

	if (c->bad)
		return;
	header = own_copy(given, VIRTIO_HEADER);
	data = own_copy(bytes, len);
	reason = packet_parse(&p, data, len);
	put_number(c, (uint32_t)reason, 4);
	if (reason == PACKET_OK) {
		reason = offload_read(&p, header);
		put_number(c, (uint32_t)reason, 4);
		if (reason == PACKET_OK)
			put_packet(c, &p);
	}
	free(header);
	free(data);
}

/* A super-packet whose payload lies in pieces, which need not be segments. */
static void probe_cut(struct cursor *c)
{
	uint32_t gso_size = number(c, 2), len = number(c, 4);
	uint8_t *data = own_copy(take(c, len), len);
	uint32_t pieces = number(c, 1), here = number(c, 4), at = here;
	struct slice slices[256] = { 0 };
	struct packet p;

	if (!c->bad && packet_parse(&p, data, len) == PACKET_OK) {
		p.gso_size = (uint16_t)gso_size;
		p.csum = CSUM_PARTIAL;
		p.here = here;
		p.more = pieces ? slices : NULL;
		for (uint32_t i = 0; i < pieces; i++) {
			slices[i].len = number(c, 4);
			slices[i].data = data + at;
			slices[i].next = i + 1 < pieces ? &slices[i + 1] : NULL;
			at += slices[i].len;
		}
		if (at != len)
			abort();
		put_segments(c, &p);
	}
	free(data);
}

static void flushed(void *context, struct send *s)
{
	struct cursor *c = context;

	put_number(c, 1, 1);
	put_number(c, s->peer, 4);
	put_number(c, s->sender, 4);
	put_number(c, s->size, 4);
	put_number(c, s->segments, 4);
	put_number(c, s->bytes, 4);
	put_number(c, (uint32_t)s->count, 4);
	for (size_t i = 0; i < s->count; i++)
		put(c, s->iov[i].iov_base, s->iov[i].iov_len);
}

static void probe_sends(struct cursor *c)
{
	struct sends *all = calloc(1, sizeof(*all));
	uint32_t count;

	if (!all)
		abort();
	all->most = number(c, 1);
	all->flush = flushed;
	all->context = c;
	count = number(c, 2);
	for (uint32_t i = 0; i < count && !c->bad; i++) {
		uint32_t peer = number(c, 4), sender = number(c, 1), parts = number(c, 1);
		struct iovec iov[1 + MOST_PARTS];
		uint32_t size = 0;

		if (parts > 1 + MOST_PARTS)
			abort();
		for (uint32_t n = 0; n < parts; n++) {
			iov[n].iov_len = number(c, 2);
			iov[n].iov_base = (void *)take(c, iov[n].iov_len);
			size += (uint32_t)iov[n].iov_len;
		}
		if (!c->bad)
			sends_add(all, peer, sender, iov, parts, size);
	}
	sends_flush(all);
	put_number(c, 0, 1);
	free(all);
}

static void probe_sum(struct cursor *c)
{
	uint32_t offset = number(c, 1), initial = number(c, 4);
	size_t len = c->left;
	uint8_t *data = malloc(offset + len + 1);
	uint8_t *exact;

	if (!data)
		abort();
	exact = data + offset;
	if (len)
		memcpy(exact, take(c, len), len);
	/* Shrunk, so that it ends where its bytes end. */
	data = realloc(data, offset + len ? offset + len : 1);
	exact = data + offset;
	put_number(c, pylb_ones_sum(exact, len, initial), 2);
	free(data);
}

static void probe_toeplitz(struct cursor *c)
{
	uint32_t src = number(c, 4), dst = number(c, 4);
	uint16_t sport = (uint16_t)number(c, 2), dport = (uint16_t)number(c, 2);

	put_number(c, pylb_toeplitz(src, dst, sport, dport), 4);
	put_number(c, pylb_toeplitz_addresses(src, dst), 4);
}

/**
 * probe() - Answer a case
 * @in:		The case: what to probe, one byte, and what that reads
 * @len:	Its bytes
 * @out:	Out: the answer
 * @room:	Bytes there
 *
 * Return: bytes of the answer, 0 when the case is malformed or the answer does not fit
 */
size_t probe(const uint8_t *in, size_t len, uint8_t *out, size_t room)
{
	struct cursor c = { .in = in, .left = len, .out = out, .room = room };

	switch (number(&c, 1)) {
	case PROBE_GRO:
		probe_gro(&c);
		break;
	case PROBE_READ:
		probe_read(&c);
		break;
	case PROBE_SENDS:
		probe_sends(&c);
		break;
	case PROBE_SUM:
		probe_sum(&c);
		break;
	case PROBE_TOEPLITZ:
		probe_toeplitz(&c);
		break;
	case PROBE_CUT:
		probe_cut(&c);
		break;
	default:
		return 0;
	}
	return c.bad ? 0 : room - c.room;
}
