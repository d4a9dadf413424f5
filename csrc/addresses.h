/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_ADDRESSES_H
#define PYLB_ADDRESSES_H

#include "hash.h"
#include "packet.h"

/**
 * struct address - What is known of an address
 * @address:	The address; 0, which nobody has: the cell is empty
 * @holders:	How many pods and endpoints have it
 * @vips:	How many frontends have it, if it is not the node's own
 *
 * With neither nothing has it any more: a plan before had it, and a later one will not
 * know it.
 */
struct address {
	uint32_t address, holders, vips;
};

/**
 * struct addresses - What a plan knows by address alone; never altered once it is made
 * @cells:	Hash table by address
 * @mask:	Its size less 1
 * @n_known:	How many cells are taken
 * @n_held:	How many of these addresses a pod or an endpoint has
 */
struct addresses {
	struct address *cells;
	uint32_t mask;
	uint32_t n_known, n_held;
};

bool addresses_init(struct addresses *a, size_t most);
void addresses_end(struct addresses *a);
bool addresses_fit(const struct addresses *a, const struct addresses *from, size_t coming);
void addresses_copy(struct addresses *a, const struct addresses *from);
void addresses_copy_held(struct addresses *a, const struct addresses *from);
void addresses_hold(struct addresses *a, uint32_t address, uint32_t holders);
void addresses_count_vip(struct addresses *a, uint32_t address, int by);

/**
 * addresses_find() - Where an address is, or would be
 * @a:		Addresses
 * @address:	Any address
 *
 * Return: the cell; its @address is 0 if this one is not known
 */
static inline struct address *addresses_find(const struct addresses *a, uint32_t address)
{
	uint32_t at = (uint32_t)mix(address) & a->mask;

	while (a->cells[at].address && a->cells[at].address != address)
		at = (at + 1) & a->mask;
	return &a->cells[at];
}

#endif
