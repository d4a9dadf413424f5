/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of a packet's way: dropped, to the TUN, to a peer, whole or in fragments.
 *
 * Theory of Operation
 * ===================
 *
 * Where a packet goes is decided by its destination alone: behind a peer or not.  What
 * is to leave is listed in dp->outs, in order, and lies where it was received or, if it
 * was made here, in dp->arena; both are emptied when the batch has been sent.  Before a
 * packet is received, datapath_has_room() makes sure that the most that one packet can
 * become fits: its 8 192 smallest fragments.
 */
#include "route.h"

#include "overlay.h"

/**
 * datapath_drop() - Count a drop, and report it to who asked for that
 * @dp:		Dataplane
 * @reason:	enum pylb_drop
 * @packets:	How many are dropped, on the wire
 * @origin:	The packet as it came in
 */
void datapath_drop(struct pylb_dataplane *dp, int reason, uint32_t packets,
		   const struct pylb_packet *origin)
{
	dp->drops[reason] += packets;
	if (dp->dropped)
		dp->dropped(dp->context, reason, origin);
}

/**
 * datapath_has_room() - May another packet be received before the output is sent?
 * @dp:	Dataplane
 *
 * Return: true if the most that a packet can become fits
 */
bool datapath_has_room(const struct pylb_dataplane *dp)
{
	return dp->n_outs + MOST_PIECES <= OUTS && dp->used <= ARENA / 2;
}

/**
 * datapath_clear() - The output has been sent
 * @dp:	Dataplane
 */
void datapath_clear(struct pylb_dataplane *dp)
{
	dp->n_outs = 0;
	dp->used = 0;
}

/**
 * arena_take() - Room for a packet that is made here
 * @dp:		Dataplane
 * @len:	Bytes of the packet
 *
 * Return: room for it with HEADROOM before it; datapath_has_room() has seen to that
 */
uint8_t *arena_take(struct pylb_dataplane *dp, uint32_t len)
{
	uint8_t *room = dp->arena + dp->used + HEADROOM;

	dp->used += HEADROOM + ((len + 7) & ~7u);
	return room;
}

/**
 * on_the_wire() - Bytes of the largest packet that a packet is on the wire
 * @p:	Packet
 *
 * Return: @p->len, for a super-packet headers and one segment's payload
 */
uint32_t on_the_wire(const struct packet *p)
{
	if (!p->gso_size)
		return p->len;
	if (p->tuple.protocol == PROTO_TCP)
		return p->l4 + (p->data[p->l4 + 12] >> 4) * 4u + p->gso_size;
	return p->l4 + 8u + p->gso_size;
}

/**
 * put_out() - List a packet for sending
 * @dp:		Dataplane with room
 * @p:		Packet
 * @peer:		Where the overlay takes it, NULL: to the TUN
 * @spread:	Decides the overlay's source port
 */
static void put_out(struct pylb_dataplane *dp, const struct packet *p, const struct peer *peer,
		    uint32_t spread)
{
	struct out *out = &dp->outs[dp->n_outs++];

	out->packet = *p;
	out->peer = peer;
	out->spread = spread;
}

/**
 * put_pieces() - Send a packet out, in fragments if it must be
 * @dp:		Dataplane
 * @p:		Packet
 * @size:	Most bytes of a piece
 * @peer:	Where the overlay takes it, NULL: to the TUN
 * @spread:	Decides the overlay's source port
 * @count:	What to count the pieces under
 */
static void put_pieces(struct pylb_dataplane *dp, struct packet *p, uint32_t size,
		       const struct peer *peer, uint32_t spread, enum pylb_count count)
{
	struct packet piece = *p;
	uint32_t offset = 0;

	if (on_the_wire(p) <= size) {
		dp->counts[count] += p->segments;
		put_out(dp, p, peer, spread);
		return;
	}
	packet_complete(p);
	do {
		piece.data = arena_take(dp, size);
		offset = fragment_next(p, size, offset, piece.data, &piece.len);
		piece.here = piece.len;
		piece.csum = CSUM_COMPLETE;
		dp->counts[count]++;
		put_out(dp, &piece, peer, spread);
	} while (offset);
}

/**
 * one_hop() - Give back what the second of two kernel forwards will take from the TTL
 * @p:		Packet that goes from TUN to TUN
 */
static void one_hop(struct packet *p)
{
	/* In and out of the TUN are two kernel forwards; the node is to count as one hop. */
	packet_set_ttl(p, p->ttl == 255 ? 255 : (uint8_t)(p->ttl + 1));
}

/**
 * to_tun() - Send a packet to the TUN
 * @dp:		Dataplane
 * @p:		Packet
 * @largest:	Its largest fragment's size when it came in, 0: it came whole
 * @from_tun:	It came from there
 */
void to_tun(struct pylb_dataplane *dp, struct packet *p, uint32_t largest, bool from_tun)
{
	if (from_tun)
		one_hop(p);
	put_pieces(dp, p, largest ? largest : IP_MAX, NULL, 0, PYLB_COUNT_TUN_OUT);
}

/**
 * route() - Send a packet to where its destination points
 * @dp:		Dataplane
 * @p:		Packet
 * @largest:	As for to_tun()
 * @from_tun:	It came from the TUN
 */
void route(struct pylb_dataplane *dp, struct packet *p, uint32_t largest, bool from_tun)
{
	const struct pylb_node_config *node = plan_node(dp->plan);
	const struct peer *peer = plan_peer_behind(dp->plan, p->tuple.dst);
	uint32_t size = largest && largest < node->mtu ? largest : node->mtu;

	if (!peer) {
		to_tun(dp, p, largest, from_tun);
	} else if (node->overlay == PYLB_HOST_GW) {
		if (from_tun)
			one_hop(p);
		put_pieces(dp, p, size, NULL, 0, PYLB_COUNT_TUN_OUT);
	} else {
		put_pieces(dp, p, size, peer, overlay_spread(p), PYLB_COUNT_OVERLAY_OUT);
	}
}

/**
 * emit() - Send a packet that was made here
 * @dp:		Dataplane
 * @data:	The packet, from arena_take()
 * @len:	Its bytes, 0: there is none
 */
void emit(struct pylb_dataplane *dp, uint8_t *data, uint32_t len)
{
	struct packet p;

	if (len && packet_parse(&p, data, len) == PACKET_OK)
		route(dp, &p, 0, false);
}
