/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing a backend for a new flow.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/balance.py and frontend.py, which specify every
 * scheduler exactly.  Who may have which backends is decided first, by the flow's source
 * address alone; then affinity, then the frontend's scheduler among what is left.
 *
 * What `rr` and `wrr` have come to lies beside the plans (struct turn), Maglev's tables
 * come with the plan, and loads are counted by the table of flows.
 */
#include "balance.h"

#include "hash.h"

/**
 * tuple_bytes() - What keyed choices hash
 * @t:		Tuple
 * @bytes:	Out: TUPLE_BYTES: addresses, ports and protocol, big-endian
 */
void tuple_bytes(const struct tuple *t, uint8_t *bytes)
{
	put32(bytes, t->src);
	put32(bytes + 4, t->dst);
	put16(bytes + 8, t->sport);
	put16(bytes + 10, t->dport);
	bytes[12] = t->protocol;
}

/**
 * has_address() - Is one of a frontend's active backends at an address?
 * @plan:	Plan
 * @f:		Frontend of that plan
 * @address:	Address
 *
 * Return: true if so
 */
static bool has_address(const struct pylb_plan *plan, const struct frontend *f, uint32_t address)
{
	const struct pylb_backend *backends = plan_backends(plan, f);

	for (uint32_t i = 0; i < f->key.backends; i++) {
		if (backends[i].address == address)
			return true;
	}
	return false;
}

/**
 * eligible() - Which backends may a client have?
 * @plan:	Plan
 * @f:		Frontend of that plan
 * @source:	The client's address
 * @choices:	Out
 *
 * Return: false if for this client there is no such frontend
 */
bool eligible(const struct pylb_plan *plan, const struct frontend *f, uint32_t source,
	      struct choices *choices)
{
	choices->first = plan_backends(plan, f);
	choices->count = f->key.backends;
	choices->which = 0;
	switch ((enum pylb_others)f->key.others) {
	case PYLB_NOBODY:
		return true;
	case PYLB_INSIDE:
		if (!plan_is_own(plan, source) && !plan_in_pods(plan, source))
			return true;
		break;
	case PYLB_BACKENDS:
		if (!has_address(plan, f, source))
			return true;
		break;
	case PYLB_PASSING:
		return !has_address(plan, f, source);
	}
	choices->first += f->key.backends;
	choices->count = f->key.other;
	choices->which = 1;
	return true;
}

/**
 * admits() - Is a client within the frontend's source ranges?
 * @plan:	Plan
 * @f:		Frontend of that plan
 * @source:	The client's address
 *
 * Return: true if so, or if there are none
 */
bool admits(const struct pylb_plan *plan, const struct frontend *f, uint32_t source)
{
	const struct pylb_prefix *sources = plan_sources(plan, f);

	for (uint32_t i = 0; i < f->key.sources; i++) {
		if ((source & sources[i].mask) == sources[i].address)
			return true;
	}
	return !f->key.sources;
}

/**
 * counts_load() - Does the frontend's scheduler look at loads?
 * @f:	Frontend
 *
 * Return: true if so: then its flows count for something
 */
bool counts_load(const struct frontend *f)
{
	return f->key.scheduler == PYLB_LEAST_CONNECTION ||
	       f->key.scheduler == PYLB_WEIGHTED_LEAST_CONNECTION;
}

/**
 * gcd() - Greatest common divisor
 * @a:	One
 * @b:	The other
 *
 * Return: it; gcd(0, b) is b
 */
static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/**
 * weighted_round_robin() - IPVS's wrr
 * @turn:	The frontend's, moved on
 * @choices:	At least one backend
 *
 * Return: position among @choices
 */
static uint32_t weighted_round_robin(struct turn *turn, const struct choices *choices)
{
	uint32_t largest = 0, step = 0;

	for (uint32_t i = 0; i < choices->count; i++) {
		uint32_t weight = choices->first[i].weight;

		if (weight > largest)
			largest = weight;
		step = gcd(step, weight);
	}
	if (turn->threshold > largest)
		turn->threshold = largest;
	for (;;) {
		if (++turn->at >= choices->count)
			turn->at = 0;
		if (!turn->at)
			turn->threshold = turn->threshold > step ? turn->threshold - step : largest;
		if (choices->first[turn->at].weight >= turn->threshold)
			return (uint32_t)turn->at;
	}
}

/**
 * least() - The backend with the least load, the first of equals
 * @t:		Table
 * @choices:	At least one backend
 * @protocol:	IANA number
 * @weighted:	Load by weight
 *
 * Return: position among @choices
 */
static uint32_t least(const struct table *t, const struct choices *choices, uint8_t protocol,
		      bool weighted)
{
	int64_t lowest = -1, weight = 1;
	uint32_t best = 0;

	for (uint32_t i = 0; i < choices->count; i++) {
		const struct pylb_backend *b = &choices->first[i];
		int64_t own = weighted ? b->weight : 1;
		int64_t load = loads_get(t->loads, b->address, b->port, protocol);

		if (lowest < 0 || load * weight < lowest * own) {
			best = i;
			lowest = load;
			weight = own;
		}
	}
	return best;
}

/**
 * source_hash() - IPVS's sh: the same client, the same backend, on every node
 * @choices:	At least one backend with a weight
 * @source:	The client's address
 *
 * Return: position among @choices
 */
static uint32_t source_hash(const struct choices *choices, uint32_t source)
{
	uint64_t sum = 0, at;
	uint8_t bytes[4];
	uint32_t i = 0;

	for (uint32_t j = 0; j < choices->count; j++)
		sum += choices->first[j].weight;
	put32(bytes, source);
	at = pylb_siphash(public_key, bytes, sizeof(bytes)) % sum;
	while (at >= choices->first[i].weight)
		at -= choices->first[i++].weight;
	return i;
}

/**
 * schedule() - The position that the frontend's scheduler gives
 * @t:		Table
 * @secret:	SIPHASH_KEY_LEN bytes
 * @f:		Frontend
 * @choices:	At least one backend
 * @original:	The flow's first packet
 *
 * Return: position among @choices
 */
static uint32_t schedule(const struct table *t, const uint8_t *secret, const struct frontend *f,
			 const struct choices *choices, const struct tuple *original)
{
	uint8_t bytes[TUPLE_BYTES];
	const struct maglev *m;

	switch ((enum pylb_scheduler)f->key.scheduler) {
	case PYLB_ROUND_ROBIN:
		return (uint32_t)(f->turn->next++ % choices->count);
	case PYLB_WEIGHTED_ROUND_ROBIN:
		return weighted_round_robin(f->turn, choices);
	case PYLB_LEAST_CONNECTION:
		return least(t, choices, original->protocol, false);
	case PYLB_WEIGHTED_LEAST_CONNECTION:
		return least(t, choices, original->protocol, true);
	case PYLB_SOURCE_HASH:
		return source_hash(choices, original->src);
	case PYLB_MAGLEV:
		m = f->tables[choices->which];
		tuple_bytes(original, bytes);
		return m->slots[pylb_siphash(public_key, bytes, sizeof(bytes)) % m->size];
	case PYLB_RANDOM:
		break;
	}
	tuple_bytes(original, bytes);
	return (uint32_t)(pylb_siphash(secret, bytes, sizeof(bytes)) % choices->count);
}

/**
 * given() - The backend that a client was given before, if it may have it still
 * @affinity:	What clients were given
 * @f:		Frontend
 * @choices:	What it may have
 * @client:	Its address
 * @now:	Nanoseconds
 *
 * Return: the backend, or NULL
 */
static const struct pylb_backend *given(const struct affinity *affinity, const struct frontend *f,
					const struct choices *choices, uint32_t client,
					uint64_t now)
{
	uint32_t address;
	uint16_t port;

	if (!affinity_given(affinity, f->key.service, client, now, f->key.affinity, &address,
			    &port))
		return NULL;
	for (uint32_t i = 0; i < choices->count; i++) {
		const struct pylb_backend *b = &choices->first[i];

		if (b->address == address && b->port == port)
			return b;
	}
	return NULL;
}

/**
 * balance() - The backend for a new flow
 * @t:		Table, for loads
 * @affinity:	What clients were given
 * @secret:	SIPHASH_KEY_LEN bytes
 * @f:		Frontend; its turn moves on
 * @choices:	Which backends the flow may have
 * @original:	The flow's first packet
 * @now:	Nanoseconds
 *
 * Return: the backend, NULL when there is none to choose
 */
const struct pylb_backend *balance(struct table *t, struct affinity *affinity,
				   const uint8_t *secret, const struct frontend *f,
				   const struct choices *choices, const struct tuple *original,
				   uint64_t now)
{
	const struct pylb_backend *b = NULL;

	if (!choices->count)
		return NULL;
	if (f->key.affinity)
		b = given(affinity, f, choices, original->src, now);
	if (!b) {
		if (counts_load(f))
			table_settle(t, now);
		b = choices->first + schedule(t, secret, f, choices, original);
	}
	if (f->key.affinity)
		affinity_give(affinity, f->key.service, original->src, now, b->address, b->port);
	return b;
}
