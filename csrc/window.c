/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP's window check.
 *
 * Theory of Operation
 * ===================
 *
 * The half of src/pylb/dataplane/python/tcp.py that deals in numbers.  Source: Linux
 * net/netfilter/nf_conntrack_proto_tcp.c, tcp_in_window(), and the paper behind it,
 * Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2000).  For each
 * side it keeps how far it has sent (end), how far it may send (max_end) and the
 * largest window it has offered; a segment outside those bounds cannot move the state.
 *
 * Sequence numbers and windows are 32-bit and wrap; numbers are compared modulo 2^32.
 */
#include "window.h"

#include <assert.h>

static_assert(sizeof(struct tcp) == 48, "the flow record counts on it");

#define ACK_WINDOW	66000u	/* bytes that an acknowledgement may always lie back */

/**
 * window_start() - Begin with what an end's first segment says
 * @n:		Connection
 * @direction:	The end
 * @s:		Its segment
 */
void window_start(struct connection *n, int direction, const struct segment *s)
{
	struct tcp_side *side = &n->t->side[direction];
	uint8_t flags = segment_options(s, &n->scale[direction]);

	side->end = side->max_end = s->end;
	side->max_window = s->window ? s->window : 1;
	n->flags[direction] = flags | (n->flags[direction] & LIBERAL);
}

/**
 * start_sender() - Begin anew with an end's SYN
 * @n:		Connection
 * @s:		Segment
 * @direction:	Its direction
 */
static void start_sender(struct connection *n, const struct segment *s, int direction)
{
	window_start(n, direction, s);
	/* RFC 7323: scaling is used only when both ends offer it. */
	if (direction == REPLY && !(n->flags[0] & n->flags[1] & WINDOW_SCALE))
		n->scale[0] = n->scale[1] = 0;
}

/**
 * learn() - Take in what a segment inside the windows says
 * @n:		Connection
 * @s:		Segment
 * @direction:	Its direction
 * @ack:	What it acknowledges
 * @sack:	The farthest that it acknowledges
 * @end:	Its end
 */
static inline void learn(struct connection *n, const struct segment *s, int direction,
			 uint32_t ack, uint32_t sack, uint32_t end)
{
	struct tcp_side *sender = &n->t->side[direction], *receiver = &n->t->side[!direction];
	uint8_t *flags = &n->flags[direction];
	uint32_t window = s->window, reach, edge;

	if (!(s->flags & TCP_SYN))
		window <<= n->scale[direction];
	reach = window + (sack - ack);
	if (sender->max_window < reach)
		sender->max_window = reach;
	if (seq_before(sender->end, end)) {
		sender->end = end;
		*flags |= UNACKNOWLEDGED;
	}
	if (s->flags & TCP_ACK) {
		if (!(*flags & MAX_ACK_SET)) {
			sender->max_ack = ack;
			*flags |= MAX_ACK_SET;
		} else if (seq_before(sender->max_ack, ack)) {
			sender->max_ack = ack;
		}
	}
	if (receiver->max_window && seq_before(sender->max_end, end))
		receiver->max_window += end - sender->max_end;
	edge = sack + window;
	if (seq_before(receiver->max_end - 1, edge))
		receiver->max_end = edge + !window;
	if (ack == receiver->end)
		n->flags[!direction] &= (uint8_t)~UNACKNOWLEDGED;
}

/**
 * count_retransmission() - Has this ACK come before?
 * @t:		Numbers
 * @s:		Segment
 * @direction:	Its direction
 */
static inline void count_retransmission(struct tcp *t, const struct segment *s, int direction)
{
	uint16_t length = (uint16_t)(s->end - s->seq);

	if (t->last_direction == direction && t->last_ack == s->ack && t->last_end == s->end &&
	    t->last_length == length && t->last_window == s->window) {
		if (t->retrans < MOST_RETRANS)
			t->retrans = (t->retrans + 1u) & 3;
		return;
	}
	t->last_direction = (unsigned int)direction & 1;
	t->last_ack = s->ack;
	t->last_end = s->end;
	t->last_length = length;
	t->last_window = s->window;
	t->retrans = 0;
}

/**
 * window_judge() - Is a segment inside the windows?  If so learn from it
 * @n:		Connection
 * @s:		Segment
 * @direction:	Its direction
 * @unanswered:	The connection's SYN has not been answered
 * @opening:	Its handshake is not over
 *
 * Return: what to do with the segment
 */
enum window_verdict window_judge(struct connection *n, const struct segment *s, int direction,
				 bool unanswered, bool opening)
{
	struct tcp_side *sender = &n->t->side[direction], *receiver = &n->t->side[!direction];
	uint32_t seq = s->seq, end = s->end, ack = s->ack, sack = ack, back;
	bool over, ack_over, ack_under, received;

	if (n->flags[!direction] & SACK_PERMITTED)
		sack = segment_highest_sack(s);
	if (!sender->max_window) {
		if (s->flags & TCP_SYN) {
			start_sender(n, s, direction);
			if (!(s->flags & TCP_ACK))
				return WINDOW_INSIDE;
		} else {
			uint32_t window = (uint32_t)s->window << n->scale[direction];

			sender->end = end;
			sender->max_window = window ? window : 1;
			sender->max_end = end + sender->max_window;
			if (!receiver->max_window)
				receiver->end = receiver->max_end = sack;
			else if (sack == receiver->end + 1)
				/* Likely answers a keep-alive of a flow picked up midstream. */
				receiver->end = sack;
		}
	} else if (s->flags & TCP_SYN && seq_before(sender->end, end) && opening) {
		start_sender(n, s, direction);
		if (direction == REPLY && !(s->flags & TCP_ACK))
			return WINDOW_INSIDE;
	}

	if (!(s->flags & TCP_ACK) || (s->flags & TCP_RST && !ack))
		ack = sack = receiver->end;
	if (s->flags & TCP_RST && !seq && unanswered)
		seq = end = sender->end;

	over = !seq_before(seq, sender->max_end + 1);
	received = !receiver->max_window || seq_before(sender->end - receiver->max_window - 1, end);
	ack_over = !seq_before(sack, receiver->end + 1);
	back = sender->max_window > ACK_WINDOW ? sender->max_window : ACK_WINDOW;
	ack_under = !seq_before(receiver->end - back - 1, sack);
	if (over || ack_over || !received || ack_under) {
		if (n->flags[direction] & LIBERAL)
			return WINDOW_INSIDE;
		if (!over)
			return ack_over ? WINDOW_OUTSIDE : WINDOW_NEAR;
		if (end - sender->max_end + 1 > receiver->max_window || ack_over || ack_under)
			return WINDOW_OUTSIDE;
		/* Some senders exceed the window a little, and some receivers take it. */
		sender->end = end;
		n->flags[direction] |= UNACKNOWLEDGED;
		return WINDOW_NEAR;
	}
	learn(n, s, direction, ack, sack, end);
	if (s->kind == KIND_ACK)
		count_retransmission(n->t, s, direction);
	return WINDOW_INSIDE;
}
