/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A timing wheel of flows.
 *
 * Theory of Operation
 * ===================
 *
 * The lowest level has a slot for each tick of 2^24 ns (17 ms), those above have one for
 * each 2^32, 2^38, 2^44 and 2^50 ns; each is a list.  Together they reach as far as a
 * deadline has bits.  The wheel is lazy, since every
 * packet renews a flow: one that lives longer stays where it is, and is put where it
 * belongs when its slot comes due.  One that is to die earlier must move at once; but a
 * TCP flow's timeout falls from days to minutes with each segment that is not yet
 * acknowledged, and rises again.  So a flow remembers how far ahead its slot was at most
 * when it was put there (its horizon), and a renewal that reaches as far needs no move
 * either, whatever the flow had in between.
 *
 * What comes due is looked at in steps of one flow (the budget): a slot of a high level
 * can hold all flows there are, and packets do not wait for that.  Such a slot's flows
 * become pending; pending ones are dead, due in this tick, or put farther on.  Those due
 * in this very tick are sorted once, so that each dies at its own nanosecond.  The wheel
 * turns on when nothing is pending.
 *
 * Nothing here looks at the clock; @now never runs backwards.
 */
#include "wheel.h"

#include <assert.h>

#define TICK_BITS	24
#define NEAR_BITS	8	/* log2 of NEAR_SLOTS */
#define FAR_BITS	6	/* log2 of FAR_SLOTS */

static_assert(1 << NEAR_BITS == NEAR_SLOTS && 1 << FAR_BITS == FAR_SLOTS, "powers of two");
static_assert(FAR_SLOTS == 64, "one word says which slots of a level are in use");
static_assert(DEADLINE_MASK >> TICK_BITS >> NEAR_BITS >> (FAR_LEVELS * FAR_BITS) == 0,
	      "the highest level is never gone around");

/* Seconds; the last is farther than any. */
static const uint64_t horizons[] = { 10, 30, 60, 120, 180, 300, 600, UINT64_MAX };

#define LAST_HORIZON	(sizeof(horizons) / sizeof(horizons[0]) - 1)

static_assert(LAST_HORIZON == 7, "a flow has 3 bits for its horizon");

/**
 * wheel_init() - Make an empty wheel
 * @w:		Wheel, out
 * @flows:	By slot
 * @first_head:	Slot of the first of WHEEL_HEADS heads
 */
void wheel_init(struct wheel *w, struct flow *flows, uint32_t first_head)
{
	*w = (struct wheel){ .flows = flows, .first_head = first_head, .due_sorted = true };
	for (uint32_t i = 0; i < WHEEL_HEADS; i++)
		list_init(flows, first_head + i);
}

/**
 * wheel_link() - Put a flow into the wheel, by its deadline
 * @w:		Wheel
 * @slot:	The flow's; it is in no list
 * @now:	Nanoseconds
 */
void wheel_link(struct wheel *w, uint32_t slot, uint64_t now)
{
	struct flow *f = &w->flows[slot];
	uint64_t at = f->deadline >> TICK_BITS, tick = w->tick;
	uint32_t head = w->first_head, level = 0, horizon = 0;

	while (horizon < LAST_HORIZON && f->deadline > now + horizons[horizon] * SECOND)
		horizon++;
	f->horizon = horizon & 7;

	if (at <= tick) {
		head += HEAD_DUE;
		w->due_sorted = false;
	} else if (at - tick < NEAR_SLOTS) {
		at %= NEAR_SLOTS;
		w->near[at / 64] |= 1ull << at % 64;
		head += HEAD_NEAR + (uint32_t)at;
	} else {
		at >>= NEAR_BITS;
		tick >>= NEAR_BITS;
		while (at - tick >= FAR_SLOTS) {
			at >>= FAR_BITS;
			tick >>= FAR_BITS;
			level++;
		}
		at %= FAR_SLOTS;
		w->far[level] |= 1ull << at;
		head += HEAD_FAR + level * FAR_SLOTS + (uint32_t)at;
	}
	list_append(w->flows, head, slot);
}

/**
 * next_used() - The next slot of a level that may hold a flow
 * @used:	A bit for each slot of the level
 * @words:	Words in @used
 * @at:		Where the level stands, in its own ticks
 *
 * Return: its tick, after @at; UINT64_MAX when there is none
 */
static uint64_t next_used(const uint64_t *used, uint32_t words, uint64_t at)
{
	uint64_t from = at + 1;

	/* Word by word from the slot after @at on; the first word's low bits come last. */
	for (uint32_t i = 0; i <= words; i++) {
		uint64_t word = used[from / 64 % words] >> from % 64;

		if (word) {
			from += (uint64_t)__builtin_ctzll(word);
			return from - at < words * 64ull ? from : UINT64_MAX;
		}
		from = (from / 64 + 1) * 64;
	}
	return UINT64_MAX;
}

/**
 * next_tick() - When the wheel next has something to do
 * @w:		Wheel
 *
 * Return: tick, UINT64_MAX when there is none
 */
static uint64_t next_tick(const struct wheel *w)
{
	uint64_t next = next_used(w->near, NEAR_SLOTS / 64, w->tick);

	for (uint32_t level = 0; level < FAR_LEVELS; level++) {
		uint32_t shift = NEAR_BITS + level * FAR_BITS;
		uint64_t at = next_used(&w->far[level], 1, w->tick >> shift);

		if (at != UINT64_MAX && at << shift < next)
			next = at << shift;
	}
	return next;
}

/**
 * make_pending() - Move all flows of a wheel's slot to those that are looked at
 * @w:		Wheel
 * @head:	The slot's, enum wheel_head
 */
static void make_pending(struct wheel *w, uint32_t head)
{
	struct flow *flows = w->flows;
	uint32_t from = w->first_head + head, to = w->first_head + HEAD_PENDING;
	uint32_t first = flows[from].next, last = flows[from].prev, tail = flows[to].prev;

	if (first == from)
		return;
	flows[tail].next = first & SLOT_MASK;
	flows[first].prev = tail & SLOT_MASK;
	flows[last].next = to & SLOT_MASK;
	flows[to].prev = last & SLOT_MASK;
	flows[from].next = flows[from].prev = from & SLOT_MASK;
}

/**
 * turn() - Turn the wheel to where it next has something to do
 * @w:		Wheel; nothing is pending
 * @until:	No farther than this tick
 *
 * Return: true if there is something
 */
static bool turn(struct wheel *w, uint64_t until)
{
	uint64_t tick = next_tick(w), slot;

	if (tick > until) {
		if (w->tick < until)
			w->tick = until;
		return false;
	}
	w->tick = tick;
	for (uint32_t level = 0; level < FAR_LEVELS; level++) {
		uint32_t shift = NEAR_BITS + level * FAR_BITS;

		if (tick & ((1ull << shift) - 1))
			break;
		slot = (tick >> shift) % FAR_SLOTS;
		w->far[level] &= ~(1ull << slot);
		make_pending(w, HEAD_FAR + level * FAR_SLOTS + (uint32_t)slot);
	}
	slot = tick % NEAR_SLOTS;
	w->near[slot / 64] &= ~(1ull << slot % 64);
	make_pending(w, HEAD_NEAR + (uint32_t)slot);
	return true;
}

/**
 * sort_due() - Bring what is due in this tick in order
 * @w:		Wheel
 */
static void sort_due(struct wheel *w)
{
	struct flow *flows = w->flows;
	uint32_t head = w->first_head + HEAD_DUE, prev = head, slot;

	slot = list_sort(flows, flows[head].next, head);
	flows[head].next = slot & SLOT_MASK;
	/* Sorting only kept the links forward. */
	for (; slot != head; prev = slot, slot = flows[slot].next)
		flows[slot].prev = prev & SLOT_MASK;
	flows[head].prev = prev & SLOT_MASK;
	w->due_sorted = true;
}

/**
 * wheel_renew() - Give a flow in the wheel another deadline
 * @w:		Wheel
 * @slot:	The flow's
 * @deadline:	Nanoseconds
 * @seconds:	How far ahead of @now that is
 * @now:	Nanoseconds
 */
void wheel_renew(struct wheel *w, uint32_t slot, uint64_t deadline, uint32_t seconds,
		 uint64_t now)
{
	struct flow *f = &w->flows[slot];
	bool stays = deadline >= f->deadline || seconds >= horizons[f->horizon];

	f->deadline = deadline & DEADLINE_MASK;
	if (!stays) {
		list_unlink(w->flows, slot);
		wheel_link(w, slot, now);
	}
}

/**
 * wheel_pop() - Take a dead flow out
 * @w:		Wheel
 * @now:	Nanoseconds
 * @budget:	How many flows may be looked at; counted down
 *
 * Return: slot; NO_FLOW when there is none, or when @budget is used up.  In no order.
 */
uint32_t wheel_pop(struct wheel *w, uint64_t now, uint32_t *budget)
{
	const uint32_t due = w->first_head + HEAD_DUE, pending = w->first_head + HEAD_PENDING;
	struct flow *flows = w->flows;
	uint32_t slot;

	do {
		while ((slot = flows[pending].next) != pending) {
			if (!*budget)
				return NO_FLOW;
			--*budget;
			list_unlink(flows, slot);
			if (flows[slot].deadline <= now)
				return slot;
			wheel_link(w, slot, now);
		}
		if (!w->due_sorted)
			sort_due(w);
		while ((slot = flows[due].next) != due) {
			bool dead = flows[slot].deadline <= now;

			/* What was renewed goes farther on; the rest lives within this tick. */
			if (!dead && flows[slot].deadline >> TICK_BITS <= w->tick)
				break;
			if (!*budget)
				return NO_FLOW;
			--*budget;
			list_unlink(flows, slot);
			if (dead)
				return slot;
			wheel_link(w, slot, now);
		}
	} while (turn(w, now >> TICK_BITS));
	w->popped = now;
	return NO_FLOW;
}

/**
 * wheel_next_deadline() - When the next flow dies
 * @w:	Wheel
 *
 * Return: nanoseconds, no later than that, maybe earlier; UINT64_MAX when nothing dies
 */
uint64_t wheel_next_deadline(const struct wheel *w)
{
	const uint32_t due = w->first_head + HEAD_DUE, pending = w->first_head + HEAD_PENDING;
	uint64_t first, tick;

	if (!list_is_empty(w->flows, pending))
		return w->tick << TICK_BITS;
	if (!list_is_empty(w->flows, due)) {
		first = w->flows[w->flows[due].next].deadline;
		/* Renewed meanwhile, or not in order: all that is known is that it lived. */
		if (!w->due_sorted || first >> TICK_BITS > w->tick)
			return w->popped + 1;
		return first;
	}
	tick = next_tick(w);
	return tick == UINT64_MAX ? tick : tick << TICK_BITS;
}
