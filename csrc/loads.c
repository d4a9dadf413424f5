/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How loaded backends are, for the schedulers that look (lc, wlc).
 *
 * Theory of Operation
 * ===================
 *
 * A sum for each backend that has flows of such a scheduler, in a hash table of a fixed
 * size with linear probing.  Keys come from the plan, so the hash needs no secret.  An
 * entry whose sum is 0 gives its place up, and those behind it move forward.  Beyond
 * MOST_LOADED backends at a time nothing more is counted: the schedulers then see what
 * is.
 */
#include "loads.h"

#include <stdlib.h>

#include "hash.h"

#define PLACES		131072	/* a power of two */
#define MOST_LOADED	(PLACES / 2)

/**
 * struct load - One backend's
 * @key:	Address, port, protocol; 0: the place is free
 * @units:	What its flows count for, above 0
 */
struct load {
	uint64_t key;
	int64_t units;
};

/**
 * struct loads - All of them
 * @count:	Places taken
 * @places:	The table
 */
struct loads {
	uint32_t count;
	struct load places[PLACES];
};

/**
 * loads_new() - Begin with none
 *
 * Return: it, NULL if there is no memory
 */
struct loads *loads_new(void)
{
	return calloc(1, sizeof(struct loads));
}

/**
 * loads_free() - End it
 * @l:	Loads, or NULL
 */
void loads_free(struct loads *l)
{
	free(l);
}

/**
 * home() - Where a key belongs
 * @key:	Key
 *
 * Return: index of its place
 */
static uint32_t home(uint64_t key)
{
	return (uint32_t)mix(key) & (PLACES - 1);
}

/**
 * find() - Where a key is, or would be
 * @l:		Loads
 * @address:	Of the backend
 * @port:	Of the backend
 * @protocol:	IANA number
 * @key:	Out: the key
 *
 * Return: index of the place
 */
static uint32_t find(const struct loads *l, uint32_t address, uint16_t port, uint8_t protocol,
		     uint64_t *key)
{
	uint32_t at;

	*key = (uint64_t)address << 32 | (uint32_t)port << 8 | protocol;
	at = home(*key);
	while (l->places[at].key && l->places[at].key != *key)
		at = (at + 1) & (PLACES - 1);
	return at;
}

/**
 * give_up() - Free a place, and let those behind it move forward
 * @l:	Loads
 * @at:	The place
 */
static void give_up(struct loads *l, uint32_t at)
{
	uint32_t next = at;

	l->count--;
	for (;;) {
		next = (next + 1) & (PLACES - 1);
		if (!l->places[next].key)
			break;
		/* It may move unless its home lies behind the free place. */
		if (((next - home(l->places[next].key)) & (PLACES - 1)) >=
		    ((next - at) & (PLACES - 1))) {
			l->places[at] = l->places[next];
			at = next;
		}
	}
	l->places[at].key = 0;
	l->places[at].units = 0;
}

/**
 * loads_add() - A backend's load has changed
 * @l:		Loads
 * @address:	Of the backend
 * @port:	Of the backend
 * @protocol:	IANA number
 * @units:	By how much
 */
void loads_add(struct loads *l, uint32_t address, uint16_t port, uint8_t protocol, int64_t units)
{
	uint64_t key;
	uint32_t at = find(l, address, port, protocol, &key);
	struct load *load = &l->places[at];

	if (!units)
		return;
	if (!load->key) {
		if (l->count == MOST_LOADED)
			return;
		l->count++;
		load->key = key;
	}
	load->units += units;
	if (load->units <= 0)
		give_up(l, at);
}

/**
 * loads_get() - A backend's load
 * @l:		Loads
 * @address:	Of the backend
 * @port:	Of the backend
 * @protocol:	IANA number
 *
 * Return: the sum of what its flows count for
 */
int64_t loads_get(const struct loads *l, uint32_t address, uint16_t port, uint8_t protocol)
{
	uint64_t key;

	return l->places[find(l, address, port, protocol, &key)].units;
}
