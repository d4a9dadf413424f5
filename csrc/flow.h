/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_FLOW_H
#define PYLB_FLOW_H

#include "tcp.h"

#define SECOND		1000000000ull	/* nanoseconds */
#define NO_FLOW		UINT32_MAX
#define MOST_FLOWS	0xfffc00u	/* a slot has 24 bits, and some are the timers' */

/* What a flow counts for at its backend; of those that no scheduler looks at, nothing. */
enum flow_load { LOAD_NONE, LOAD_OPEN, LOAD_CLOSING };

#define GENERATION_MASK	0x3fffffffu	/* a flow remembers so many bits of it */

/**
 * struct flow - One connection, 116 bytes
 * @src:	Original direction: source address
 * @dst:	Original direction: destination address
 * @reply_src:	Reply direction: source address
 * @reply_dst:	Reply direction: destination address
 * @sport:	Original direction: source port
 * @dport:	Original direction: destination port
 * @reply_sport:	Reply direction: source port
 * @reply_dport:	Reply direction: destination port
 * @deadline:	Dead when now is not below it, nanoseconds
 * @state:	enum tcp_state, TCP_NONE for other protocols
 * @assured:	Not to be evicted
 * @seen_reply:	Packets have passed in both directions
 * @balanced:	A frontend chose its backend; the frontend's key is the original
 *		destination, the backend is the reply's source
 * @wide:	A counter has more bits, elsewhere
 * @id:		Rises with creation; 0: the slot is free
 * @prev:	Neighbour in the list that holds the flow
 * @next:	Neighbour in the list that holds the flow
 * @protocol:	IANA number
 * @last_scale:	TCP: see struct tcp_context
 * @alive:	In the index; clear while only its DESTROY is still to come
 * @horizon:	Which of the timers' horizons it lies within
 * @service:	The frontend's service number, when balanced
 * @generation:	Plan generation that it was last held against
 * @load:	What it counts for at its backend: enum flow_load
 * @packets:	By direction, the low 32 bits
 * @bytes:	By direction, the low 32 bits
 * @tcp:	TCP's numbers
 * @started:	Other protocols: when the flow was made, nanoseconds
 */
struct flow {
	uint32_t src, dst;
	uint32_t reply_src, reply_dst;
	uint16_t sport, dport;
	uint16_t reply_sport, reply_dport;
	uint64_t deadline : 56, state : 4, assured : 1, seen_reply : 1, balanced : 1, wide : 1;
	uint64_t id : 40, prev : 24;
	uint64_t next : 24, service : 24, protocol : 8, last_scale : 4, alive : 1, horizon : 3;
	uint32_t generation : 30, load : 2;
	uint32_t packets[2];
	uint32_t bytes[2];
	union {
		struct tcp tcp;
		uint64_t started;
	} __attribute__((packed, aligned(4)));
} __attribute__((packed, aligned(4)));

struct tuple flow_tuple(const struct flow *f, int direction);
bool flow_translated(const struct flow *f);
void flow_view(const struct flow *f, uint32_t slot, uint64_t now, struct pylb_flow *view);

/**
 * flow_direction() - Which direction of a flow is a tuple?
 * @f:		Flow
 * @key:	Tuple
 *
 * Return: ORIGINAL or REPLY, -1 for neither; ORIGINAL when it is both
 */
static inline int flow_direction(const struct flow *f, const struct tuple *key)
{
	if (f->protocol != key->protocol)
		return -1;
	if (!((f->src ^ key->src) | (f->dst ^ key->dst) |
	      (uint32_t)((f->sport ^ key->sport) | (f->dport ^ key->dport))))
		return ORIGINAL;
	if (!((f->reply_src ^ key->src) | (f->reply_dst ^ key->dst) |
	      (uint32_t)((f->reply_sport ^ key->sport) | (f->reply_dport ^ key->dport))))
		return REPLY;
	return -1;
}

#endif
