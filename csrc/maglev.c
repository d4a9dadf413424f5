/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maglev's look-up tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network
 * Load Balancer", 2016, section 3.4).
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/maglev.py, which specifies the table exactly.
 * Every backend has its own order of the slots, by a key that is no secret, so that all
 * nodes have the same table; backends take turns, by weight, each its next free slot.
 *
 * Tables are built where plans are, never in the packet path.
 */
#include "maglev.h"

#include <errno.h>
#include <stdlib.h>

#include "hash.h"

#define FREE	0xffff

const uint8_t public_key[16] = "pylb.io/balancer";

/**
 * struct taker - A backend that takes slots
 * @next:	The slot that it would take next
 * @skip:	How far apart its slots are
 * @due:	When it may take the next, in rounds times weight
 */
struct taker {
	uint32_t next, skip;
	uint64_t due;
};

/**
 * hash_place() - Where a backend begins, or how far apart its slots are
 * @which:	'o' or 's'
 * @b:		Backend
 *
 * Return: 64-bit hash
 */
static uint64_t hash_place(uint8_t which, const struct pylb_backend *b)
{
	uint8_t bytes[7];

	bytes[0] = which;
	put32(bytes + 1, b->address);
	put16(bytes + 5, b->port);
	return pylb_siphash(public_key, bytes, sizeof(bytes));
}

/**
 * take_turns() - Let backends take turns until no slot is free
 * @slots:	The table's slots, all free
 * @size:	Their number
 * @takers:	One for each backend
 * @backends:	The backends
 * @count:	Their number
 */
static void take_turns(uint16_t *slots, uint32_t size, struct taker *takers,
		       const struct pylb_backend *backends, uint32_t count)
{
	uint32_t left = size, largest = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (backends[i].weight > largest)
			largest = backends[i].weight;
	}
	for (uint64_t turn = 1;; turn++) {
		for (uint32_t i = 0; i < count; i++) {
			struct taker *t = &takers[i];

			if (turn * backends[i].weight < t->due)
				continue;
			t->due += largest;
			while (slots[t->next] != FREE) {
				t->next += t->skip;
				if (t->next >= size)
					t->next -= size;
			}
			slots[t->next] = (uint16_t)i;
			if (!--left)
				return;
		}
	}
}

/**
 * pylb_maglev() - Fill a table, for whoever wants to look at one without a plan
 * @backends:	Backends, each with a weight of 1 or more
 * @count:	Their number, 1 to 65535
 * @size:	Slots, a prime: else a backend might look for a free one for ever
 * @slots:	Out: @size positions among the backends
 *
 * Return: 0, or ENOMEM
 */
int pylb_maglev(const struct pylb_backend *backends, uint32_t count, uint32_t size,
		uint16_t *slots)
{
	struct taker *takers = calloc(count, sizeof(*takers));

	if (!takers)
		return ENOMEM;
	for (uint32_t i = 0; i < size; i++)
		slots[i] = FREE;
	for (uint32_t i = 0; i < count; i++) {
		takers[i].next = (uint32_t)(hash_place('o', &backends[i]) % size);
		takers[i].skip = (uint32_t)(hash_place('s', &backends[i]) % (size - 1) + 1);
	}
	take_turns(slots, size, takers, backends, count);
	free(takers);
	return 0;
}

/**
 * hash_backends() - Hash what a table is made of
 * @backends:	Backends
 * @count:	Their number
 *
 * Return: 64-bit hash
 */
static uint64_t hash_backends(const struct pylb_backend *backends, uint32_t count)
{
	return pylb_siphash(public_key, (const uint8_t *)backends, count * sizeof(*backends));
}

/**
 * build() - A table
 * @backends:	Backends, each with a weight of 1 or more
 * @count:	Their number, 1 to 65535
 * @size:	Slots, a prime
 *
 * Return: the table with one user, NULL if there is no memory
 */
static struct maglev *build(const struct pylb_backend *backends, uint32_t count, uint32_t size)
{
	struct maglev *m = malloc(sizeof(*m) + size * sizeof(m->slots[0]));

	if (!m)
		return NULL;
	m->users = 1;
	m->size = size;
	m->key = hash_backends(backends, count);
	m->count = count;
	m->backends = malloc(count * sizeof(*backends));
	if (!m->backends || pylb_maglev(backends, count, size, m->slots)) {
		maglev_release(m);
		return NULL;
	}
	memcpy(m->backends, backends, count * sizeof(*backends));
	return m;
}

/**
 * maglev_release() - One user less
 * @m:	Table, or NULL
 */
void maglev_release(struct maglev *m)
{
	if (m && !--m->users) {
		free(m->backends);
		free(m);
	}
}

/**
 * shelf_init() - Begin without tables
 * @s:		Shelf
 * @most:	How many tables it is to hold
 *
 * Return: false if there is no memory
 */
bool shelf_init(struct shelf *s, size_t most)
{
	if (most > MOST_ENTRIES)
		return false;
	s->mask = mask_for(most);
	s->places = calloc((size_t)s->mask + 1, sizeof(*s->places));
	return s->places;
}

/**
 * shelf_end() - Let go of all tables
 * @s:	Shelf
 */
void shelf_end(struct shelf *s)
{
	for (size_t i = 0; s->places && i <= s->mask; i++)
		maglev_release(s->places[i]);
	free(s->places);
}

/**
 * shelf_put() - Put a table on the shelf, unless it is there
 * @s:	Shelf with room for it
 * @m:	Table, or NULL
 */
void shelf_put(struct shelf *s, struct maglev *m)
{
	uint32_t at;

	if (!m)
		return;
	at = (uint32_t)m->key & s->mask;
	while (s->places[at] && s->places[at] != m)
		at = (at + 1) & s->mask;
	if (s->places[at])
		return;
	m->users++;
	s->places[at] = m;
}

/**
 * shelf_take() - The table for some backends, made if it is not there
 * @s:		Shelf with room for it
 * @backends:	Backends, each with a weight of 1 or more
 * @count:	Their number, 1 to 65535
 * @size:	Slots, a prime
 *
 * Return: the table, with a user that is to be released; NULL if there is no memory
 */
struct maglev *shelf_take(struct shelf *s, const struct pylb_backend *backends, uint32_t count,
			  uint32_t size)
{
	uint64_t key = hash_backends(backends, count);
	struct maglev *m;

	for (uint32_t at = (uint32_t)key & s->mask; s->places[at]; at = (at + 1) & s->mask) {
		m = s->places[at];
		if (m->key == key && m->size == size && m->count == count &&
		    !memcmp(m->backends, backends, count * sizeof(*backends))) {
			m->users++;
			return m;
		}
	}
	m = build(backends, count, size);
	shelf_put(s, m);
	return m;
}
