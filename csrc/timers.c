/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When flows die, and which is evicted.
 *
 * Theory of Operation
 * ===================
 *
 * Every flow is in one list.
 *
 * Unassured flows may be evicted, the one that was renewed longest ago first.  They are
 * in one list for each timeout (class), and go to its tail with each renewal: a class is
 * in order of renewal and, having one timeout, of deadline too.  So both the next to die
 * and the next to evict are found at the heads.  With more than CLASSES timeouts at a
 * time (a plan has PYLB_TIMEOUTS) a flow goes to the wheel, and is not found for eviction.
 *
 * Assured flows are in a timing wheel, where a renewal costs nothing.
 *
 * Nothing here looks at the clock; @now never runs backwards.
 */
#include "timers.h"

#include <assert.h>

#define LINKS_AT	40	/* in struct flow: @prev ends here and @next begins */

static_assert(MOST_FLOWS + TIMERS_HEADS <= NO_SLOT, "the heads are slots, too");

/**
 * deadline_after() - When a timeout that begins now ends
 * @seconds:	Timeout
 * @now:	Nanoseconds
 *
 * Return: nanoseconds, what a flow has bits for at most
 */
static inline uint64_t deadline_after(uint32_t seconds, uint64_t now)
{
	uint64_t deadline = now + seconds * SECOND;

	return deadline < DEADLINE_MASK ? deadline : DEADLINE_MASK;
}

/**
 * timers_init() - Make all lists, empty
 * @timers:	Timers, out
 * @flows:	By slot, the heads' included
 * @first_head:	Slot of the first of TIMERS_HEADS heads
 */
void timers_init(struct timers *timers, struct flow *flows, uint32_t first_head)
{
	timers->flows = flows;
	timers->first_head = first_head;
	timers->n_classes = 0;
	for (uint32_t class = 0; class < CLASSES; class++)
		list_init(flows, first_head + class);
	wheel_init(&timers->wheel, flows, first_head + CLASSES);
}

/**
 * class_of() - The list of unassured flows with a timeout
 * @timers:	Timers
 * @seconds:	Timeout
 *
 * Return: slot of its head, NO_FLOW when there are too many timeouts
 */
static uint32_t class_of(struct timers *timers, uint32_t seconds)
{
	uint32_t class;

	for (class = 0; class < timers->n_classes; class++)
		if (timers->seconds[class] == seconds)
			return timers->first_head + class;
	for (class = 0; class < timers->n_classes; class++)
		if (list_is_empty(timers->flows, timers->first_head + class))
			break;
	if (class == CLASSES)
		return NO_FLOW;
	if (class == timers->n_classes)
		timers->n_classes++;
	timers->seconds[class] = seconds;
	return timers->first_head + class;
}

/**
 * timers_add() - Take a new flow in; it is dead until it is renewed
 * @timers:	Timers
 * @slot:	The flow's
 * @now:	Nanoseconds
 */
void timers_add(struct timers *timers, uint32_t slot, uint64_t now)
{
	timers->flows[slot].deadline = deadline_after(0, now) & DEADLINE_MASK;
	list_init(timers->flows, slot);
}

/**
 * timers_remove() - Forget a flow
 * @timers:	Timers
 * @slot:	The flow's
 */
void timers_remove(struct timers *timers, uint32_t slot)
{
	list_unlink(timers->flows, slot);
}

/**
 * timers_renew() - Give a flow another timeout, from now on
 * @timers:	Timers
 * @slot:	The flow's
 * @seconds:	Timeout
 * @now:	Nanoseconds
 */
void timers_renew(struct timers *timers, uint32_t slot, uint32_t seconds, uint64_t now)
{
	struct flow *f = &timers->flows[slot];
	uint64_t deadline = deadline_after(seconds, now);
	uint32_t head;

	if (f->assured) {
		wheel_renew(&timers->wheel, slot, deadline, seconds, now);
		return;
	}
	f->deadline = deadline & DEADLINE_MASK;
	head = class_of(timers, seconds);
	if (f->next == head)
		return;
	list_unlink(timers->flows, slot);
	if (head == NO_FLOW)
		wheel_link(&timers->wheel, slot, now);
	else
		list_append(timers->flows, head, slot);
}

/**
 * timers_assure() - Make a flow assured, with a timeout from now on
 * @timers:	Timers
 * @slot:	The flow's; it is not assured
 * @seconds:	Timeout
 * @now:	Nanoseconds
 */
void timers_assure(struct timers *timers, uint32_t slot, uint32_t seconds, uint64_t now)
{
	timers->flows[slot].deadline = deadline_after(seconds, now) & DEADLINE_MASK;
	timers_retain(timers, slot, now);
}

/**
 * timers_retain() - Make a flow assured, with the deadline that it has
 * @timers:	Timers
 * @slot:	The flow's; it is not assured
 * @now:	Nanoseconds
 */
void timers_retain(struct timers *timers, uint32_t slot, uint64_t now)
{
	timers->flows[slot].assured = 1;
	list_unlink(timers->flows, slot);
	wheel_link(&timers->wheel, slot, now);
}

/**
 * timers_prefetch() - Ask for what a renewal touches besides the flow
 * @timers:	Timers
 * @slot:	The flow's
 */
void timers_prefetch(const struct timers *timers, uint32_t slot)
{
	const struct flow *flows = timers->flows, *f = &flows[slot];

	if (f->assured)
		return;
	__builtin_prefetch((const uint8_t *)&flows[f->prev] + LINKS_AT, 1);
	__builtin_prefetch((const uint8_t *)&flows[f->next] + LINKS_AT, 1);
}

/**
 * timers_victim() - The unassured flow that was renewed longest ago
 * @timers:	Timers
 *
 * Return: slot or NO_FLOW.  Of several renewed in the same moment, the one with the
 * smallest timeout.
 */
uint32_t timers_victim(const struct timers *timers)
{
	uint32_t victim = NO_FLOW, its_seconds = 0;
	int64_t its_renewal = INT64_MAX;

	for (uint32_t class = 0; class < timers->n_classes; class++) {
		uint32_t head = timers->first_head + class;
		uint32_t slot = timers->flows[head].next, seconds = timers->seconds[class];
		int64_t renewal;

		if (slot == head)
			continue;
		renewal = (int64_t)(timers->flows[slot].deadline - seconds * SECOND);
		if (victim == NO_FLOW || renewal < its_renewal ||
		    (renewal == its_renewal && seconds < its_seconds)) {
			victim = slot;
			its_renewal = renewal;
			its_seconds = seconds;
		}
	}
	return victim;
}

/**
 * pop_class() - Take a dead unassured flow out
 * @timers:	Timers
 * @now:	Nanoseconds
 *
 * Return: slot or NO_FLOW
 */
static uint32_t pop_class(struct timers *timers, uint64_t now)
{
	for (uint32_t class = 0; class < timers->n_classes; class++) {
		uint32_t head = timers->first_head + class;
		uint32_t slot = timers->flows[head].next;

		if (slot != head && timers->flows[slot].deadline <= now) {
			list_unlink(timers->flows, slot);
			return slot;
		}
	}
	return NO_FLOW;
}

/**
 * timers_pop() - Take a dead flow out
 * @timers:	Timers
 * @now:	Nanoseconds
 * @budget:	How many flows may be looked at; counted down
 *
 * Return: slot; NO_FLOW when there is none, or when @budget is used up.  In no order.
 */
uint32_t timers_pop(struct timers *timers, uint64_t now, uint32_t *budget)
{
	uint32_t slot;

	if (!*budget)
		return NO_FLOW;
	slot = pop_class(timers, now);
	if (slot == NO_FLOW)
		return wheel_pop(&timers->wheel, now, budget);
	--*budget;
	return slot;
}

/**
 * timers_next_deadline() - When the next flow dies
 * @timers:	Timers
 *
 * Return: nanoseconds, no later than that, maybe earlier; UINT64_MAX when nothing dies
 */
uint64_t timers_next_deadline(const struct timers *timers)
{
	uint64_t next = wheel_next_deadline(&timers->wheel);

	for (uint32_t class = 0; class < timers->n_classes; class++) {
		uint32_t head = timers->first_head + class, slot = timers->flows[head].next;

		if (slot != head && timers->flows[slot].deadline < next)
			next = timers->flows[slot].deadline;
	}
	return next;
}
