/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connection tracking: the kernel's state machine and window check.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/tcp.py, function by function.  Source: Linux
 * net/netfilter/nf_conntrack_proto_tcp.c.  The numbers are window.c's affair.
 *
 * A flow keeps its flags and scales in bitfields.  While a segment is judged they lie in
 * struct connection, by direction, and are written back at the end whatever came of it:
 * also a segment that is refused can be remembered.
 */
#include "tcp.h"

enum { INVALID = -1, IGNORE = -2 };

/*
 * By direction, kind and state: the next state, INVALID, or IGNORE: passed on but
 * believed in nothing.  Abbreviated as the kernel does.
 */
#define SS	TCP_SYN_SENT
#define SR	TCP_SYN_RECV
#define ES	TCP_ESTABLISHED
#define FW	TCP_FIN_WAIT
#define CW	TCP_CLOSE_WAIT
#define LA	TCP_LAST_ACK
#define TW	TCP_TIME_WAIT
#define CL	TCP_CLOSE
#define S2	TCP_SYN_SENT2
#define IV	INVALID
#define IG	IGNORE
static const int8_t transitions[2][KINDS][TCP_SYN_SENT2 + 1] = {
	{
		/*		NO  SS  SR  ES  FW  CW  LA  TW  CL  S2 */
		[KIND_SYN] =		{ SS, SS, IG, IG, IG, IG, IG, SS, SS, S2 },
		[KIND_SYN_ACK] =	{ IV, IV, SR, IV, IV, IV, IV, IV, IV, SR },
		[KIND_FIN] =		{ IV, IV, FW, FW, LA, LA, LA, TW, CL, IV },
		[KIND_ACK] =		{ ES, IV, ES, ES, CW, CW, TW, TW, CL, IV },
		[KIND_RST] =		{ IV, CL, CL, CL, CL, CL, CL, CL, CL, CL },
		[KIND_NONE] =		{ IV, IV, IV, IV, IV, IV, IV, IV, IV, IV },
	},
	{
		/*		NO  SS  SR  ES  FW  CW  LA  TW  CL  S2 */
		[KIND_SYN] =		{ IV, S2, IV, IV, IV, IV, IV, SS, IV, S2 },
		[KIND_SYN_ACK] =	{ IV, SR, IG, IG, IG, IG, IG, IG, IG, SR },
		[KIND_FIN] =		{ IV, IV, FW, FW, LA, LA, LA, TW, CL, IV },
		[KIND_ACK] =		{ IV, IG, SR, ES, CW, CW, TW, TW, CL, IG },
		[KIND_RST] =		{ IV, CL, CL, CL, CL, CL, CL, CL, CL, CL },
		[KIND_NONE] =		{ IV, IV, IV, IV, IV, IV, IV, IV, IV, IV },
	},
};

/* By state: which of the timeouts is its own. */
static const uint8_t timeout_of[TCP_SYN_SENT2 + 1] = {
	[TCP_NONE] = PYLB_TCP_CLOSE,
	[TCP_SYN_SENT] = PYLB_TCP_SYN_SENT,
	[TCP_SYN_RECV] = PYLB_TCP_SYN_RECV,
	[TCP_ESTABLISHED] = PYLB_TCP_ESTABLISHED,
	[TCP_FIN_WAIT] = PYLB_TCP_FIN_WAIT,
	[TCP_CLOSE_WAIT] = PYLB_TCP_CLOSE_WAIT,
	[TCP_LAST_ACK] = PYLB_TCP_LAST_ACK,
	[TCP_TIME_WAIT] = PYLB_TCP_TIME_WAIT,
	[TCP_CLOSE] = PYLB_TCP_CLOSE,
	[TCP_SYN_SENT2] = PYLB_TCP_SYN_SENT,
};

/* Flags of the last ignored SYN, 4 bits with those of enum segment_offer. */
enum { CHALLENGE_ACK = 4, SIMULTANEOUS_OPEN = 8 };

/**
 * take_out() - A flow's TCP, to judge a segment by
 * @t:	Its numbers
 *
 * Return: the connection; put_back() is to follow
 */
static inline struct connection take_out(struct tcp *t)
{
	return (struct connection){
		.t = t,
		.flags = { t->flags0, t->flags1 },
		.scale = { t->scale0, t->scale1 },
	};
}

/**
 * put_back() - Write back what take_out() copied
 * @n:	Connection
 */
static inline void put_back(const struct connection *n)
{
	struct tcp *t = n->t;

	t->flags0 = n->flags[0] & 0x3fu;
	t->flags1 = n->flags[1] & 0x3fu;
	t->scale0 = n->scale[0] & 0xfu;
	t->scale1 = n->scale[1] & 0xfu;
}

/**
 * remember() - Note which segment was the last
 * @t:		Numbers
 * @kind:	Its enum segment_kind
 * @direction:	Its direction
 */
static inline void remember(struct tcp *t, uint8_t kind, int direction)
{
	t->last_kind = kind & 7u;
	t->last_direction = (unsigned int)direction & 1;
}

/**
 * tcp_opens() - May a segment without a flow start one?
 * @p:	Packet
 *
 * A SYN does, and so does a plain ACK: the kernel picks such connections up midstream
 * (nf_conntrack_tcp_loose = 1).
 *
 * Return: true if so
 */
bool tcp_opens(const struct packet *p)
{
	struct segment s = segment_read(p);

	return s.valid && transitions[ORIGINAL][s.kind][TCP_NONE] >= 0;
}

/**
 * tcp_start() - Begin with a flow's first segment
 * @c:	Flow, out; tcp_opens() is true of the segment
 * @p:	Packet
 */
void tcp_start(struct tcp_context *c, const struct packet *p)
{
	struct segment s = segment_read(p);
	struct connection n;

	*c->tcp = (struct tcp){ .last_kind = KIND_NONE };
	c->state = TCP_NONE;
	c->last_scale = 0;
	n = take_out(c->tcp);
	window_start(&n, ORIGINAL, &s);
	if (s.kind != KIND_SYN) {
		/* Picked up midstream: window scaling is unknown, so its checks are liberal. */
		n.t->side[ORIGINAL].max_end = s.end + n.t->side[ORIGINAL].max_window;
		n.scale[ORIGINAL] = 0;
		n.flags[ORIGINAL] = n.flags[REPLY] = SACK_PERMITTED | LIBERAL;
	}
	put_back(&n);
}

/**
 * resynchronise() - A SYN-ACK that answers a SYN ignored before: both ends are in sync
 * @c:		Flow
 * @n:		Connection
 * @s:		Segment
 * @direction:	Its direction
 *
 * Return: true if that is what it is; the connection follows them then
 */
static bool resynchronise(const struct tcp_context *c, struct connection *n,
			  const struct segment *s, int direction)
{
	struct tcp *t = n->t;
	int other = !direction;

	if (s->kind != KIND_SYN_ACK || t->last_kind != KIND_SYN || t->last_direction == direction ||
	    s->ack != t->last_end)
		return false;
	t->side[other].end = t->side[other].max_end = t->last_end;
	t->side[other].max_window = t->last_window ? t->last_window : 1;
	n->scale[other] = c->last_scale;
	t->last_flags &= 0xfu & ~(unsigned int)CHALLENGE_ACK;
	n->flags[other] = t->last_flags & (WINDOW_SCALE | SACK_PERMITTED);
	t->side[direction] = (struct tcp_side){ 0 };
	n->flags[direction] = n->scale[direction] = 0;
	return true;
}

/**
 * remember_ignored() - Note a segment that was passed on and not believed
 * @c:		Flow
 * @s:		Segment
 * @direction:	Its direction
 */
static void remember_ignored(struct tcp_context *c, const struct segment *s, int direction)
{
	struct tcp *t = c->tcp;

	remember(t, s->kind, direction);
	t->last_end = s->end;
	t->last_length = (uint16_t)(s->end - s->seq);
	t->last_window = s->window;
	if (s->kind == KIND_SYN && direction == ORIGINAL) {
		uint8_t flags = segment_options(s, &c->last_scale);

		if (c->state == TCP_LAST_ACK)
			flags |= CHALLENGE_ACK;
		t->last_flags = flags & 0xfu;
	}
	if (c->state == TCP_SYN_SENT && s->kind == KIND_ACK && direction == REPLY)
		t->last_ack = s->ack;
}

/**
 * judge_reset() - What a RST does, RFC 5961 section 3
 * @c:		Flow
 * @n:		Connection
 * @s:		Segment
 * @direction:	Its direction
 * @in_window:	Out: its numbers need no further look
 *
 * Only a RST with exactly the expected sequence number closes; one that is merely in
 * the window leads to a challenge ACK, so the state stays and only the timeout drops.
 *
 * Return: the new state or INVALID
 */
static int judge_reset(const struct tcp_context *c, const struct connection *n,
		       const struct segment *s, int direction, bool *in_window)
{
	const struct tcp *t = n->t;
	int old = c->state, new = TCP_CLOSE, other = !direction;
	bool answers_ignored;

	*in_window = true;
	/* The connection is ending anyway: whatever its numbers, a RST ends it. */
	if (old >= TCP_FIN_WAIT && old <= TCP_CLOSE)
		return new;
	/* The client's answer to a challenge ACK (RFC 5961), which its SYN had met. */
	if (old == TCP_SYN_SENT && t->last_kind == KIND_ACK && t->last_direction == other &&
	    s->seq == t->last_ack)
		return new;
	*in_window = false;
	if (n->flags[other] & MAX_ACK_SET) {
		bool established = old == TCP_ESTABLISHED && c->assured;
		uint32_t expected = t->side[other].max_ack;

		if (!s->seq && !established)
			return new;
		if (seq_before(s->seq, expected))
			return INVALID;
		/* After a SYN that was let through, either side may end the old connection. */
		if (established && s->seq != expected && t->last_kind != KIND_SYN &&
		    (t->last_kind != KIND_ACK || t->last_direction != direction ||
		     s->seq != t->last_end))
			new = old;
	}
	answers_ignored = (c->seen_reply && t->last_kind == KIND_SYN) ||
			  (!c->assured && t->last_kind == KIND_ACK);
	*in_window = answers_ignored && s->ack == t->last_end;
	return new;
}

/**
 * timeout_in() - The timeout after a segment
 * @n:		Connection
 * @kind:	The segment's enum segment_kind
 * @state:	enum tcp_state
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * Return: seconds
 */
static uint32_t timeout_in(const struct connection *n, uint8_t kind, int state,
			   const uint32_t *timeouts)
{
	uint32_t base = timeouts[timeout_of[state]];

	if (n->t->retrans >= MOST_RETRANS && base > timeouts[PYLB_TCP_MAX_RETRANS])
		return timeouts[PYLB_TCP_MAX_RETRANS];
	if (kind == KIND_RST)
		return timeouts[PYLB_TCP_CLOSE];
	if ((n->flags[0] | n->flags[1]) & UNACKNOWLEDGED &&
	    base > timeouts[PYLB_TCP_UNACKNOWLEDGED])
		return timeouts[PYLB_TCP_UNACKNOWLEDGED];
	if (!n->t->last_window && base > timeouts[PYLB_TCP_MAX_RETRANS])
		return timeouts[PYLB_TCP_MAX_RETRANS];
	return base;
}

/**
 * act() - Let a segment with valid flags act on the connection
 * @c:		Flow
 * @n:		Connection
 * @s:		Segment
 * @direction:	Its direction
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * Return: what is to be done
 */
static enum verdict act(struct tcp_context *c, struct connection *n, const struct segment *s,
			int direction, const uint32_t *timeouts)
{
	struct tcp *t = n->t;
	int old = c->state, new = transitions[direction][s->kind][old];
	bool in_window = false;

	if (new == TCP_SYN_SENT && old >= TCP_TIME_WAIT) {
		if ((n->flags[0] | n->flags[1]) & CLOSE_INIT ||
		    (t->last_direction == direction && t->last_kind == KIND_RST))
			return VERDICT_REOPEN;
		new = IGNORE;
	}
	if (new == IGNORE) {
		if (!resynchronise(c, n, s, direction)) {
			remember_ignored(c, s, direction);
			return VERDICT_IGNORE;
		}
		old = TCP_SYN_SENT;
		new = TCP_SYN_RECV;
	} else if (new == INVALID) {
		return VERDICT_INVALID;
	} else if (new == TCP_TIME_WAIT && old == TCP_LAST_ACK && s->kind == KIND_ACK) {
		/* RFC 5961: a challenge ACK answers a stray SYN, it does not acknowledge the FIN. */
		if (t->last_direction != direction && t->last_kind == KIND_SYN &&
		    t->last_flags & CHALLENGE_ACK) {
			t->last_flags &= 0xfu & ~(unsigned int)CHALLENGE_ACK;
			return VERDICT_IGNORE;
		}
	} else if (new == TCP_SYN_SENT2) {
		t->last_flags |= SIMULTANEOUS_OPEN;
	} else if (new == TCP_SYN_RECV) {
		if (direction == REPLY && s->kind == KIND_ACK && t->last_flags & SIMULTANEOUS_OPEN)
			new = TCP_ESTABLISHED;
	} else if (new == TCP_CLOSE && s->kind == KIND_RST) {
		new = judge_reset(c, n, s, direction, &in_window);
		if (new == INVALID)
			return VERDICT_INVALID;
	}

	if (!in_window) {
		bool unanswered = old == TCP_SYN_SENT;
		enum window_verdict found = window_judge(n, s, direction, unanswered,
							 unanswered || old == TCP_SYN_RECV);

		if (found != WINDOW_INSIDE)
			return found == WINDOW_NEAR ? VERDICT_IGNORE : VERDICT_INVALID;
	}
	remember(t, s->kind, direction);
	c->state = (uint8_t)new;
	if (old != new && new == TCP_FIN_WAIT)
		n->flags[direction] |= CLOSE_INIT;
	c->timeout = timeout_in(n, s->kind, new, timeouts);
	if (c->seen_reply) {
		c->now_assured = (old == TCP_SYN_RECV || old == TCP_ESTABLISHED) &&
				 new == TCP_ESTABLISHED && !c->assured;
		return VERDICT_ACCEPT;
	}
	if (s->kind == KIND_RST)
		return VERDICT_DELETE;
	/* A retransmitted SYN must not keep an unanswered flow alive. */
	if (s->kind == KIND_SYN && old == TCP_SYN_SENT)
		return VERDICT_KEEP;
	if (new == TCP_ESTABLISHED && c->timeout > timeouts[PYLB_TCP_UNACKNOWLEDGED])
		c->timeout = timeouts[PYLB_TCP_UNACKNOWLEDGED];
	return VERDICT_ACCEPT;
}

/**
 * end_after_invalid() - An end that both sides claim, out of window
 * @t:		Numbers
 * @kind:	The segment's enum segment_kind
 * @direction:	Its direction
 *
 * Return: true if the flow must not stay for days
 */
static bool end_after_invalid(struct tcp *t, uint8_t kind, int direction)
{
	if (kind != KIND_FIN && kind != KIND_RST)
		return false;
	if (t->last_direction != direction &&
	    (t->last_kind == KIND_FIN || t->last_kind == KIND_RST))
		return true;
	remember(t, kind, direction);
	return false;
}

/**
 * tcp_awaited() - The numbers one of which an end awaits next
 * @t:			Numbers
 * @direction:		In which the end sends
 * @acknowledges:	Take @acknowledged, else the last that it did acknowledge
 * @acknowledged:	Sequence number
 * @numbers:		Out: what it has acknowledged, and the end of what was sent to it since
 *
 * Return: how many there are
 */
int tcp_awaited(const struct tcp *t, int direction, bool acknowledges, uint32_t acknowledged,
		uint32_t numbers[2])
{
	const struct tcp_side *own = &t->side[direction], *other = &t->side[!direction];

	if (!acknowledges) {
		if (!((direction ? t->flags1 : t->flags0) & MAX_ACK_SET))
			return 0;
		acknowledged = own->max_ack;
	}
	numbers[0] = acknowledged;
	if (!other->max_window || !seq_before(acknowledged, other->end))
		return 1;
	numbers[1] = other->end;
	return 2;
}

/**
 * tcp_track() - Let a segment act on its flow
 * @c:		Flow
 * @p:		Packet, its TCP header inside it
 * @direction:	Its direction
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * Return: what is to be done
 */
enum verdict tcp_track(struct tcp_context *c, const struct packet *p, int direction,
		       const uint32_t *timeouts)
{
	struct segment s = segment_read(p);
	struct connection n = take_out(c->tcp);
	enum verdict verdict;

	c->timeout = 0;
	c->now_assured = false;
	if (!s.valid)
		return VERDICT_INVALID;
	verdict = act(c, &n, &s, direction, timeouts);
	if (verdict == VERDICT_INVALID && end_after_invalid(c->tcp, s.kind, direction))
		c->timeout = timeouts[PYLB_TCP_UNACKNOWLEDGED];
	put_back(&n);
	return verdict;
}
