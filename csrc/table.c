/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection table: flows, both their directions, their state and their end.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of class Table in src/pylb/dataplane/python/conntrack.py, to the bit.
 * A flow is found by its original tuple and by its reply tuple.
 *
 * Memory is taken once, for the most flows there may be, and touched as they come: one
 * pool of records (struct flow), the index (index.c) and little else.  Records know each
 * other by slot number, 24 bits, so that nothing here depends on where the pool lies.
 *
 * A slot's life: free (in a list through @next) -> alive (in the index, and in one of the
 * timers' lists) -> expired (in a list through @next: dead, its DESTROY not yet told) ->
 * free.  A flow is dead when now is not below its deadline.  Whoever meets a dead flow
 * makes it expired; the rest is found by the timers.  DESTROY events come out in order
 * of (deadline, id).  Expired flows count against the bound: no more records exist than
 * that.
 *
 * Nothing here reads a clock.
 */
#include "table.h"

#include <stdlib.h>

#include "pages.h"

/* The table itself */

/**
 * pool_size() - Bytes of all records
 * @max_flows:	The most flows there may be
 *
 * Return: bytes
 */
static size_t pool_size(uint32_t max_flows)
{
	return ((size_t)max_flows + TIMERS_HEADS) * sizeof(struct flow);
}

/**
 * table_new() - Make an empty table
 * @secret:	16 bytes, they key the hash
 * @max_flows:	The most flows there may be, at most MOST_FLOWS
 *
 * Return: table, NULL when there is no memory
 */
struct table *table_new(const uint8_t *secret, uint32_t max_flows)
{
	struct table *t;

	if (max_flows > MOST_FLOWS)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->max_flows = max_flows;
	t->free = t->expired = NO_SLOT;
	t->sorted = true;
	t->next_id = 1;
	t->first_dead = UINT64_MAX;
	t->flows = pages_map(pool_size(max_flows));
	t->loads = loads_new();
	if (!t->flows || !t->loads || !index_init(&t->index, secret, max_flows) ||
	    !wide_init(&t->wide, max_flows) || !events_init(&t->events)) {
		table_free(t);
		return NULL;
	}
	timers_init(&t->timers, t->flows, max_flows);
	return t;
}

/**
 * table_free() - Free a table
 * @t:	Table
 */
void table_free(struct table *t)
{
	pages_unmap(t->flows, pool_size(t->max_flows));
	index_end(&t->index);
	wide_end(&t->wide);
	events_end(&t->events);
	loads_free(t->loads);
	free(t);
}

/* Flows */

/**
 * hash_both() - Hashes of a flow's tuples, whose buckets will be needed
 * @t:		Table
 * @slot:	The flow's
 * @hashes:	Out, by direction
 */
static void hash_both(const struct table *t, uint32_t slot, uint64_t hashes[2])
{
	for (int direction = ORIGINAL; direction <= REPLY; direction++) {
		struct tuple key = flow_tuple(&t->flows[slot], direction);

		hashes[direction] = index_hash(&t->index, &key);
		index_prefetch(&t->index, hashes[direction]);
	}
}

/**
 * table_view() - Everything that is told of a flow
 * @t:		Table
 * @slot:	The flow's
 * @now:	Nanoseconds
 * @view:	Out
 */
void table_view(const struct table *t, uint32_t slot, uint64_t now, struct pylb_flow *view)
{
	const struct flow *f = &t->flows[slot];

	flow_view(f, slot, now, view);
	if (f->wide)
		wide_read(&t->wide, slot, view);
}

/* Events */

/**
 * table_announce() - Tell of what happened to a flow, if anybody wants to know
 * @t:		Table
 * @kind:	enum pylb_event_kind
 * @slot:	The flow's
 * @now:	Nanoseconds
 */
void table_announce(struct table *t, enum pylb_event_kind kind, uint32_t slot, uint64_t now)
{
	struct pylb_flow *view = events_add(&t->events, kind, now);

	if (view)
		table_view(t, slot, now, view);
}

/**
 * table_events() - What has happened since table_clear_events()
 * @t:		Table
 * @count:	Out: how many events
 *
 * Return: the events; no more than EVENTS are kept
 */
const struct pylb_event *table_events(const struct table *t, size_t *count)
{
	*count = t->events.count;
	return t->events.waiting;
}

/**
 * table_want_events() - Record events from now on, or not
 * @t:		Table
 * @wanted:	Which
 *
 * Return: how many were lost so far, for want of room
 */
uint64_t table_want_events(struct table *t, bool wanted)
{
	t->events.wanted = wanted;
	return t->events.lost;
}

/* Loads */

/**
 * table_weigh() - Let a balanced flow count for something at its backend
 * @t:		Table
 * @slot:	The flow's
 * @load:	What
 *
 * As IPVS has it: a flow that is closing counts for a 256th of an open one.
 */
void table_weigh(struct table *t, uint32_t slot, enum flow_load load)
{
	static const int64_t units[] = {
		[LOAD_NONE] = 0, [LOAD_OPEN] = 256, [LOAD_CLOSING] = 1
	};
	struct flow *f = &t->flows[slot];

	loads_add(t->loads, f->reply_src, f->reply_sport, f->protocol,
		  units[load] - units[f->load]);
	f->load = load & 3;
}

/* Ends of flows */

/**
 * retire() - Take a flow out of the index: no packet finds it any more
 * @t:		Table
 * @slot:	The flow's
 * @hashes:	Of its tuples
 */
static void retire(struct table *t, uint32_t slot, const uint64_t hashes[2])
{
	index_remove(&t->index, hashes[ORIGINAL], slot);
	index_remove(&t->index, hashes[REPLY], slot);
	if (t->flows[slot].load != LOAD_NONE)
		table_weigh(t, slot, LOAD_NONE);
	t->flows[slot].alive = 0;
	t->n_alive--;
}

/**
 * expire() - Keep a dead flow until its DESTROY is told
 * @t:		Table
 * @slot:	The flow's; it is in none of the timers' lists
 * @hashes:	Of its tuples
 */
static void expire(struct table *t, uint32_t slot, const uint64_t hashes[2])
{
	struct flow *f = &t->flows[slot];

	retire(t, slot, hashes);
	f->next = t->expired & SLOT_MASK;
	t->expired = slot;
	t->n_expired++;
	t->sorted = false;
	if (f->deadline < t->first_dead)
		t->first_dead = f->deadline;
}

/**
 * release() - Free a flow's slot
 * @t:		Table
 * @slot:	The flow's; it is in no list
 */
static void release(struct table *t, uint32_t slot)
{
	struct flow *f = &t->flows[slot];

	if (f->wide)
		wide_forget(&t->wide, slot);
	f->id = 0;
	f->next = t->free & SLOT_MASK;
	t->free = slot;
}

/**
 * collect() - Find the dead
 * @t:		Table
 * @now:	Nanoseconds
 * @budget:	How many flows may be looked at; counted down
 *
 * A few at a time, so that their buckets are on their way all at once.
 */
static void collect(struct table *t, uint64_t now, uint32_t *budget)
{
	enum { BATCH = 8 };
	uint32_t slots[BATCH], n;
	uint64_t hashes[BATCH][2];

	do {
		for (n = 0; n < BATCH; n++) {
			slots[n] = timers_pop(&t->timers, now, budget);
			if (slots[n] == NO_FLOW)
				break;
			hash_both(t, slots[n], hashes[n]);
		}
		for (uint32_t i = 0; i < n; i++)
			expire(t, slots[i], hashes[i]);
	} while (n == BATCH);
}

/**
 * table_settle() - Stop counting what is dead
 * @t:		Table
 * @now:	Nanoseconds
 */
void table_settle(struct table *t, uint64_t now)
{
	uint32_t budget = UINT32_MAX;

	collect(t, now, &budget);
}

/**
 * bury() - Tell of expired flows in order, and free their slots
 * @t:		Table
 * @now:	Nanoseconds
 * @wait:	Keep those for whose events there is no room
 */
static void bury(struct table *t, uint64_t now, bool wait)
{
	if (t->events.wanted && !t->sorted) {
		t->expired = list_sort(t->flows, t->expired, NO_SLOT);
		t->sorted = true;
	}
	while (t->expired != NO_SLOT && !(wait && events_is_full(&t->events))) {
		uint32_t slot = t->expired;

		t->expired = t->flows[slot].next;
		t->n_expired--;
		table_announce(t, PYLB_DESTROY, slot, now);
		release(t, slot);
	}
	if (t->expired == NO_SLOT)
		t->first_dead = UINT64_MAX;
}

/**
 * table_advance() - Destroy what is dead, in order of (deadline, id)
 * @t:		Table
 * @now:	Nanoseconds
 * @limit:	About how many flows to look at, 0: all there are
 *
 * The order holds within what one call finds.  With events wanted and no room for them,
 * flows wait.
 *
 * Return: true if there may be more: call again, when events have been taken
 */
bool table_advance(struct table *t, uint64_t now, uint32_t limit)
{
	uint32_t budget = limit ? limit : UINT32_MAX;

	collect(t, now, &budget);
	bury(t, now, true);
	return t->expired != NO_SLOT || !budget;
}

/**
 * table_next_deadline() - When table_advance() is next worth calling
 * @t:	Table
 *
 * Return: nanoseconds, no later than the first flow dies, maybe earlier; UINT64_MAX when
 * there is none
 */
uint64_t table_next_deadline(const struct table *t)
{
	uint64_t next = t->n_alive ? timers_next_deadline(&t->timers) : UINT64_MAX;

	return t->first_dead < next ? t->first_dead : next;
}

/**
 * table_destroy() - Remove a flow at once, with its event
 * @t:		Table
 * @slot:	The flow's; nothing happens when it is not alive
 * @now:	Nanoseconds
 */
void table_destroy(struct table *t, uint32_t slot, uint64_t now)
{
	uint64_t hashes[2];

	if (!t->flows[slot].alive)
		return;
	hash_both(t, slot, hashes);
	timers_remove(&t->timers, slot);
	retire(t, slot, hashes);
	table_announce(t, PYLB_DESTROY, slot, now);
	release(t, slot);
}

/* Looking up and making flows */

/**
 * table_lookup() - The live flow that has a tuple as a direction
 * @t:		Table
 * @key:	Tuple
 * @hash:	table_hash() of it
 * @now:	Nanoseconds
 * @direction:	Out: which direction
 *
 * Return: slot or NO_FLOW.  A dead flow that is met is as good as gone.
 */
uint32_t table_lookup(struct table *t, const struct tuple *key, uint64_t hash, uint64_t now,
		      int *direction)
{
	uint32_t slot = index_find(&t->index, t->flows, key, hash, direction);

	if (slot != NO_FLOW && t->flows[slot].deadline <= now) {
		uint64_t hashes[2];

		hash_both(t, slot, hashes);
		timers_remove(&t->timers, slot);
		expire(t, slot, hashes);
		return NO_FLOW;
	}
	return slot;
}

/**
 * table_make_room() - See to it that one more flow fits
 * @t:		Table
 * @now:	Nanoseconds
 *
 * Dead flows go first, then the unassured one that was renewed longest ago (the kernel's
 * early_drop, made exact).
 *
 * Return: false if all flows are alive and assured
 */
bool table_make_room(struct table *t, uint64_t now)
{
	uint32_t budget = UINT32_MAX, victim;

	if (t->n_alive + t->n_expired < t->max_flows)
		return true;
	collect(t, now, &budget);
	if (t->expired != NO_SLOT) {
		bury(t, now, false);
		return true;
	}
	victim = timers_victim(&t->timers);
	if (victim == NO_FLOW)
		return false;
	t->early_drops++;
	table_destroy(t, victim, now);
	return true;
}

/**
 * table_create() - A new flow
 * @t:		Table; table_make_room() was true
 * @original:	Its first packet's tuple; no flow has it as a direction
 * @reply:	What an answer's will be; no flow has it
 * @now:	Nanoseconds
 *
 * Return: slot; the flow is dead until track() lets its first packet act on it
 */
uint32_t table_create(struct table *t, const struct tuple *original, const struct tuple *reply,
		      uint64_t now)
{
	uint32_t slot = t->free;
	struct flow *f;

	if (slot == NO_SLOT)
		slot = t->n_slots++;
	else
		t->free = t->flows[slot].next;
	f = &t->flows[slot];
	*f = (struct flow){
		.src = original->src,
		.dst = original->dst,
		.reply_src = reply->src,
		.reply_dst = reply->dst,
		.sport = original->sport,
		.dport = original->dport,
		.reply_sport = reply->sport,
		.reply_dport = reply->dport,
		.id = t->next_id & 0xffffffffff,
		.protocol = original->protocol,
		.alive = 1,
	};
	/* 0 would be a free slot. */
	t->next_id = (t->next_id + 1) & 0xffffffffff;
	t->next_id += !t->next_id;
	if (f->protocol != PROTO_TCP && f->protocol != PROTO_SCTP)
		f->started = now;
	timers_add(&t->timers, slot, now);
	index_insert(&t->index, index_hash(&t->index, reply), slot);
	index_insert(&t->index, index_hash(&t->index, original), slot);
	t->n_alive++;
	return slot;
}
