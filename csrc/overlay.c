/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the nodes: the bytes around a packet.
 *
 * Theory of Operation
 * ===================
 *
 * VXLAN (RFC 7348) puts 22 bytes before a packet: its own header and an inner
 * Ethernet header between the two VTEPs.  They are the same for every packet to a
 * peer, so the plan has them ready.  flannel's UDP backend puts nothing.
 *
 * A datagram is believed only from a peer's own address, and only if the packet
 * inside comes from that peer's subnet: whoever can reach the port could otherwise
 * speak for any pod.
 */
#include "overlay.h"

#include "hash.h"

#define VXLAN_HEADER		8
#define VXLAN_VNI_PRESENT	0x08
#define ETHERTYPE_IPV4		0x0800
#define ETHERTYPE_AT		(VXLAN_HEADERS - 2)

/**
 * overlay_open() - The packet inside a datagram
 * @plan:	Plan
 * @sender:	Address that the datagram came from
 * @data:	UDP payload
 * @len:	Its bytes
 * @p:		Out: the packet, where it lies in @data
 *
 * Return: PACKET_OK, or the enum pylb_drop for which it is dropped
 */
int overlay_open(const struct pylb_plan *plan, uint32_t sender, uint8_t *data, uint32_t len,
		 struct packet *p)
{
	const struct pylb_node_config *node = plan_node(plan);
	const struct peer *peer = plan_peer_at(plan, sender);
	int reason;

	if (!peer)
		return PYLB_DROP_UNKNOWN_PEER;
	if (node->overlay == PYLB_FLANNEL_UDP) {
		if (!len)
			return PYLB_DROP_BAD_ENCAPSULATION;
	} else {
		if (len < VXLAN_HEADERS || !(data[0] & VXLAN_VNI_PRESENT))
			return PYLB_DROP_BAD_ENCAPSULATION;
		if (get32(data + 4) >> 8 != node->vni)
			return PYLB_DROP_WRONG_VNI;
		if (get16(data + ETHERTYPE_AT) != ETHERTYPE_IPV4)
			return PYLB_DROP_BAD_ENCAPSULATION;
		data += VXLAN_HEADERS;
		len -= VXLAN_HEADERS;
	}
	reason = packet_parse(p, data, len);
	if (reason != PACKET_OK)
		return reason;
	if ((p->tuple.src & peer->mask) != peer->subnet)
		return PYLB_DROP_SPOOFED_INNER_SOURCE;
	return PACKET_OK;
}

/**
 * overlay_headers() - What goes before a packet to a peer, inside the UDP payload
 * @plan:	Plan
 * @peer:	Peer of that plan
 * @headers:	Out: the bytes
 *
 * Return: their number, 0 for flannel-UDP
 */
uint32_t overlay_headers(const struct pylb_plan *plan, const struct peer *peer,
			 const uint8_t **headers)
{
	*headers = peer->headers;
	return plan_node(plan)->overlay == PYLB_VXLAN ? VXLAN_HEADERS : 0;
}

/**
 * overlay_spread() - What decides the source port of the datagram
 * @p:	Inner packet
 *
 * Return: the inner flow's Toeplitz hash
 */
uint32_t overlay_spread(const struct packet *p)
{
	return pylb_toeplitz(p->tuple.src, p->tuple.dst, p->tuple.sport, p->tuple.dport);
}
