/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a packet.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/datapath.py, function by function: what is
 * decided here is decided there in the same order, and a test holds the two against
 * each other.
 *
 *	parsed ► defragment ► track ► translate ► route ► dp->outs
 *	                        │
 *	                        └ first of its flow: frontend? ► backend ► source
 *
 * Packets are rewritten where they lie.  What is made here (answers, fragments) lies
 * in dp->arena until the batch's output has been sent.  No system call, no clock, no
 * allocation but in the reassembler.
 *
 * A super-packet (see struct packet) passes like any other, once: that is what makes
 * it cheap.  Its parts are counted as the packets that they are on the wire.
 */
#include "datapath.h"

#include "balance.h"
#include "icmp.h"
#include "nat.h"
#include "route.h"
#include "served.h"

#define FRAGMENTATION_NEEDED	4

/**
 * struct job - A packet on its way
 * @origin:	As it came in
 * @p:		As it is now
 * @largest:	Its largest fragment's size, 0: it came whole
 * @from_tun:	Where it came from
 */
struct job {
	const struct pylb_packet *origin;
	struct packet *p;
	uint32_t largest;
	bool from_tun;
};

/**
 * drop() - Count the packet in hand as dropped
 * @dp:		Dataplane
 * @reason:	enum pylb_drop
 * @job:		The packet
 */
static void drop(struct pylb_dataplane *dp, int reason, const struct job *job)
{
	datapath_drop(dp, reason, job->p->segments, job->origin);
}

/**
 * too_big() - Tell the sender the MTU behind us (RFC 1191), quoting the packet as it was sent
 * @dp:		Dataplane
 * @job:	The packet, not yet translated
 */
static void too_big(struct pylb_dataplane *dp, const struct job *job)
{
	const struct pylb_node_config *node = plan_node(dp->plan);

	if (job->from_tun && !packet_is_icmp_error(job->p)) {
		const struct pylb_packet *sent = job->origin;
		uint32_t sender = get32(sent->data + 12);
		uint32_t source = plan_in_pods(dp->plan, sender) ? node->bridge_ip : node->node_ip;
		uint8_t *room = arena_take(dp, ANSWER_MAX);

		emit(dp, room, icmp_error(ICMP_UNREACHABLE, FRAGMENTATION_NEEDED, node->mtu,
					  sent->data, sent->len, source, sender, room));
	}
	drop(dp, PYLB_DROP_TOO_BIG, job);
}

/**
 * send_on() - Send a packet on to where it goes after translation
 * @dp:		Dataplane
 * @job:	The packet
 * @to:		What to make its addresses and ports, NULL: what they are
 */
static void send_on(struct pylb_dataplane *dp, struct job *job, const struct tuple *to)
{
	const struct pylb_node_config *node = plan_node(dp->plan);
	struct packet *p = job->p;
	uint32_t dst = to ? to->dst : p->tuple.dst;

	if (!job->largest && on_the_wire(p) > node->mtu &&
	    (p->fragment & IP_DONT_FRAGMENT || p->gso_size) && plan_peer_behind(dp->plan, dst)) {
		too_big(dp, job);
		return;
	}
	if (to)
		packet_rewrite(p, to);
	if (job->from_tun && packet_is_icmp_error(p) && plan_is_own(dp->plan, p->tuple.src) &&
	    plan_peer_behind(dp->plan, p->tuple.dst)) {
		/* The node's own error: a peer believes only what comes from our pods. */
		struct tuple ours = p->tuple;

		ours.src = node->tunnel_ip;
		packet_rewrite(p, &ours);
	}
	route(dp, p, job->largest, job->from_tun);
}

/**
 * translate() - Rewrite a packet as its flow asks and send it on
 * @dp:		Dataplane
 * @job:	The packet
 * @far:	The flow's tuple in the other direction
 */
static void translate(struct pylb_dataplane *dp, struct job *job, const struct tuple *far)
{
	struct tuple to = tuple_invert(far);

	send_on(dp, job, tuple_same(&to, &job->p->tuple) ? NULL : &to);
}

/**
 * invalid() - Of no valid flow: dropped if it would need translation, else passed on
 * @dp:		Dataplane
 * @job:	The packet
 * @ours:	It would need translation
 * @reason:	enum pylb_drop for that case
 */
static void invalid(struct pylb_dataplane *dp, struct job *job, bool ours, int reason)
{
	dp->counts[PYLB_COUNT_INVALID] += job->p->segments;
	if (ours)
		drop(dp, reason, job);
	else if (!job->from_tun && !plan_in_pods(dp->plan, job->p->tuple.dst))
		drop(dp, PYLB_DROP_NOT_FOR_THIS_NODE, job);
	else
		send_on(dp, job, NULL);
}

/**
 * untracked() - The node's own traffic: back to the TUN as it came
 * @dp:		Dataplane
 * @job:	The packet
 */
static void untracked(struct pylb_dataplane *dp, struct job *job)
{
	dp->counts[PYLB_COUNT_UNTRACKED] += job->p->segments;
	to_tun(dp, job->p, job->largest, true);
}

/**
 * reject() - Answer as a closed port does; the packet itself is counted as a drop
 * @dp:		Dataplane
 * @job:	The packet
 * @reason:	enum pylb_drop
 */
static void reject(struct pylb_dataplane *dp, struct job *job, int reason)
{
	const struct pylb_node_config *node = plan_node(dp->plan);
	uint32_t src = job->p->tuple.src;
	uint32_t source = plan_in_pods(dp->plan, src) ? node->bridge_ip : node->node_ip;
	uint8_t *room = arena_take(dp, ANSWER_MAX);
	uint32_t len;

	if (plan_peer_behind(dp->plan, src))
		source = node->tunnel_ip;
	len = rejection(job->p, source, room);
	if (len) {
		dp->counts[PYLB_COUNT_REJECTED]++;
		emit(dp, room, len);
	}
	drop(dp, reason, job);
}

/**
 * send_resets() - Make and send resets to one end
 * @dp:		Dataplane
 * @to:		Their addresses and ports
 * @numbers:	Their sequence numbers
 * @n:		How many
 */
static void send_resets(struct pylb_dataplane *dp, const struct tuple *to,
			const uint32_t *numbers, int n)
{
	for (int i = 0; i < n; i++) {
		uint8_t *room = arena_take(dp, ANSWER_MAX);

		emit(dp, room, tcp_segment(to, numbers[i], 0, TCP_RST, room));
	}
}

/**
 * reset() - The backend of a TCP flow is gone: reset both ends
 * @dp:		Dataplane
 * @job:	The packet that came, not the SYN of a new connection
 * @slot:	Its flow
 * @direction:	Its direction in it
 * @now:	Nanoseconds
 *
 * A receiver closes only for exactly the number that it awaits; for one behind it does
 * nothing at all, for one ahead it asks (RFC 5961 section 3).  Which one it awaits is not
 * known while packets are under way, so there is a reset for each that it may be.  The flow
 * stays for a while, closed: who asks, or has missed the reset, gets another.
 */
static void reset(struct pylb_dataplane *dp, struct job *job, uint32_t slot, int direction,
		  uint64_t now)
{
	struct flow *f = table_flow(dp->table, slot);
	struct tuple own = flow_tuple(f, !direction);
	struct tuple near = tuple_invert(&job->p->tuple), far = tuple_invert(&own);
	struct segment s = segment_read(job->p);
	uint32_t numbers[2];

	dp->counts[PYLB_COUNT_RESET]++;
	if (s.kind != KIND_RST && s.flags & TCP_ACK)
		send_resets(dp, &near, numbers,
			    tcp_awaited(&f->tcp, direction, true, s.ack, numbers));
	send_resets(dp, &far, numbers, tcp_awaited(&f->tcp, !direction, false, 0, numbers));
	track_abort(dp->table, slot, now, plan_node(dp->plan)->timeouts);
	drop(dp, PYLB_DROP_BACKEND_GONE, job);
}

/**
 * is_new_connection() - Does a packet of a flow begin anew?
 * @p:		Packet
 * @direction:	Its direction
 *
 * Return: true for all but TCP, and for a client's SYN
 */
static bool is_new_connection(const struct packet *p, int direction)
{
	return p->tuple.protocol != PROTO_TCP ||
	       (direction == ORIGINAL && segment_read(p).kind == KIND_SYN);
}

/**
 * open_flow() - Make a flow and send its first packet on
 * @dp:		Dataplane
 * @job:	The packet
 * @address:	Its destination after DNAT
 * @port:	The port there
 * @source:	What its source becomes
 * @frontend:	Which balanced it, or NULL
 * @now:	Nanoseconds
 */
static void open_flow(struct pylb_dataplane *dp, struct job *job, uint32_t address, uint16_t port,
		      const struct source *source, const struct frontend *frontend, uint64_t now)
{
	struct packet *p = job->p;
	bool translated = frontend || source->low || source->address != p->tuple.src;
	struct tuple reply;
	struct flow *f;
	uint32_t slot;

	if (!packet_checksum_ok(p)) {
		invalid(dp, job, translated, PYLB_DROP_BAD_L4_CHECKSUM);
		return;
	}
	if (!may_open(p)) {
		invalid(dp, job, translated, PYLB_DROP_INVALID_STATE);
		return;
	}
	if (!table_make_room(dp->table, now)) {
		drop(dp, PYLB_DROP_TABLE_FULL, job);
		return;
	}
	if (!reply_tuple(dp->table, dp->secret, &p->tuple, address, port, source, now, &reply)) {
		drop(dp, PYLB_DROP_SNAT_EXHAUSTED, job);
		return;
	}
	slot = table_create(dp->table, &p->tuple, &reply, now);
	f = table_flow(dp->table, slot);
	f->generation = dp->generation & GENERATION_MASK;
	if (frontend) {
		f->balanced = 1;
		f->service = frontend->key.service & 0xffffff;
		if (counts_load(frontend))
			table_weigh(dp->table, slot, LOAD_OPEN);
	}
	dp->counts[PYLB_COUNT_NEW]++;
	track(dp->table, slot, p, ORIGINAL, true, now, plan_node(dp->plan)->timeouts);
	translate(dp, job, &reply);
}

/**
 * balance_first() - A first packet to a frontend: choose a backend and the source it will see
 * @dp:		Dataplane
 * @job:	The packet
 * @frontend:	The frontend
 * @choices:	Which of its backends the flow may have
 * @now:	Nanoseconds
 */
static void balance_first(struct pylb_dataplane *dp, struct job *job,
			  const struct frontend *frontend, const struct choices *choices,
			  uint64_t now)
{
	const struct tuple *original = &job->p->tuple;
	const struct pylb_backend *backend;
	struct source source;

	if (!may_open(job->p)) {
		invalid(dp, job, true, PYLB_DROP_INVALID_STATE);
		return;
	}
	if (!admits(dp->plan, frontend, original->src)) {
		drop(dp, PYLB_DROP_SOURCE_RANGE, job);
		return;
	}
	backend = balance(dp->table, dp->affinity, dp->secret, frontend, choices, original, now);
	if (!backend) {
		/* Nobody is left: of the active ones, or of others when there are none of these. */
		if (frontend->key.elsewhere && !frontend->key.backends)
			drop(dp, PYLB_DROP_NO_LOCAL_ENDPOINT, job);
		else
			reject(dp, job, PYLB_DROP_NO_ENDPOINT);
		return;
	}
	source = source_to_backend(dp->plan, original, frontend, backend,
				   backend->local || plan_peer_behind(dp->plan, backend->address));
	open_flow(dp, job, backend->address, backend->port, &source, frontend, now);
}

/**
 * first() - A packet without a flow: a Service's, a pod's, or none of our business
 * @dp:		Dataplane
 * @job:	The packet
 * @now:	Nanoseconds
 */
static void first(struct pylb_dataplane *dp, struct job *job, uint64_t now)
{
	const struct pylb_plan *plan = dp->plan;
	const struct tuple *t = &job->p->tuple;
	struct source source = { .address = t->src };
	bool to_peer, to_pod;

	if (job->from_tun) {
		const struct frontend *frontend = NULL;
		struct choices choices;

		if (t->protocol == PROTO_TCP || t->protocol == PROTO_UDP)
			frontend = plan_frontend(plan, t->dst, t->dport, t->protocol);
		if (frontend && eligible(plan, frontend, t->src, &choices)) {
			balance_first(dp, job, frontend, &choices, now);
			return;
		}
		if (plan_is_vip(plan, t->dst)) {
			reject(dp, job, PYLB_DROP_NO_SUCH_FRONTEND);
			return;
		}
		if (plan_in_services(plan, t->dst)) {
			drop(dp, PYLB_DROP_UNALLOCATED_VIP, job);
			return;
		}
		if (plan_is_own(plan, t->dst)) {
			untracked(dp, job);
			return;
		}
	}
	if (t->dst == plan_node(plan)->tunnel_ip) {
		reject(dp, job, PYLB_DROP_NO_SUCH_FRONTEND);
		return;
	}
	to_peer = plan_peer_behind(plan, t->dst);
	to_pod = to_peer || plan_in_pods(plan, t->dst);
	if (!job->from_tun) {
		if (!plan_in_pods(plan, t->dst)) {
			drop(dp, PYLB_DROP_NOT_FOR_THIS_NODE, job);
			return;
		}
	} else {
		if ((plan_is_own(plan, t->src) && !to_peer) ||
		    (!to_pod && !plan_in_pods(plan, t->src))) {
			untracked(dp, job);
			return;
		}
		source = source_without_backend(plan, t, to_pod);
	}
	open_flow(dp, job, t->dst, t->dport, &source, NULL, now);
}

/**
 * existing() - A packet of a tracked flow: move its state, translate it, send it on
 * @dp:		Dataplane
 * @job:	The packet
 * @slot:	Its flow
 * @direction:	Its direction in it
 * @now:	Nanoseconds
 */
static void existing(struct pylb_dataplane *dp, struct job *job, uint32_t slot, int direction,
		     uint64_t now)
{
	struct flow *f = table_flow(dp->table, slot);
	/* Read first: the packet may be the flow's last. */
	struct tuple far = flow_tuple(f, !direction);

	dp->counts[PYLB_COUNT_FOUND] += job->p->segments;
	if (f->generation != (dp->generation & GENERATION_MASK) &&
	    !still_right(dp->plan, dp->generation, f, direction, job->from_tun)) {
		if (!f->balanced || is_new_connection(job->p, direction)) {
			table_destroy(dp->table, slot, now);
			first(dp, job, now);
		} else {
			reset(dp, job, slot, direction, now);
		}
		return;
	}
	if (!packet_checksum_ok(job->p)) {
		invalid(dp, job, flow_translated(f), PYLB_DROP_BAD_L4_CHECKSUM);
		return;
	}
	switch (track(dp->table, slot, job->p, direction, false, now,
		      plan_node(dp->plan)->timeouts)) {
	case VERDICT_REOPEN:
		first(dp, job, now);
		break;
	case VERDICT_INVALID:
		invalid(dp, job, flow_translated(f), PYLB_DROP_INVALID_STATE);
		break;
	default:
		translate(dp, job, &far);
	}
}

/**
 * receive_icmp_error() - Translated with the flow that it is about, or not ours
 * @dp:		Dataplane
 * @job:	The packet
 * @now:	Nanoseconds
 */
static void receive_icmp_error(struct pylb_dataplane *dp, struct job *job, uint64_t now)
{
	const struct pylb_plan *plan = dp->plan;
	const struct tuple *t = &job->p->tuple;
	struct packet quoted;
	const struct flow *f;
	int direction;
	uint32_t slot = related_flow(dp->table, job->p, now, &direction, &quoted);

	if (slot == NO_FLOW) {
		bool ours = plan_is_vip(plan, t->dst) || plan_in_services(plan, t->dst) ||
			    t->dst == plan_node(plan)->tunnel_ip ||
			    (plan_in_pods(plan, t->src) && !plan_in_pods(plan, t->dst) &&
			     !plan_is_own(plan, t->dst) && !plan_peer_behind(plan, t->dst));

		invalid(dp, job, ours, PYLB_DROP_INVALID_STATE);
		return;
	}
	f = table_flow(dp->table, slot);
	if (!packet_checksum_ok(job->p)) {
		invalid(dp, job, flow_translated(f), PYLB_DROP_BAD_L4_CHECKSUM);
		return;
	}
	if (flow_translated(f) && t->dport >> 8 == ICMP_REDIRECT) {
		invalid(dp, job, true, PYLB_DROP_INVALID_STATE);
		return;
	}
	translate_error(job->p, f, direction, &quoted);
	if (plan_is_vip(plan, t->dst) || plan_in_services(plan, t->dst)) {
		/* It quotes a flow but goes to somebody else, who is nobody. */
		invalid(dp, job, true, PYLB_DROP_INVALID_STATE);
		return;
	}
	send_on(dp, job, NULL);
}

/**
 * fragment_lost() - A fragment that waited goes with its datagram
 * @context:	Dataplane
 * @reason:	enum pylb_drop
 * @packet:	The fragment, as it came in
 */
static void fragment_lost(void *context, int reason, const struct pylb_packet *packet)
{
	datapath_drop(context, reason, 1, packet);
}

/**
 * datapath_receive() - A packet has come in; what it becomes is in dp->outs
 * @dp:		Dataplane with a plan, and with room (datapath_has_room())
 * @p:		The packet, parsed; HEADROOM bytes before it may be overwritten
 * @origin:	As it came in; what it points to may be the same bytes
 * @now:	Nanoseconds
 */
void datapath_receive(struct pylb_dataplane *dp, struct packet *p,
		      const struct pylb_packet *origin, uint64_t now)
{
	struct job job = { .origin = origin, .p = p, .from_tun = origin->kind == PYLB_TUN };
	struct packet whole, held;
	uint32_t slot;
	int direction;

	if (plan_is_vip(dp->plan, p->tuple.src) || plan_in_services(dp->plan, p->tuple.src)) {
		/* Nobody has a VIP: believed, it would have us answer to it. */
		drop(dp, PYLB_DROP_BAD_ADDRESS, &job);
		return;
	}
	if (packet_is_fragment(p)) {
		int reason;

		switch (reassembler_add(dp->reassembler, p, origin, now, fragment_lost, dp, &whole,
					&job.largest, &reason)) {
		case FRAGMENT_KEPT:
			return;
		case FRAGMENT_BAD:
			drop(dp, reason, &job);
			return;
		case FRAGMENT_WHOLE:
			/* The reassembler's buffer is good for one packet, a batch has more. */
			p = memcpy(&held, &whole, sizeof(held));
			p->data = memcpy(arena_take(dp, p->len), whole.data, p->len);
			job.p = p;
		}
	}
	if (packet_is_icmp_error(p)) {
		receive_icmp_error(dp, &job, now);
		return;
	}
	if (!p->hashed) {
		p->hash = table_hash(dp->table, &p->tuple);
		p->hashed = true;
	}
	slot = table_lookup(dp->table, &p->tuple, p->hash, now, &direction);
	if (slot == NO_FLOW)
		first(dp, &job, now);
	else
		existing(dp, &job, slot, direction, now);
}

/**
 * datapath_expire() - Give up fragments whose time is over
 * @dp:		Dataplane
 * @now:	Nanoseconds
 */
void datapath_expire(struct pylb_dataplane *dp, uint64_t now)
{
	reassembler_expire(dp->reassembler, now, fragment_lost, dp);
}
