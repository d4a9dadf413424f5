/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a flow's record says.
 *
 * Theory of Operation
 * ===================
 *
 * The reply tuple is what an answer looks like before it is translated back, so it alone
 * says how the flow is translated: a packet in the original direction becomes the
 * inverse of the reply, one in the reply direction the inverse of the original.
 */
#include "flow.h"

#include <assert.h>

static_assert(sizeof(struct flow) == 116, "with its share of the index, below 128 bytes");

/**
 * flow_tuple() - One direction of a flow
 * @f:		Flow
 * @direction:	ORIGINAL or REPLY
 *
 * Return: its tuple
 */
struct tuple flow_tuple(const struct flow *f, int direction)
{
	if (direction == REPLY)
		return (struct tuple){ f->reply_src, f->reply_dst, f->reply_sport, f->reply_dport,
				       f->protocol };
	return (struct tuple){ f->src, f->dst, f->sport, f->dport, f->protocol };
}

/**
 * flow_translated() - Does some address or port change on the way?
 * @f:	Flow
 *
 * Return: true if so
 */
bool flow_translated(const struct flow *f)
{
	struct tuple original = flow_tuple(f, ORIGINAL), reply = flow_tuple(f, REPLY);
	struct tuple forward = tuple_invert(&reply);

	return !tuple_same(&forward, &original);
}

/**
 * flow_view() - What is told of a flow
 * @f:		Flow; of counters only the low bits are here
 * @slot:	Its slot
 * @now:	Nanoseconds
 * @view:	Out
 */
void flow_view(const struct flow *f, uint32_t slot, uint64_t now, struct pylb_flow *view)
{
	*view = (struct pylb_flow){
		.id = f->id,
		.packets = { f->packets[ORIGINAL], f->packets[REPLY] },
		.bytes = { f->bytes[ORIGINAL], f->bytes[REPLY] },
		.slot = slot,
		.timeout = f->deadline > now ? (uint32_t)((f->deadline - now) / SECOND) : 0,
		.service = f->service,
		.generation = f->generation,
		.src = f->src,
		.dst = f->dst,
		.reply_src = f->reply_src,
		.reply_dst = f->reply_dst,
		.sport = f->sport,
		.dport = f->dport,
		.reply_sport = f->reply_sport,
		.reply_dport = f->reply_dport,
		.protocol = f->protocol,
		.state = f->state,
		.seen_reply = f->seen_reply,
		.assured = f->assured,
		.balanced = f->balanced,
	};
}
