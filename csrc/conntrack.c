/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a packet does to its flow.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/conntrack.py, whose class Table is in table.c.
 * Source: Linux nf_conntrack_core.c, nf_conntrack_proto_udp.c, _icmp.c, _gre.c,
 * _generic.c; TCP is in tcp.c, SCTP in sctp.c.
 *
 * A super-packet acts once, as its segments together would, and counts as all of them.
 */
#include "conntrack.h"

#define UDP_STREAM_AFTER	(2 * SECOND)

/**
 * may_open() - May a packet without a flow start one?
 * @p:	Packet
 *
 * Return: true if so
 */
bool may_open(const struct packet *p)
{
	/* Echo, timestamp, information and address mask requests. */
	const uint32_t requests = 1u << 8 | 1u << 13 | 1u << 15 | 1u << 17;
	uint8_t type = (uint8_t)(p->tuple.dport >> 8);

	if (p->tuple.protocol == PROTO_TCP)
		return tcp_opens(p);
	if (p->tuple.protocol == PROTO_SCTP)
		return sctp_opens(p);
	if (p->tuple.protocol == PROTO_ICMP)
		return type < 32 && requests >> type & 1;
	return true;
}

/**
 * bytes_of() - Bytes of a packet on the wire
 * @p:	Packet
 *
 * Return: bytes; of a super-packet with the headers of all its segments
 */
static inline uint32_t bytes_of(const struct packet *p)
{
	uint32_t headers;

	if (p->segments == 1)
		return p->len;
	headers = p->l4 + 8u;
	if (p->tuple.protocol == PROTO_TCP)
		headers = p->l4 + (p->data[p->l4 + 12] >> 4) * 4u;
	return p->len + (p->segments - 1u) * headers;
}

/**
 * track_tcp() - Let a segment act on its flow's state and timeout
 * @t:		Table
 * @slot:	The flow's
 * @p:		Packet
 * @direction:	Its direction
 * @fresh:	The flow was made for it
 * @now:	Nanoseconds
 * @timeouts:	By enum pylb_timeout, seconds
 * @changed:	Set when there is something to tell of
 *
 * Return: enum verdict
 */
static enum verdict track_tcp(struct table *t, uint32_t slot, const struct packet *p,
			      int direction, bool fresh, uint64_t now, const uint32_t *timeouts,
			      bool *changed)
{
	struct flow *f = table_flow(t, slot);
	struct tcp_context c = {
		.tcp = &f->tcp,
		.state = f->state,
		.last_scale = f->last_scale,
		.seen_reply = f->seen_reply,
		.assured = f->assured,
	};
	enum verdict verdict;
	uint8_t before;

	if (fresh)
		tcp_start(&c, p);
	before = c.state;
	verdict = tcp_track(&c, p, direction, timeouts);
	f->state = c.state & 0xfu;
	f->last_scale = c.last_scale & 0xfu;
	*changed = c.state != before || c.now_assured;

	if (verdict == VERDICT_ACCEPT && c.now_assured)
		table_assure(t, slot, c.timeout, now);
	else if (verdict == VERDICT_ACCEPT)
		table_renew(t, slot, c.timeout, now);
	else if (verdict == VERDICT_INVALID && c.timeout &&
		 f->deadline > now + c.timeout * SECOND)
		table_renew(t, slot, c.timeout, now);
	return verdict;
}

/**
 * track_sctp() - Let a packet act on its association's state and timeout
 * @t:		Table
 * @slot:	The flow's
 * @p:		Packet
 * @direction:	Its direction
 * @fresh:	The flow was made for it
 * @now:	Nanoseconds
 * @timeouts:	By enum pylb_timeout, seconds
 * @changed:	Set when there is something to tell of, also of an invalid packet
 *
 * Return: enum verdict
 */
static enum verdict track_sctp(struct table *t, uint32_t slot, const struct packet *p,
			       int direction, bool fresh, uint64_t now, const uint32_t *timeouts,
			       bool *changed)
{
	struct flow *f = table_flow(t, slot);
	struct sctp_context c = {
		.sctp = &f->sctp,
		.state = f->state,
		.seen_reply = f->seen_reply,
	};
	enum verdict verdict;
	uint8_t before;

	if (fresh)
		sctp_start(&c, p);
	before = c.state;
	verdict = sctp_track(&c, p, direction, timeouts);
	f->state = c.state & 0xfu;
	*changed = c.state != before;
	if (c.established && !f->assured) {
		*changed = true;
		/* Not every packet that does this renews the timeout. */
		table_retain(t, slot, now);
	}
	if (verdict == VERDICT_ACCEPT)
		table_renew(t, slot, c.timeout, now);
	return verdict;
}

/**
 * track_plain() - Renew the timeout of a flow without a state machine
 * @t:		Table
 * @slot:	The flow's
 * @now:	Nanoseconds
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * Return: true if that made it assured
 */
static bool track_plain(struct table *t, uint32_t slot, uint64_t now, const uint32_t *timeouts)
{
	const struct flow *f = table_flow(t, slot);
	enum pylb_timeout timeout = PYLB_GENERIC;
	bool stream = false;

	switch (f->protocol) {
	case PROTO_UDP:
		stream = f->seen_reply && now > f->started + UDP_STREAM_AFTER;
		timeout = stream ? PYLB_UDP_STREAM : PYLB_UDP;
		break;
	case PROTO_ICMP:
		timeout = PYLB_ICMP;
		break;
	case PROTO_GRE:
		stream = f->seen_reply;
		timeout = stream ? PYLB_GRE_STREAM : PYLB_GRE;
		break;
	}
	if (!stream || f->assured) {
		table_renew(t, slot, timeouts[timeout], now);
		return false;
	}
	table_assure(t, slot, timeouts[timeout], now);
	return true;
}

/**
 * is_open() - Does a flow count as active for IPVS?
 * @f:	Flow
 *
 * Return: true for TCP that is opening or open, SCTP that is established, and protocols
 * without states
 */
static bool is_open(const struct flow *f)
{
	if (f->protocol == PROTO_SCTP)
		return f->state == SCTP_ESTABLISHED;
	return f->state <= TCP_ESTABLISHED || f->state == TCP_SYN_SENT2;
}

/**
 * track_abort() - A TCP or SCTP flow was reset from here
 * @t:		Table
 * @slot:	The flow's
 * @now:	Nanoseconds
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * It stays, closed, for what its ends have still to say.
 */
void track_abort(struct table *t, uint32_t slot, uint64_t now, const uint32_t *timeouts)
{
	struct flow *f = table_flow(t, slot);
	bool sctp = f->protocol == PROTO_SCTP;
	uint8_t closed = sctp ? (uint8_t)SCTP_CLOSED : (uint8_t)TCP_CLOSE;

	if (f->state == closed)
		return;
	f->state = closed & 0xfu;
	table_renew(t, slot, timeouts[sctp ? PYLB_SCTP_CLOSED : PYLB_TCP_CLOSE], now);
	if (f->load != LOAD_NONE)
		table_weigh(t, slot, LOAD_CLOSING);
	table_announce(t, PYLB_UPDATE, slot, now);
}

/**
 * track() - Let a packet act on its flow: state, timeout, counters and events
 * @t:		Table
 * @slot:	The flow's
 * @p:		Packet, as it came in
 * @direction:	Its direction in the flow
 * @fresh:	table_create() has just made the flow for it
 * @now:	Nanoseconds
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * Return: VERDICT_ACCEPT, _IGNORE or _INVALID for the packet; _REOPEN when the flow was
 * closed and the packet starts a new one.  With _REOPEN, and with _ACCEPT of a reset, the
 * flow may be gone.
 */
enum verdict track(struct table *t, uint32_t slot, const struct packet *p, int direction,
		   bool fresh, uint64_t now, const uint32_t *timeouts)
{
	struct flow *f = table_flow(t, slot);
	enum verdict verdict = VERDICT_ACCEPT;
	bool changed;

	if (f->protocol == PROTO_TCP)
		verdict = track_tcp(t, slot, p, direction, fresh, now, timeouts, &changed);
	else if (f->protocol == PROTO_SCTP)
		verdict = track_sctp(t, slot, p, direction, fresh, now, timeouts, &changed);
	else
		changed = track_plain(t, slot, now, timeouts);
	if (verdict == VERDICT_REOPEN) {
		table_destroy(t, slot, now);
		return verdict;
	}
	if (changed && f->load != LOAD_NONE)
		table_weigh(t, slot, is_open(f) ? LOAD_OPEN : LOAD_CLOSING);
	if (verdict == VERDICT_INVALID) {
		/* What the first chunks of an SCTP packet did stays done. */
		if (changed)
			table_announce(t, PYLB_UPDATE, slot, now);
		return verdict;
	}

	table_count(t, slot, direction, p->segments, bytes_of(p));
	if (direction == REPLY && !f->seen_reply) {
		f->seen_reply = 1;
		changed = true;
	}
	if (verdict == VERDICT_DELETE) {
		table_destroy(t, slot, now);
		return VERDICT_ACCEPT;
	}
	if (fresh)
		table_announce(t, PYLB_NEW, slot, now);
	else if (changed)
		table_announce(t, PYLB_UPDATE, slot, now);
	return verdict == VERDICT_IGNORE ? VERDICT_IGNORE : VERDICT_ACCEPT;
}
