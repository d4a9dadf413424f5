/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_TCP_H
#define PYLB_TCP_H

#include "window.h"

/* The kernel's order (enum tcp_conntrack). */
enum tcp_state {
	TCP_NONE,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_ESTABLISHED,
	TCP_FIN_WAIT,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_SYN_SENT2,
};

/* What is to be done with a segment and its flow; see pylb.dataplane.python.tcp.Verdict. */
enum verdict {
	VERDICT_ACCEPT,
	VERDICT_IGNORE,
	VERDICT_INVALID,
	VERDICT_REOPEN,
	VERDICT_DELETE,
	VERDICT_KEEP,
};

/**
 * struct tcp_context - A flow's state as tcp_track() reads and writes it
 * @tcp:		Numbers
 * @state:		enum tcp_state
 * @last_scale:		Window scale of the last SYN that was ignored
 * @seen_reply:		The flow has seen a packet in both directions
 * @assured:		The flow is assured
 * @now_assured:	Set when the segment makes it so
 * @timeout:		Out, seconds: on VERDICT_ACCEPT and _DELETE the new timeout, on
 *			VERDICT_INVALID a bound for the one that it has (0: none)
 */
struct tcp_context {
	struct tcp *tcp;
	uint8_t state, last_scale;
	bool seen_reply, assured, now_assured;
	uint32_t timeout;
};

bool tcp_opens(const struct packet *p);
void tcp_start(struct tcp_context *c, const struct packet *p);
int tcp_awaited(const struct tcp *t, int direction, bool acknowledges, uint32_t acknowledged,
		uint32_t numbers[2]);
enum verdict tcp_track(struct tcp_context *c, const struct packet *p, int direction,
		       const uint32_t *timeouts);

#endif
