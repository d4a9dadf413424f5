/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plan knows by address alone: who has it, and whether it is virtual.
 *
 * Theory of Operation
 * ===================
 *
 * Two questions of the packet path: is anybody there to answer (the backend of a flow is
 * gone when not), and is it an address that no machine has.  Both are one probe of a hash
 * table that is at most half full, see plan.c.
 *
 * Most changes leave nearly all addresses as they are, so that the table of the plan
 * before is copied as it is, with what nothing has any more, while these leave room.
 */
#include "addresses.h"

#include <stdlib.h>

/**
 * addresses_init() - Begin with none
 * @a:		Addresses
 * @most:	How many there will be
 *
 * Return: false if there is no memory
 */
bool addresses_init(struct addresses *a, size_t most)
{
	if (most > MOST_ENTRIES)
		return false;
	a->mask = mask_for(most);
	a->cells = calloc((size_t)a->mask + 1, sizeof(*a->cells));
	return a->cells;
}

/**
 * addresses_end() - Free them
 * @a:	Addresses, or only zeros
 */
void addresses_end(struct addresses *a)
{
	free(a->cells);
}

/**
 * addresses_fit() - May another table be taken over as it is?
 * @a:		Addresses that have begun
 * @from:	The other table
 * @coming:	How many addresses may be added to it
 *
 * Return: true if it is of the same size, and has room
 */
bool addresses_fit(const struct addresses *a, const struct addresses *from, size_t coming)
{
	return from->mask == a->mask && from->n_known + coming <= a->mask / 2;
}

/**
 * addresses_copy() - Take another table over as it is
 * @a:		Addresses that have begun
 * @from:	The other table, for which addresses_fit()
 */
void addresses_copy(struct addresses *a, const struct addresses *from)
{
	memcpy(a->cells, from->cells, ((size_t)from->mask + 1) * sizeof(*a->cells));
	a->n_known = from->n_known;
	a->n_held = from->n_held;
}

/**
 * addresses_copy_held() - Take over what a pod or an endpoint has, and no more
 * @a:		Addresses that have begun
 * @from:	Another table
 */
void addresses_copy_held(struct addresses *a, const struct addresses *from)
{
	for (size_t i = 0; i <= from->mask; i++)
		if (from->cells[i].holders)
			addresses_hold(a, from->cells[i].address, from->cells[i].holders);
}

/**
 * know() - Where an address is, which is known from now on
 * @a:		Addresses with room for it
 * @address:	Address, not 0
 *
 * Return: its cell
 */
static struct address *know(struct addresses *a, uint32_t address)
{
	struct address *cell = addresses_find(a, address);

	if (!cell->address) {
		cell->address = address;
		a->n_known++;
	}
	return cell;
}

/**
 * addresses_hold() - Say how many pods and endpoints have an address
 * @a:		Addresses with room for it
 * @address:	Address; 0 is passed over
 * @holders:	Their number
 */
void addresses_hold(struct addresses *a, uint32_t address, uint32_t holders)
{
	struct address *cell;

	if (!address)
		return;
	cell = know(a, address);
	a->n_held += (uint32_t)!!holders - (uint32_t)!!cell->holders;
	cell->holders = holders;
}

/**
 * addresses_count_vip() - A frontend with a virtual address has come or gone
 * @a:		Addresses with room for it
 * @address:	Its address, not 0
 * @by:		1 or -1
 */
void addresses_count_vip(struct addresses *a, uint32_t address, int by)
{
	know(a, address)->vips += (uint32_t)by;
}
