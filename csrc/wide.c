/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters with more than 32 bits.
 *
 * Theory of Operation
 * ===================
 *
 * Few flows ever move 4 GiB, so a flow's record has the low 32 bits of its counters
 * only.  The high ones of those few are here, in a hash table of fixed size with room
 * for one flow in 64; a flow with an entry is marked.  Where there is no room left the
 * carry is lost: such a flow's counters are then right modulo 2^32.
 *
 * Linear probing; taking an entry out moves those behind it up, so that no look-up ever
 * meets a gap.
 */
#include "wide.h"

#include <stdlib.h>

#define SHARE	64	/* flows to an entry... */
#define LEAST	16	/* ...and entries besides */

/**
 * struct wide_entry - The high parts of one flow's counters
 * @owner:	Slot + 1, 0: empty
 * @packets:	By direction
 * @bytes:	By direction
 */
struct wide_entry {
	uint32_t owner;
	uint32_t packets[2], bytes[2];
};

/**
 * wide_init() - Make an empty table
 * @w:		Table, out
 * @max_flows:	Most flows there are
 *
 * Return: false when there is no memory
 */
bool wide_init(struct wide_counters *w, uint32_t max_flows)
{
	w->n_entries = max_flows / SHARE + LEAST;
	w->entries = calloc(w->n_entries, sizeof(*w->entries));
	return w->entries;
}

/**
 * wide_end() - Free what wide_init() took
 * @w:	Table
 */
void wide_end(struct wide_counters *w)
{
	free(w->entries);
}

/**
 * home() - Where a flow's entry would best lie
 * @w:		Table
 * @owner:	Slot + 1
 *
 * Return: index
 */
static uint32_t home(const struct wide_counters *w, uint32_t owner)
{
	/* 2^32 divided by the golden ratio spreads neighbours. */
	return (uint32_t)((uint64_t)(owner * 2654435769u) * w->n_entries >> 32);
}

/**
 * find() - A flow's entry, or the empty one that it could have
 * @w:		Table
 * @owner:	Slot + 1
 *
 * Return: entry, NULL when it has none and there is no room
 */
static struct wide_entry *find(const struct wide_counters *w, uint32_t owner)
{
	uint32_t at = home(w, owner);

	for (uint32_t n = 0; n < w->n_entries; n++) {
		struct wide_entry *e = &w->entries[at];

		if (e->owner == owner || !e->owner)
			return e;
		at = at + 1 == w->n_entries ? 0 : at + 1;
	}
	return NULL;
}

/**
 * wide_carry() - Count what did not fit into a flow's record
 * @w:		Table
 * @f:		Flow
 * @slot:	Its slot
 * @direction:	Direction
 * @packets:	Another 2^32 packets
 * @bytes:	Another 2^32 bytes
 */
void wide_carry(struct wide_counters *w, struct flow *f, uint32_t slot, int direction,
		bool packets, bool bytes)
{
	struct wide_entry *e = find(w, slot + 1);

	if (!e)
		return;
	e->owner = slot + 1;
	e->packets[direction] += packets;
	e->bytes[direction] += bytes;
	f->wide = 1;
}

/**
 * wide_read() - Add the high parts of a flow's counters
 * @w:		Table
 * @slot:	The flow's, which is marked as having some
 * @view:	Its counters, to be added to
 */
void wide_read(const struct wide_counters *w, uint32_t slot, struct pylb_flow *view)
{
	const struct wide_entry *e = find(w, slot + 1);

	if (!e)
		return;
	for (int direction = ORIGINAL; direction <= REPLY; direction++) {
		view->packets[direction] += (uint64_t)e->packets[direction] << 32;
		view->bytes[direction] += (uint64_t)e->bytes[direction] << 32;
	}
}

/**
 * wide_forget() - A flow has ended
 * @w:		Table
 * @slot:	The flow's, which is marked as having some
 */
void wide_forget(struct wide_counters *w, uint32_t slot)
{
	struct wide_entry *e = find(w, slot + 1);
	uint32_t hole, at;

	if (!e || !e->owner)
		return;
	hole = at = (uint32_t)(e - w->entries);
	for (uint32_t n = 1; n < w->n_entries; n++) {
		uint32_t wanted;

		at = at + 1 == w->n_entries ? 0 : at + 1;
		if (!w->entries[at].owner)
			break;
		/* It may move up unless that would put it before its home, counted around. */
		wanted = home(w, w->entries[at].owner);
		if ((at + w->n_entries - wanted) % w->n_entries <
		    (at + w->n_entries - hole) % w->n_entries)
			continue;
		w->entries[hole] = w->entries[at];
		hole = at;
	}
	w->entries[hole] = (struct wide_entry){ 0 };
}
