/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing flows in the order of their end.
 *
 * Theory of Operation
 * ===================
 *
 * A merge sort that needs no memory: each flow taken from the list is a sorted list of
 * one, and two of the same size are merged at once, while they are in the cache.
 */
#include "list.h"

#define MOST_LISTS	25	/* 2^24 flows and a carry */

/**
 * merge() - Merge two sorted lists
 * @flows:	By slot
 * @a:		First slot of one
 * @b:		First slot of the other
 * @none:	What ends a list
 *
 * Return: first slot of both
 */
static uint32_t merge(struct flow *flows, uint32_t a, uint32_t b, uint32_t none)
{
	uint32_t first = none, last = none;

	while (a != none && b != none) {
		const struct flow *x = &flows[a], *y = &flows[b];
		uint32_t least = a;

		if (y->deadline < x->deadline || (y->deadline == x->deadline && y->id < x->id)) {
			least = b;
			b = y->next;
		} else {
			a = x->next;
		}
		if (last == none)
			first = least;
		else
			flows[last].next = least & SLOT_MASK;
		last = least;
	}
	if (last == none)
		return a == none ? b : a;
	flows[last].next = (a == none ? b : a) & SLOT_MASK;
	return first;
}

/**
 * list_sort() - Sort a list by (deadline, id)
 * @flows:	By slot
 * @first:	First slot of a list linked by @next alone
 * @none:	What ends it, 24 bits
 *
 * Return: the first slot
 */
uint32_t list_sort(struct flow *flows, uint32_t first, uint32_t none)
{
	/* Sorted lists of 2^i flows, or none: the bits of how many have been seen. */
	uint32_t sorted[MOST_LISTS], result = none;

	for (int i = 0; i < MOST_LISTS; i++)
		sorted[i] = none;
	while (first != none) {
		uint32_t one = first;
		int i = 0;

		first = flows[one].next;
		flows[one].next = none & SLOT_MASK;
		for (; sorted[i] != none; i++) {
			one = merge(flows, sorted[i], one, none);
			sorted[i] = none;
		}
		sorted[i] = one;
	}
	for (int i = 0; i < MOST_LISTS; i++)
		result = merge(flows, sorted[i], result, none);
	return result;
}
