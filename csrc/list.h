/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_LIST_H
#define PYLB_LIST_H

#include "flow.h"

/*
 * Lists of flows, linked by slot numbers.  A doubly linked list is a ring that begins
 * and ends at a head, which is a record of the same pool: so a flow is taken out without
 * knowing which list that is.
 */

#define SLOT_MASK	0xffffffu	/* 24 bits, as in struct flow */
#define NO_SLOT		SLOT_MASK	/* what ends a list that is linked by @next alone */

uint32_t list_sort(struct flow *flows, uint32_t first, uint32_t none);

/**
 * list_init() - Make an empty list, or a flow that is in none
 * @flows:	By slot
 * @head:	Its head
 */
static inline void list_init(struct flow *flows, uint32_t head)
{
	flows[head].prev = flows[head].next = head & SLOT_MASK;
}

/**
 * list_is_empty() - Is a list empty?
 * @flows:	By slot
 * @head:	Its head
 *
 * Return: true if so
 */
static inline bool list_is_empty(const struct flow *flows, uint32_t head)
{
	return flows[head].next == head;
}

/**
 * list_unlink() - Take a flow out of its list
 * @flows:	By slot
 * @slot:	The flow's
 */
static inline void list_unlink(struct flow *flows, uint32_t slot)
{
	uint32_t prev = flows[slot].prev, next = flows[slot].next;

	flows[prev].next = next & SLOT_MASK;
	flows[next].prev = prev & SLOT_MASK;
}

/**
 * list_append() - Put a flow at the tail of a list
 * @flows:	By slot
 * @head:	The list's
 * @slot:	The flow's
 */
static inline void list_append(struct flow *flows, uint32_t head, uint32_t slot)
{
	uint32_t tail = flows[head].prev;

	flows[slot].prev = tail & SLOT_MASK;
	flows[slot].next = head & SLOT_MASK;
	flows[tail].next = slot & SLOT_MASK;
	flows[head].prev = slot & SLOT_MASK;
}

#endif
