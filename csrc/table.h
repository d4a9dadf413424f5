/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_TABLE_H
#define PYLB_TABLE_H

#include "events.h"
#include "flow.h"
#include "index.h"
#include "loads.h"
#include "timers.h"
#include "wide.h"

/**
 * struct table - The connection table; whoever uses it looks at none of this
 * @flows:	By slot, max_flows and the timers' heads
 * @index:	Slots by tuple
 * @timers:	Slots by time
 * @wide:	High parts of counters
 * @events:	What has happened
 * @loads:	How loaded backends are
 * @max_flows:	The most there may be
 * @n_slots:	How many slots were ever used: those below
 * @free:	First of the free ones among them
 * @expired:	First of the expired ones
 * @n_alive:	How many are alive
 * @n_expired:	How many are expired
 * @sorted:	The expired ones are in order
 * @first_dead:	No expired one's deadline is before this, nanoseconds
 * @next_id:	Of the next flow
 * @early_drops: How many were evicted
 */
struct table {
	struct flow *flows;
	struct index index;
	struct timers timers;
	struct wide_counters wide;
	struct events events;
	struct loads *loads;
	uint32_t max_flows;
	uint32_t n_slots;
	uint32_t free;
	uint32_t expired;
	uint32_t n_alive;
	uint32_t n_expired;
	bool sorted;
	uint64_t first_dead;
	uint64_t next_id;
	uint64_t early_drops;
};

struct table *table_new(const uint8_t *secret, uint32_t max_flows);
void table_free(struct table *t);

uint32_t table_lookup(struct table *t, const struct tuple *key, uint64_t hash, uint64_t now,
		      int *direction);

bool table_make_room(struct table *t, uint64_t now);
uint32_t table_create(struct table *t, const struct tuple *original, const struct tuple *reply,
		      uint64_t now);
void table_announce(struct table *t, enum pylb_event_kind kind, uint32_t slot, uint64_t now);
void table_destroy(struct table *t, uint32_t slot, uint64_t now);
bool table_advance(struct table *t, uint64_t now, uint32_t limit);
uint64_t table_next_deadline(const struct table *t);

void table_settle(struct table *t, uint64_t now);
void table_weigh(struct table *t, uint32_t slot, enum flow_load load);

void table_view(const struct table *t, uint32_t slot, uint64_t now, struct pylb_flow *view);

const struct pylb_event *table_events(const struct table *t, size_t *count);
uint64_t table_want_events(struct table *t, bool wanted);

/**
 * table_hash() - Keyed hash of a tuple, to look it up
 * @t:		Table
 * @key:	Tuple
 *
 * Return: 64-bit hash
 */
static inline uint64_t table_hash(const struct table *t, const struct tuple *key)
{
	return index_hash(&t->index, key);
}

/**
 * table_prefetch() - Ask for what a look-up reads first
 * @t:		Table
 * @hash:	table_hash()
 */
static inline void table_prefetch(const struct table *t, uint64_t hash)
{
	index_prefetch(&t->index, hash);
}

/**
 * table_prefetch_flow() - Ask for the flow that a look-up will find
 * @t:		Table
 * @hash:	table_hash(), of which table_prefetch() was called a while ago
 */
static inline void table_prefetch_flow(const struct table *t, uint64_t hash)
{
	index_prefetch_flow(&t->index, t->flows, hash);
}

/**
 * table_prefetch_neighbours() - Ask for what a renewal of the flow will touch besides
 * @t:		Table
 * @hash:	table_hash(), of which table_prefetch_flow() was called a while ago
 */
static inline void table_prefetch_neighbours(const struct table *t, uint64_t hash)
{
	uint32_t slot = index_hint(&t->index, hash);

	if (slot != NO_FLOW)
		timers_prefetch(&t->timers, slot);
}

/**
 * table_flow() - The record in a slot
 * @t:		Table
 * @slot:	Slot, below table_slots()
 *
 * Return: the record
 */
static inline struct flow *table_flow(struct table *t, uint32_t slot)
{
	return &t->flows[slot];
}

/**
 * table_slots() - How many slots there are to be looked at
 * @t:	Table
 *
 * Return: a number above that of every slot in use
 */
static inline uint32_t table_slots(const struct table *t)
{
	return t->n_slots;
}

/**
 * table_size() - How many flows are alive
 * @t:	Table
 *
 * Return: their number, with those that are dead and have not been met
 */
static inline uint32_t table_size(const struct table *t)
{
	return t->n_alive;
}

/**
 * table_max() - The most flows there may be
 * @t:	Table
 *
 * Return: their number
 */
static inline uint32_t table_max(const struct table *t)
{
	return t->max_flows;
}

/**
 * table_early_drops() - How many flows were evicted
 * @t:	Table
 *
 * Return: their number
 */
static inline uint64_t table_early_drops(const struct table *t)
{
	return t->early_drops;
}

/**
 * table_clear_events() - Forget the events
 * @t:	Table
 */
static inline void table_clear_events(struct table *t)
{
	t->events.count = 0;
}

/**
 * table_renew() - Give a flow another timeout, from now on
 * @t:		Table
 * @slot:	The flow's
 * @seconds:	Timeout
 * @now:	Nanoseconds
 */
static inline void table_renew(struct table *t, uint32_t slot, uint32_t seconds, uint64_t now)
{
	timers_renew(&t->timers, slot, seconds, now);
}

/**
 * table_assure() - The flow is no longer to be evicted, and has another timeout
 * @t:		Table
 * @slot:	The flow's; it is not assured
 * @seconds:	Timeout
 * @now:	Nanoseconds
 */
static inline void table_assure(struct table *t, uint32_t slot, uint32_t seconds, uint64_t now)
{
	timers_assure(&t->timers, slot, seconds, now);
}

/**
 * table_retain() - The flow is no longer to be evicted, and keeps its deadline
 * @t:		Table
 * @slot:	The flow's; it is not assured
 * @now:	Nanoseconds
 */
static inline void table_retain(struct table *t, uint32_t slot, uint64_t now)
{
	timers_retain(&t->timers, slot, now);
}

/**
 * table_count() - Count packets of a flow
 * @t:		Table
 * @slot:	The flow's
 * @direction:	Their direction
 * @packets:	How many
 * @bytes:	Their bytes
 */
static inline void table_count(struct table *t, uint32_t slot, int direction, uint32_t packets,
			       uint32_t bytes)
{
	wide_count(&t->wide, &t->flows[slot], slot, direction, packets, bytes);
}

#endif
