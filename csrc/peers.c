/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other nodes: which one is at an address, and which one is behind it.
 *
 * Theory of Operation
 * ===================
 *
 * Every packet asks which peer its destination is behind, several times.  That takes
 * one probe of a hash table for each length of subnet that occurs, which is one probe
 * in any cluster whose nodes have podCIDRs of one size.  Peers' subnets do not overlap,
 * so the first that is found is the only one.
 *
 * What VXLAN puts before a packet depends on the peer alone, and is made here once.
 */
#include "peers.h"

#include <stdlib.h>

#define PEER_MAC	8	/* where struct peer.headers has the peer's MAC... */
#define NODE_MAC	14	/* ...this node's... */
#define ETHERTYPE	20	/* ...and what is inside */

/**
 * at_cell() - Where an address is in the table by address, or would be
 * @peers:	Peers
 * @address:	Underlay address
 *
 * Return: the cell
 */
static inline uint32_t *at_cell(const struct peers *peers, uint32_t address)
{
	uint32_t i = (uint32_t)mix(address) & peers->table_mask;

	while (peers->at[i] && peers->list[peers->at[i] - 1].address != address)
		i = (i + 1) & peers->table_mask;
	return &peers->at[i];
}

/**
 * behind_cell() - Where a subnet is in the table by subnet, or would be
 * @peers:	Peers
 * @subnet:	Its address
 * @mask:	Its netmask
 *
 * Return: the cell
 */
static inline uint32_t *behind_cell(const struct peers *peers, uint32_t subnet, uint32_t mask)
{
	uint32_t i = (uint32_t)mix((uint64_t)mask << 32 | subnet) & peers->table_mask;

	for (;; i = (i + 1) & peers->table_mask) {
		uint32_t *cell = &peers->behind[i];

		if (!*cell || (peers->list[*cell - 1].subnet == subnet &&
			       peers->list[*cell - 1].mask == mask))
			return cell;
	}
}

/**
 * peers_at() - The peer at an underlay address
 * @peers:	Peers
 * @address:	Any address
 *
 * Return: the peer, NULL if it is none's
 */
const struct peer *peers_at(const struct peers *peers, uint32_t address)
{
	uint32_t cell = *at_cell(peers, address);

	return cell ? &peers->list[cell - 1] : NULL;
}

/**
 * peers_behind() - The peer whose pods' subnet holds an address
 * @peers:	Peers
 * @address:	Any address
 *
 * Return: the peer, NULL if there is none
 */
const struct peer *peers_behind(const struct peers *peers, uint32_t address)
{
	for (uint32_t i = 0; i < peers->n_masks; i++) {
		uint32_t mask = peers->masks[i];
		uint32_t cell = *behind_cell(peers, address & mask, mask);

		if (cell)
			return &peers->list[cell - 1];
	}
	return NULL;
}

/**
 * put_headers() - Write what goes before each packet to a peer (RFC 7348 section 5)
 * @p:		Peer, whose VTEP's MAC is already there
 * @node:	This node
 */
static void put_headers(struct peer *p, const struct pylb_node_config *node)
{
	put32(p->headers, 0x08000000);		/* there is a VNI */
	put32(p->headers + 4, node->vni << 8);
	memcpy(p->headers + NODE_MAC, node->mac, sizeof(node->mac));
	put16(p->headers + ETHERTYPE, 0x0800);
}

/**
 * add_mask() - Note that peers have subnets of this size
 * @peers:	Peers in the making
 * @mask:	Netmask
 *
 * Return: false if there is no room, which takes more than netmasks
 */
static bool add_mask(struct peers *peers, uint32_t mask)
{
	for (uint32_t i = 0; i < peers->n_masks; i++)
		if (peers->masks[i] == mask)
			return true;
	if (peers->n_masks == sizeof(peers->masks) / sizeof(peers->masks[0]))
		return false;
	peers->masks[peers->n_masks++] = mask;
	return true;
}

/**
 * allocate() - Make room for peers
 * @peers:	Peers in the making
 * @count:	Their number
 *
 * Return: false if there is no memory
 */
static bool allocate(struct peers *peers, size_t count)
{
	size_t size;

	memset(peers, 0, sizeof(*peers));
	if (count > MOST_ENTRIES)
		return false;
	peers->table_mask = mask_for(count);
	size = (size_t)peers->table_mask + 1;
	peers->list = calloc(count + 1, sizeof(*peers->list));
	peers->at = calloc(size, sizeof(*peers->at));
	peers->behind = calloc(size, sizeof(*peers->behind));
	return peers->list && peers->at && peers->behind;
}

/**
 * add() - Let the next peer of the list be found
 * @peers:	Peers in the making
 * @node:	This node
 *
 * The later of two peers with one address or one subnet is found.
 *
 * Return: false if its mask is no netmask
 */
static bool add(struct peers *peers, const struct pylb_node_config *node)
{
	struct peer *p = &peers->list[peers->count++];

	put_headers(p, node);
	*at_cell(peers, p->address) = peers->count;
	*behind_cell(peers, p->subnet, p->mask) = peers->count;
	return add_mask(peers, p->mask);
}

/**
 * peers_make() - Make the peers of a plan
 * @peers:	Out; to be freed whatever is returned
 * @given:	Peers
 * @count:	Their number
 * @node:	This node
 *
 * Return: false if there is no memory, or a mask is no netmask
 */
bool peers_make(struct peers *peers, const struct pylb_peer *given, size_t count,
		const struct pylb_node_config *node)
{
	if (!allocate(peers, count))
		return false;
	for (size_t i = 0; i < count; i++) {
		struct peer *p = &peers->list[i];

		p->address = given[i].address;
		p->subnet = given[i].subnet;
		p->mask = given[i].mask;
		memcpy(p->headers + PEER_MAC, given[i].mac, sizeof(given[i].mac));
		if (!add(peers, node))
			return false;
	}
	return true;
}

/**
 * peers_copy() - The same peers, of a node that may have changed
 * @peers:	Out; to be freed whatever is returned
 * @from:	Peers, or NULL: none
 * @node:	This node
 *
 * Return: false if there is no memory
 */
bool peers_copy(struct peers *peers, const struct peers *from, const struct pylb_node_config *node)
{
	if (!allocate(peers, from ? from->count : 0))
		return false;
	for (uint32_t i = 0; from && i < from->count; i++) {
		peers->list[i] = from->list[i];
		add(peers, node);
	}
	return true;
}

/**
 * peers_free() - Free what peers consist of
 * @peers:	Peers, or zeroes
 */
void peers_free(struct peers *peers)
{
	free(peers->list);
	free(peers->at);
	free(peers->behind);
}
