/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting received packets together, as Linux' generic receive offload does.
 *
 * Theory of Operation
 * ===================
 *
 * What is cheap in this dataplane is cheap by the packet, so packets of one flow that
 * follow one another become one super-packet before anything else looks at them: one
 * look-up, one translation, one write.  Only what the kernel's own receive offload
 * would put together is (net/ipv4/tcp_offload.c, tcp_gro_receive(); udp_offload.c,
 * udp_gro_receive(); inet_gro_receive()): same addresses and ports, TTL, TOS, DF and
 * header lengths; no IP options; for TCP consecutive sequence numbers, equal
 * acknowledgement, window, options, and no flag but ACK, with FIN or PSH ending the
 * run; for UDP equal lengths, a shorter datagram ending the run, and a checksum that is
 * there.  A checksum that is wrong is never hidden this way: such a packet stays alone.
 *
 * Identifications count up, or stay where they are with DF (RFC 6864 says nobody may
 * care then).  A run never waits for more than one batch, and a packet that cannot join
 * ends its flow's run, so that no flow's packets change places.
 */
#include "gro.h"

#define UDP_HEADER	8
#define TCP_CHECK_AT	16
#define TCP_URGENT_AT	18	/* the options follow */
#define UDP_CHECK_AT	6
#define ENDS_RUN	(TCP_FIN | TCP_PSH)

/**
 * gro_clear() - Begin a batch
 * @g:	Batch
 */
void gro_clear(struct gro *g)
{
	g->n_runs = g->n_slices = 0;
	memset(g->newest, 0, sizeof(g->newest));
}

/**
 * gro_has_room() - May another packet be added?
 * @g:	Batch
 *
 * Return: true if so
 */
bool gro_has_room(const struct gro *g)
{
	return g->n_runs < RUNS && g->n_slices < SLICES;
}

/**
 * header_bytes() - Bytes before a packet's payload
 * @p:		TCP or UDP packet
 *
 * Return: their number, IP header included
 */
static uint32_t header_bytes(const struct packet *p)
{
	if (p->tuple.protocol == PROTO_UDP)
		return p->l4 + UDP_HEADER;
	return p->l4 + (p->data[p->l4 + 12] >> 4) * 4u;
}

/**
 * may_join() - Is this a packet that could be part of a run?
 * @p:		Packet
 * @tcp:	TCP may be put together
 * @udp:	UDP may be put together
 *
 * Return: true if so; its checksum has been found right then
 */
static bool may_join(struct packet *p, bool tcp, bool udp)
{
	const uint8_t *l4 = p->data + p->l4;

	/* No fragment, and not the reserved bit either (inet_gro_receive()). */
	if (p->gso_size || p->l4 != IP_HEADER || p->fragment & ~IP_DONT_FRAGMENT)
		return false;
	if (p->tuple.protocol == PROTO_TCP) {
		if (!tcp || (l4[13] & ~ENDS_RUN) != TCP_ACK || header_bytes(p) == p->len)
			return false;
	} else if (p->tuple.protocol == PROTO_UDP) {
		if (!udp || (uint32_t)get16(l4 + 4) + p->l4 != p->len ||
		    header_bytes(p) == p->len ||
		    (p->csum != CSUM_PARTIAL && !get16(l4 + UDP_CHECK_AT)))
			return false;
	} else {
		return false;
	}
	return packet_checksum_ok(p);
}

/**
 * follows() - Does a packet follow a run?
 * @r:		Run that is not closed
 * @p:		Packet that may join one
 *
 * Return: true if so
 */
static bool follows(struct run *r, const struct packet *p)
{
	const struct packet *first = &r->packet;
	const uint8_t *a = first->data, *b = p->data;
	uint32_t headers = header_bytes(first), payload = p->len - headers;
	uint16_t id = get16(b + 4), first_id = get16(a + 4);

	if (!tuple_same(&first->tuple, &p->tuple) || first->ttl != p->ttl || a[1] != b[1] ||
	    first->fragment != p->fragment || header_bytes(p) != headers || payload > r->unit ||
	    first->len + payload > IP_MAX || first->segments == LONGEST_RUN)
		return false;
	if (first->segments > 1 && first->fixed_id) {
		if (id != first_id)
			return false;
	} else if (id != (uint16_t)(first_id + first->segments)) {
		if (first->segments > 1 || id != first_id || !(p->fragment & IP_DONT_FRAGMENT))
			return false;
	}
	if (p->tuple.protocol == PROTO_TCP) {
		/* All from the acknowledgement on, but for the flags and the checksum. */
		if (get32(b + IP_HEADER + 4) != r->seq ||
		    memcmp(a + IP_HEADER + 8, b + IP_HEADER + 8, 5) ||
		    memcmp(a + IP_HEADER + 14, b + IP_HEADER + 14, 2) ||
		    memcmp(a + IP_HEADER + TCP_URGENT_AT, b + IP_HEADER + TCP_URGENT_AT,
			   headers - IP_HEADER - TCP_URGENT_AT))
			return false;
	}
	return true;
}

/**
 * join() - Put a packet behind a run
 * @g:		Batch with a slice left
 * @r:		Run
 * @p:		Packet that follows it
 */
static void join(struct gro *g, struct run *r, const struct packet *p)
{
	struct slice *s = &g->slices[g->n_slices++];
	uint32_t headers = header_bytes(p);
	uint8_t ends = 0;

	s->data = p->data + headers;
	s->len = p->len - headers;
	s->next = NULL;
	if (r->last)
		r->last->next = s;
	else
		r->packet.more = s;
	r->last = s;
	if (r->packet.segments == 1)
		r->packet.fixed_id = get16(p->data + 4) == get16(r->packet.data + 4);
	r->packet.segments++;
	r->packet.len += s->len;
	r->seq += s->len;
	if (p->tuple.protocol == PROTO_TCP) {
		ends = p->data[IP_HEADER + 13] & ENDS_RUN;
		r->packet.data[IP_HEADER + 13] |= ends;
	}
	r->closed = ends || s->len < r->unit;
}

/**
 * gro_add() - Take in a packet
 * @g:		Batch with room
 * @t:		Table, for its hash
 * @p:		Packet, parsed; its bytes stay where they are until the batch is done
 * @origin:	As it came in
 * @tcp:	TCP may be put together
 * @udp:	UDP may be put together
 */
void gro_add(struct gro *g, const struct table *t, struct packet *p,
	     const struct pylb_packet *origin, bool tcp, bool udp)
{
	bool joins = may_join(p, tcp, udp);
	uint16_t *newest;
	struct run *r;

	p->hash = table_hash(t, &p->tuple);
	p->hashed = true;
	newest = &g->newest[p->hash >> 56];
	if (joins && *newest) {
		r = &g->runs[*newest - 1];
		if (!r->closed && follows(r, p)) {
			join(g, r, p);
			return;
		}
	}
	r = &g->runs[g->n_runs++];
	r->packet = *p;
	r->origin = *origin;
	r->last = NULL;
	r->closed = !joins;
	if (joins) {
		uint32_t headers = header_bytes(p);

		r->unit = p->len - headers;
		if (p->tuple.protocol == PROTO_TCP) {
			r->seq = get32(p->data + IP_HEADER + 4) + r->unit;
			r->closed = p->data[IP_HEADER + 13] & ENDS_RUN;
		}
	}
	*newest = (uint16_t)g->n_runs;
}

/**
 * gro_finish() - Make super-packets of the runs
 * @g:	Batch
 *
 * The first packet's headers become those of the whole: its length, and a checksum that
 * is still to be made, over the pseudo-header of all.
 */
void gro_finish(struct gro *g)
{
	for (uint32_t i = 0; i < g->n_runs; i++) {
		struct packet *p = &g->runs[i].packet;
		uint32_t length = p->len - IP_HEADER;
		uint8_t *l4 = p->data + IP_HEADER;

		if (p->segments == 1 || p->gso_size)
			continue;
		p->gso_size = (uint16_t)g->runs[i].unit;
		p->csum = CSUM_PARTIAL;
		put16(p->data + 2, (uint16_t)p->len);
		packet_ip_checksum(p->data, IP_HEADER);
		if (p->tuple.protocol == PROTO_UDP)
			put16(l4 + 4, (uint16_t)length);
		put16(l4 + (p->tuple.protocol == PROTO_TCP ? TCP_CHECK_AT : UDP_CHECK_AT),
		      pylb_pseudo_sum(p->tuple.src, p->tuple.dst, p->tuple.protocol,
				      (uint16_t)length));
	}
}
