/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_PEERS_H
#define PYLB_PEERS_H

#include "hash.h"
#include "packet.h"

#define VXLAN_HEADERS	22	/* bytes: VXLAN (8) and the inner Ethernet header (14) */

/**
 * struct peer - Another node
 * @address:	Its underlay address
 * @subnet:	Its pods' prefix
 * @mask:	Netmask of @subnet
 * @headers:	What goes before each packet to it when the overlay is VXLAN
 */
struct peer {
	uint32_t address;
	uint32_t subnet, mask;
	uint8_t headers[VXLAN_HEADERS];
};

/**
 * struct peers - The other nodes; never altered once they are made
 * @list:	In the order in which they were given
 * @count:	Their number
 * @at:		Hash table by address: 0, or one more than the position in @list
 * @behind:	The same by subnet and mask
 * @table_mask:	Size of either, less 1
 * @masks:	Netmasks that occur, in the order in which they do
 * @n_masks:	Their number
 */
struct peers {
	struct peer *list;
	uint32_t count;
	uint32_t *at, *behind;
	uint32_t table_mask;
	uint32_t masks[33];
	uint32_t n_masks;
};

bool peers_make(struct peers *peers, const struct pylb_peer *given, size_t count,
		const struct pylb_node_config *node);
bool peers_copy(struct peers *peers, const struct peers *from, const struct pylb_node_config *node);
void peers_free(struct peers *peers);
const struct peer *peers_at(const struct peers *peers, uint32_t address);
const struct peer *peers_behind(const struct peers *peers, uint32_t address);

#endif
