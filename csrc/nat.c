/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which source a new flow gets, and finding one that no other flow uses.
 *
 * Theory of Operation
 * ===================
 *
 * The first half is a table: who asks, for what, and where the backend is decide the
 * source address and whether the port is kept.  The second half finds a reply tuple
 * that is free, in an order that is specified exactly, because the Python dataplane
 * must find the same one (pylb/dataplane/python/nat.py):
 *
 *  1. Where the port is kept, the flow's own port.
 *  2. The ports of the range, one after the other and around, from
 *     low + SipHash-2-4(secret, "s" + original tuple) mod size: the first whose reply
 *     tuple is free.
 *  3. TCP: the same walk once more, taking the first whose reply tuple belongs to a
 *     flow in TIME_WAIT, which is destroyed.
 *
 * A kept port that is not free is sought in its class: 1-511, 512-1023 or 1024-65535
 * (Linux nf_nat_core.c, nf_nat_l4proto_unique_tuple); an ICMP identifier in 0-65535.
 */
#include "nat.h"

#include "balance.h"
#include "hash.h"

/* Who sent the first packet of a flow. */
enum client { CLIENT_POD, CLIENT_HOST, CLIENT_OUTSIDE };

/**
 * client_of() - Where a packet from the node's TUN comes from
 * @plan:	Plan
 * @source:	The packet's source address
 *
 * Return: enum client
 */
static enum client client_of(const struct pylb_plan *plan, uint32_t source)
{
	if (plan_is_own(plan, source))
		return CLIENT_HOST;
	return plan_in_pods(plan, source) ? CLIENT_POD : CLIENT_OUTSIDE;
}

/**
 * keep_port() - A source with the flow's own port
 * @address:	Source address
 *
 * Return: the source
 */
static struct source keep_port(uint32_t address)
{
	return (struct source){ .address = address };
}

/**
 * masquerade() - The node as source, from a port that brings the answer back to us
 * @plan:	Plan
 *
 * Return: the source
 */
static struct source masquerade(const struct pylb_plan *plan)
{
	const struct pylb_node_config *node = plan_node(plan);

	return (struct source){ node->node_ip, node->masquerade_low, node->masquerade_high };
}

/**
 * source_to_backend() - The source of a flow that goes to a backend
 * @plan:	Plan
 * @original:	The flow's first packet
 * @f:		Frontend that balances it
 * @backend:	Where it goes
 * @to_pod:	The backend is a pod, of any node
 *
 * A backend outside the cluster knows neither pods nor tunnel ends, so it sees the node.
 * A process of the node itself would answer the node past us: it sees the tunnel's end.
 *
 * Return: the source
 */
struct source source_to_backend(const struct pylb_plan *plan, const struct tuple *original,
				const struct frontend *f, const struct pylb_backend *backend,
				bool to_pod)
{
	const struct pylb_node_config *node = plan_node(plan);
	enum client client = client_of(plan, original->src);

	if (plan_is_own(plan, backend->address))
		return keep_port(node->tunnel_ip);
	if (!to_pod) {
		if (client == CLIENT_POD && !node->masquerade)
			return keep_port(original->src);
		return masquerade(plan);
	}
	if (client == CLIENT_HOST || backend->address == original->src)
		return keep_port(node->tunnel_ip);
	if (client == CLIENT_POD &&
	    (f->key.kind == PYLB_CLUSTER_IP || f->key.kind == PYLB_LOCAL_REDIRECT))
		return keep_port(original->src);
	if (f->key.local_only)
		return keep_port(original->src);
	return keep_port(backend->local ? node->node_ip : node->tunnel_ip);
}

/**
 * source_without_backend() - The source of a flow that no frontend balances
 * @plan:	Plan
 * @original:	The flow's first packet
 * @to_pod:	It goes to a pod, of any node
 *
 * Return: the source
 */
struct source source_without_backend(const struct pylb_plan *plan, const struct tuple *original,
				     bool to_pod)
{
	enum client client = client_of(plan, original->src);

	if (client == CLIENT_HOST)
		return keep_port(plan_node(plan)->tunnel_ip);
	if (client == CLIENT_POD && !to_pod && plan_node(plan)->masquerade)
		return masquerade(plan);
	return keep_port(original->src);
}

/**
 * holder_of() - The flow that a new one with this direction would clash with
 * @table:	Flows
 * @key:	Tuple
 * @now:	Nanoseconds
 *
 * Return: its slot, or NO_FLOW
 */
static uint32_t holder_of(struct table *table, const struct tuple *key, uint64_t now)
{
	int direction;

	return table_lookup(table, key, table_hash(table, key), now, &direction);
}

/**
 * class_of() - Where a port that cannot be kept is sought
 * @source:	Its ports are set
 * @original:	The flow's first packet
 */
static void class_of(struct source *source, const struct tuple *original)
{
	if (original->protocol == PROTO_ICMP) {
		source->low = 0;
		source->high = 65535;
	} else if (original->sport < 512) {
		source->low = 1;
		source->high = 511;
	} else if (original->sport < 1024) {
		source->low = 512;
		source->high = 1023;
	} else {
		source->low = 1024;
		source->high = 65535;
	}
}

/**
 * walk() - Try the ports of a range, around, from a place that the flow decides
 * @table:	Flows
 * @secret:	SIPHASH_KEY_LEN bytes
 * @original:	The flow's first packet
 * @base:	What it becomes, but for the source port, which is set
 * @source:	The range
 * @now:	Nanoseconds
 * @waiting:	Take what a flow in TIME_WAIT has, and destroy that, instead of what is free
 * @reply:	Out: the reply tuple
 *
 * Return: true if one was found
 */
static bool walk(struct table *table, const uint8_t *secret, const struct tuple *original,
		 struct tuple *base, const struct source *source, uint64_t now, bool waiting,
		 struct tuple *reply)
{
	uint32_t size = (uint32_t)source->high - source->low + 1;
	uint8_t bytes[1 + TUPLE_BYTES] = { 's' };
	uint32_t step;

	tuple_bytes(original, bytes + 1);
	step = (uint32_t)(pylb_siphash(secret, bytes, sizeof(bytes)) % size);
	for (uint32_t i = 0; i < size; i++) {
		uint32_t holder;

		base->sport = (uint16_t)(source->low + step);
		*reply = tuple_invert(base);
		holder = holder_of(table, reply, now);
		if (!waiting && holder == NO_FLOW)
			return true;
		if (waiting && holder != NO_FLOW &&
		    table_flow(table, holder)->state == TCP_TIME_WAIT) {
			table_destroy(table, holder, now);
			return true;
		}
		if (++step == size)
			step = 0;
	}
	return false;
}

/**
 * reply_tuple() - A free reply tuple for a new flow
 * @table:	Flows
 * @secret:	SIPHASH_KEY_LEN bytes
 * @original:	The flow's first packet
 * @address:	Its destination after DNAT
 * @port:	The port there; ignored for protocols without one
 * @source:	What its source becomes
 * @now:	Nanoseconds
 * @reply:	Out: the reply tuple
 *
 * Return: false if there is none left
 */
bool reply_tuple(struct table *table, const uint8_t *secret, const struct tuple *original,
		 uint32_t address, uint16_t port, const struct source *source, uint64_t now,
		 struct tuple *reply)
{
	bool ports = has_ports(original->protocol);
	struct tuple base = *original;
	struct source range = *source;

	base.src = source->address;
	base.dst = address;
	if (ports)
		base.dport = port;
	*reply = tuple_invert(&base);
	if (!ports && original->protocol != PROTO_ICMP)
		return holder_of(table, reply, now) == NO_FLOW;
	if (!range.low) {
		if (holder_of(table, reply, now) == NO_FLOW)
			return true;
		class_of(&range, original);
	}
	if (walk(table, secret, original, &base, &range, now, false, reply))
		return true;
	return original->protocol == PROTO_TCP &&
	       walk(table, secret, original, &base, &range, now, true, reply);
}
