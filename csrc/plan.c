/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan as the packet path asks of it.
 *
 * Theory of Operation
 * ===================
 *
 * A plan is one object that is built aside and never altered: packets see the one or
 * the other, whole.  A change therefore copies what stays, in one pass over dense
 * arrays, which takes a fraction of a millisecond for 10 000 Services, and leaves the
 * garbage of earlier changes behind.
 *
 * Every question of the packet path is one probe of a hash table that is at most half
 * full (linear probing, sizes are powers of two).  The hashes are not keyed: all keys
 * come from the plan, and no packet puts one there.
 *
 * Where `rr` and `wrr` have come to is the one thing that packets write.  It outlives
 * plans, so it lies apart and is shared by all that have the frontend.  Packets take
 * turns under the dataplane's lock; plans are made and freed by one thread at a time.
 */
#include "plan.h"

#include <stdlib.h>

/* What a change does to a frontend of the base. */
enum fate { STAYS, REPLACED, REMOVED };

/**
 * frontend_cell() - Where a frontend's key is in the index, or would be
 * @plan:	Plan
 * @address:	Key
 * @port:	Key
 * @protocol:	Key
 *
 * Return: the cell
 */
static inline uint32_t *frontend_cell(const struct pylb_plan *plan, uint32_t address,
				      uint16_t port, uint8_t protocol)
{
	uint64_t key = (uint64_t)address << 32 | (uint32_t)port << 8 | protocol;
	uint32_t at = (uint32_t)mix(key) & plan->frontend_mask;

	for (;; at = (at + 1) & plan->frontend_mask) {
		uint32_t *cell = &plan->frontend_index[at];
		const struct pylb_frontend *f;

		if (!*cell)
			return cell;
		f = &plan->frontends[*cell - 1].key;
		if (f->address == address && f->port == port && f->protocol == protocol)
			return cell;
	}
}

/**
 * plan_frontend() - The frontend that a packet is addressed to
 * @plan:	Plan
 * @address:	Destination
 * @port:	Destination
 * @protocol:	IANA number
 *
 * Return: the frontend, NULL if there is none
 */
const struct frontend *plan_frontend(const struct pylb_plan *plan, uint32_t address, uint16_t port,
				     uint8_t protocol)
{
	uint32_t cell = *frontend_cell(plan, address, port, protocol);

	return cell ? &plan->frontends[cell - 1] : NULL;
}

/**
 * plan_backends() - A frontend's backends
 * @plan:	Plan
 * @f:		Frontend of that plan
 *
 * Return: the first of @f->key.backends, behind which are @f->key.other more
 */
const struct pylb_backend *plan_backends(const struct pylb_plan *plan, const struct frontend *f)
{
	return plan->backends + f->key.first;
}

/**
 * plan_sources() - Whom a frontend serves
 * @plan:	Plan
 * @f:		Frontend of that plan
 *
 * Return: the first of @f->key.sources prefixes
 */
const struct pylb_prefix *plan_sources(const struct pylb_plan *plan, const struct frontend *f)
{
	return plan->sources + f->key.first_source;
}

/**
 * plan_is_vip() - Does a frontend have the address, which is not the node's own?
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: true if so
 */
bool plan_is_vip(const struct pylb_plan *plan, uint32_t address)
{
	return addresses_find(&plan->addresses, address)->vips;
}

/**
 * plan_has_address() - Does a pod or an endpoint have the address?
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: true if so
 */
bool plan_has_address(const struct pylb_plan *plan, uint32_t address)
{
	return addresses_find(&plan->addresses, address)->holders;
}

/**
 * make_peers() - Give a plan its peers
 * @plan:	Plan in the making, with its node
 * @kept:	What stays of the base, or NULL
 * @change:	What changes
 *
 * Return: see peers_make()
 */
static bool make_peers(struct pylb_plan *plan, const struct pylb_plan *kept,
		       const struct pylb_change *change)
{
	if (change->set_peers)
		return peers_make(&plan->peers, change->peers, change->n_peers, &plan->node);
	return peers_copy(&plan->peers, kept ? &kept->peers : NULL, &plan->node);
}

/**
 * release_turn() - A plan lets go of a turn
 * @turn:	Turn, or NULL
 */
static void release_turn(struct turn *turn)
{
	if (turn && !--turn->plans)
		free(turn);
}

/**
 * struct given - A frontend and what it refers to
 * @key:	The frontend
 * @backends:	Its own, the active ones first
 * @sources:	Its own
 * @turn:	Where it has come to, or NULL
 * @tables:	See struct frontend; the plan becomes a user of them
 */
struct given {
	const struct pylb_frontend *key;
	const struct pylb_backend *backends;
	const struct pylb_prefix *sources;
	struct turn *turn;
	struct maglev *tables[2];
};

/**
 * struct used - How much of a plan in the making is in use
 * @backends:	Backends
 * @sources:	Prefixes
 */
struct used {
	uint32_t backends, sources;
};

/**
 * release() - A plan lets go of what a frontend shares
 * @f:	Frontend
 */
static void release(struct frontend *f)
{
	release_turn(f->turn);
	maglev_release(f->tables[0]);
	maglev_release(f->tables[1]);
}

/**
 * add_frontend() - Give a plan a frontend, in place of the one with the same key
 * @plan:	Plan in the making, with room for it
 * @given:	The frontend
 * @used:	How much is in use, updated
 */
static void add_frontend(struct pylb_plan *plan, const struct given *given, struct used *used)
{
	const struct pylb_frontend *key = given->key;
	uint32_t *cell = frontend_cell(plan, key->address, key->port, key->protocol);
	uint32_t backends = key->backends + key->other;
	struct frontend *f;

	if (given->turn)
		given->turn->plans++;
	for (int i = 0; i < 2; i++) {
		if (given->tables[i])
			given->tables[i]->users++;
	}
	if (*cell) {
		release(&plan->frontends[*cell - 1]);
	} else {
		plan->n_frontends++;
		*cell = plan->n_frontends;
	}
	f = &plan->frontends[*cell - 1];
	f->key = *key;
	f->key.first = used->backends;
	f->key.first_source = used->sources;
	f->turn = given->turn;
	memcpy(f->tables, given->tables, sizeof(f->tables));
	if (backends)
		memcpy(plan->backends + used->backends, given->backends,
		       backends * sizeof(*given->backends));
	if (key->sources)
		memcpy(plan->sources + used->sources, given->sources,
		       key->sources * sizeof(*given->sources));
	used->backends += backends;
	used->sources += key->sources;
}

/**
 * set_frontend() - Give a plan a frontend of the change
 * @plan:	Plan in the making
 * @given:	The frontend, without turn and tables
 * @used:	See add_frontend()
 * @shelf:	Maglev's tables, if the change asks for any
 * @before:	The frontend of the base that it takes the place of, or NULL
 *
 * Return: false if there is no memory
 */
static bool set_frontend(struct pylb_plan *plan, struct given *given, struct used *used,
			 struct shelf *shelf, const struct frontend *before)
{
	const struct pylb_frontend *key = given->key;
	bool turns = key->scheduler == PYLB_ROUND_ROBIN ||
		     key->scheduler == PYLB_WEIGHTED_ROUND_ROBIN, ok = true;

	given->turn = before ? before->turn : NULL;
	if (!given->turn && turns) {
		given->turn = calloc(1, sizeof(*given->turn));
		if (!given->turn)
			return false;
		given->turn->at = -1;
	}
	for (int which = 0; which < 2 && key->scheduler == PYLB_MAGLEV; which++) {
		const struct pylb_backend *first = given->backends + (which ? key->backends : 0);
		uint32_t count = which ? key->other : key->backends;

		if (!count)
			continue;
		given->tables[which] = shelf_take(shelf, first, count, plan->node.maglev_size);
		ok = ok && given->tables[which];
	}
	if (ok)
		add_frontend(plan, given, used);
	else if (given->turn && !given->turn->plans)
		free(given->turn);
	maglev_release(given->tables[0]);
	maglev_release(given->tables[1]);
	return ok;
}

/**
 * decide_fates() - What a change does to the frontends of its base
 * @kept:	What stays of the base, or NULL
 * @change:	What changes
 * @fates:	Out: enum fate for each frontend of @kept
 */
static void decide_fates(const struct pylb_plan *kept, const struct pylb_change *change,
			 uint8_t *fates)
{
	if (!kept)
		return;
	for (size_t i = 0; i < change->n_frontends; i++) {
		const struct pylb_frontend *f = &change->frontends[i];
		uint32_t cell = *frontend_cell(kept, f->address, f->port, f->protocol);

		if (cell)
			fates[cell - 1] = REPLACED;
	}
	for (size_t i = 0; i < change->n_removed; i++) {
		const struct pylb_frontend *f = &change->removed[i];
		uint32_t cell = *frontend_cell(kept, f->address, f->port, f->protocol);

		if (cell)
			fates[cell - 1] = REMOVED;
	}
}

/**
 * room_for_frontends() - Allocate what a plan's frontends need
 * @plan:	Plan in the making
 * @kept:	What stays of the base, or NULL
 * @change:	What changes
 * @fates:	See decide_fates()
 *
 * Return: false if there is no memory, or backends are named that were not given
 */
static bool room_for_frontends(struct pylb_plan *plan, const struct pylb_plan *kept,
			       const struct pylb_change *change, const uint8_t *fates)
{
	size_t frontends = change->n_frontends, backends = 0, sources = 0;

	for (uint32_t i = 0; kept && i < kept->n_frontends; i++) {
		if (fates[i] != STAYS)
			continue;
		frontends++;
		backends += (size_t)kept->frontends[i].key.backends + kept->frontends[i].key.other;
		sources += kept->frontends[i].key.sources;
	}
	for (size_t i = 0; i < change->n_frontends; i++) {
		const struct pylb_frontend *f = &change->frontends[i];
		size_t own = (size_t)f->backends + f->other;

		if (f->first > change->n_backends || own > change->n_backends - f->first ||
		    f->first_source > change->n_sources ||
		    f->sources > change->n_sources - f->first_source)
			return false;
		backends += own;
		sources += f->sources;
	}
	if (frontends > MOST_ENTRIES || backends > UINT32_MAX || sources > UINT32_MAX)
		return false;
	plan->frontend_mask = mask_for(frontends);
	plan->frontends = malloc((frontends + 1) * sizeof(*plan->frontends));
	plan->frontend_index = calloc(plan->frontend_mask + 1, sizeof(*plan->frontend_index));
	plan->backends = malloc((backends + 1) * sizeof(*plan->backends));
	plan->sources = malloc((sources + 1) * sizeof(*plan->sources));
	return plan->frontends && plan->frontend_index && plan->backends && plan->sources;
}

/**
 * fill_shelf() - Lay out the Maglev tables of the base, if the change asks for any
 * @shelf:	Out
 * @base:	What a plan in the making follows, or NULL
 * @change:	What changes
 *
 * Return: false if there is no memory
 */
static bool fill_shelf(struct shelf *shelf, const struct pylb_plan *base,
		       const struct pylb_change *change)
{
	size_t asked = 0, had = base ? base->n_frontends : 0;

	for (size_t i = 0; i < change->n_frontends; i++)
		asked += change->frontends[i].scheduler == PYLB_MAGLEV;
	if (!asked)
		return true;
	if (!shelf_init(shelf, 2 * (had + asked)))
		return false;
	for (size_t i = 0; i < had; i++) {
		shelf_put(shelf, base->frontends[i].tables[0]);
		shelf_put(shelf, base->frontends[i].tables[1]);
	}
	return true;
}

/**
 * make_frontends() - Give a plan its frontends
 * @plan:	Plan in the making
 * @base:	What it follows, or NULL
 * @kept:	What stays of @base, or NULL
 * @change:	What changes
 * @fates:	Room for enum fate of each frontend of @kept, zeroed
 *
 * Return: see room_for_frontends()
 */
static bool make_frontends(struct pylb_plan *plan, const struct pylb_plan *base,
			   const struct pylb_plan *kept, const struct pylb_change *change,
			   uint8_t *fates)
{
	struct used used = { 0, 0 };
	struct shelf shelf = { NULL, 0 };
	bool ok;

	decide_fates(kept, change, fates);
	ok = room_for_frontends(plan, kept, change, fates) && fill_shelf(&shelf, base, change);
	if (!ok)
		return false;
	for (uint32_t i = 0; kept && i < kept->n_frontends; i++) {
		const struct frontend *f = &kept->frontends[i];
		struct given given = {
			.key = &f->key,
			.backends = plan_backends(kept, f),
			.sources = plan_sources(kept, f),
			.turn = f->turn,
			.tables = { f->tables[0], f->tables[1] },
		};

		if (fates[i] == STAYS)
			add_frontend(plan, &given, &used);
	}
	for (size_t i = 0; ok && i < change->n_frontends; i++) {
		const struct pylb_frontend *f = &change->frontends[i];
		const struct frontend *before = NULL;
		struct given given;

		if (base)
			before = plan_frontend(base, f->address, f->port, f->protocol);
		if (kept && before && fates[before - kept->frontends] == REMOVED)
			before = NULL;
		given = (struct given){
			.key = f,
			.backends = change->backends + f->first,
			.sources = change->sources + f->first_source,
		};
		ok = set_frontend(plan, &given, &used, &shelf, before);
	}
	shelf_end(&shelf);
	return ok;
}

/**
 * count_vips() - Count the virtual addresses of some frontends
 * @plan:	Plan in the making, with its frontends
 * @from:	The first of them
 */
static void count_vips(struct pylb_plan *plan, uint32_t from)
{
	for (uint32_t i = from; i < plan->n_frontends; i++) {
		const struct pylb_frontend *f = &plan->frontends[i].key;

		if (f->is_virtual)
			addresses_count_vip(&plan->addresses, f->address, 1);
	}
}

/**
 * keep_addresses() - Begin with what the base knows by address
 * @plan:	Plan in the making
 * @kept:	The base, of the same node
 * @fates:	See decide_fates()
 *
 * Return: how many of the plan's frontends, from the first on, are counted
 */
static uint32_t keep_addresses(struct pylb_plan *plan, const struct pylb_plan *kept,
			       const uint8_t *fates)
{
	uint32_t counted = 0;

	addresses_copy(&plan->addresses, &kept->addresses);
	for (uint32_t i = 0; i < kept->n_frontends; i++) {
		const struct pylb_frontend *f = &kept->frontends[i].key;

		if (fates[i] == STAYS)
			counted++;
		else if (f->is_virtual)
			addresses_count_vip(&plan->addresses, f->address, -1);
	}
	return counted;
}

/**
 * make_addresses() - Give a plan what it knows by address
 * @plan:	Plan in the making, with its node and its frontends
 * @kept:	What stays of the base, or NULL
 * @change:	What changes
 * @fates:	See decide_fates()
 *
 * The base's table is taken over as it is, with the addresses that nothing has any
 * more, as long as these leave room.
 *
 * Return: false if there is no memory
 */
static bool make_addresses(struct pylb_plan *plan, const struct pylb_plan *kept,
			   const struct pylb_change *change, const uint8_t *fates)
{
	const struct addresses *before = kept ? &kept->addresses : NULL;
	size_t coming = (size_t)change->n_addresses;
	uint32_t counted = 0;

	if (!addresses_init(&plan->addresses,
			    plan->n_frontends + coming + (before ? before->n_held : 0)))
		return false;
	if (before && !change->node &&
	    addresses_fit(&plan->addresses, before, change->n_frontends + coming))
		counted = keep_addresses(plan, kept, fates);
	else if (before)
		addresses_copy_held(&plan->addresses, before);
	for (size_t i = 0; i < coming; i++)
		addresses_hold(&plan->addresses, change->addresses[i], change->holders[i]);
	count_vips(plan, counted);
	return true;
}

/**
 * pylb_plan_make() - The plan that follows from another and a change
 * @base:	The plan before, which is left as it is; NULL: none
 * @change:	What changes; nothing of it is referred to later
 *
 * What is both removed and set is there, and its turns begin anew.  Of what is set
 * twice the last counts.
 *
 * Return: the plan, NULL if there is no memory, or the change cannot be: a frontend's
 * backends are not among those given, a peer's mask is no netmask
 */
struct pylb_plan *pylb_plan_make(const struct pylb_plan *base, const struct pylb_change *change)
{
	const struct pylb_plan *kept = change->whole ? NULL : base;
	struct pylb_plan *plan = calloc(1, sizeof(*plan));
	uint8_t *fates = calloc((kept ? kept->n_frontends : 0) + (size_t)1, sizeof(*fates));

	if (!plan || !fates)
		goto no_plan;
	if (change->node)
		plan->node = *change->node;
	else if (base)
		plan->node = base->node;
	if (!make_peers(plan, kept, change) || !make_frontends(plan, base, kept, change, fates) ||
	    !make_addresses(plan, kept, change, fates))
		goto no_plan;
	free(fates);
	return plan;

no_plan:
	free(fates);
	pylb_plan_free(plan);
	return NULL;
}

/**
 * pylb_plan_free() - Free a plan that no dataplane obeys
 * @plan:	Plan, or NULL
 */
void pylb_plan_free(struct pylb_plan *plan)
{
	if (!plan)
		return;
	for (uint32_t i = 0; i < plan->n_frontends; i++)
		release(&plan->frontends[i]);
	free(plan->sources);
	free(plan->frontends);
	free(plan->frontend_index);
	free(plan->backends);
	addresses_end(&plan->addresses);
	peers_free(&plan->peers);
	free(plan);
}
