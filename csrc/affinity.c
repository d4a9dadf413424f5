/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessionAffinity ClientIP: which backend a client was last given by a Service port.
 *
 * Theory of Operation
 * ===================
 *
 * Bounded: PYLB_MOST_AFFINE clients of all Services together; the one that asked longest ago
 * is forgotten.  Entries hang in one list in order of their last use and in chains by a
 * keyed hash, for who the clients are is theirs to choose.  An entry whose time is over
 * stays until it is used anew or forgotten; who asks says how long it counts.
 */
#include "affinity.h"

#include <stdlib.h>

#include "hash.h"

#define NONE	UINT32_MAX
#define CHAINS	PYLB_MOST_AFFINE
#define SECOND	1000000000ull	/* nanoseconds */

/**
 * struct entry - What one client was given
 * @service:	Number of the Service port
 * @client:	Address
 * @address:	Of its backend
 * @port:	Of its backend
 * @at:		When it last asked, nanoseconds
 * @older:	Neighbour in order of use
 * @newer:	Neighbour in order of use
 * @next:	Next in its chain
 */
struct entry {
	uint32_t service, client;
	uint32_t address;
	uint16_t port;
	uint64_t at;
	uint32_t older, newer;
	uint32_t next;
};

/**
 * struct affinity - Everything that is remembered
 * @secret:	Keys the hash
 * @count:	Entries in use
 * @oldest:	Used longest ago
 * @newest:	Used last
 * @chains:	By hash: first entry
 * @entries:	In no order
 */
struct affinity {
	uint8_t secret[SIPHASH_KEY_LEN];
	uint32_t count;
	uint32_t oldest, newest;
	uint32_t chains[CHAINS];
	struct entry entries[PYLB_MOST_AFFINE];
};

/**
 * affinity_new() - Begin without memories
 * @secret:	SIPHASH_KEY_LEN bytes
 *
 * Return: it, NULL if there is no memory
 */
struct affinity *affinity_new(const uint8_t *secret)
{
	struct affinity *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	memcpy(a->secret, secret, sizeof(a->secret));
	a->oldest = a->newest = NONE;
	memset(a->chains, 0xff, sizeof(a->chains));
	return a;
}

/**
 * affinity_free() - End it
 * @a:	Affinity, or NULL
 */
void affinity_free(struct affinity *a)
{
	free(a);
}

/**
 * chain_of() - The chain that an entry is in
 * @a:		Affinity
 * @service:	Key
 * @client:	Key
 *
 * Return: index into @a->chains
 */
static uint32_t chain_of(const struct affinity *a, uint32_t service, uint32_t client)
{
	uint8_t bytes[8];

	put32(bytes, service);
	put32(bytes + 4, client);
	return (uint32_t)(pylb_siphash(a->secret, bytes, sizeof(bytes)) % CHAINS);
}

/**
 * find() - The entry of a client
 * @a:		Affinity
 * @service:	Key
 * @client:	Key
 *
 * Return: its index, NONE if there is none
 */
static uint32_t find(const struct affinity *a, uint32_t service, uint32_t client)
{
	uint32_t at = a->chains[chain_of(a, service, client)];

	while (at != NONE && (a->entries[at].service != service || a->entries[at].client != client))
		at = a->entries[at].next;
	return at;
}

/**
 * affinity_given() - What a client was last given
 * @a:		Affinity
 * @service:	Number of the Service port
 * @client:	Its address
 * @now:	Nanoseconds
 * @seconds:	For how long that counts
 * @address:	Out: of the backend
 * @port:	Out: of the backend
 *
 * Return: false if nothing, or too long ago
 */
bool affinity_given(const struct affinity *a, uint32_t service, uint32_t client, uint64_t now,
		    uint32_t seconds, uint32_t *address, uint16_t *port)
{
	uint32_t at = find(a, service, client);

	if (at == NONE || now - a->entries[at].at >= seconds * SECOND)
		return false;
	*address = a->entries[at].address;
	*port = a->entries[at].port;
	return true;
}

/**
 * affinity_services() - Whose clients are remembered, also those whose time is over
 * @a:		Affinity
 * @services:	Out: PYLB_MOST_AFFINE numbers, one for each client
 *
 * Return: how many there are
 */
uint32_t affinity_services(const struct affinity *a, uint32_t *services)
{
	for (uint32_t i = 0; i < a->count; i++)
		services[i] = a->entries[i].service;
	return a->count;
}

/**
 * unuse() - Take an entry out of the order of use
 * @a:	Affinity
 * @e:	Entry
 */
static void unuse(struct affinity *a, const struct entry *e)
{
	if (e->older == NONE)
		a->oldest = e->newer;
	else
		a->entries[e->older].newer = e->newer;
	if (e->newer == NONE)
		a->newest = e->older;
	else
		a->entries[e->newer].older = e->older;
}

/**
 * forget_oldest() - Free the entry that was used longest ago
 * @a:	Affinity with entries
 *
 * Return: its index
 */
static uint32_t forget_oldest(struct affinity *a)
{
	uint32_t at = a->oldest;
	const struct entry *e = &a->entries[at];
	uint32_t *link = &a->chains[chain_of(a, e->service, e->client)];

	unuse(a, e);
	while (*link != at)
		link = &a->entries[*link].next;
	*link = e->next;
	return at;
}

/**
 * affinity_give() - A client has been given a backend
 * @a:		Affinity
 * @service:	Number of the Service port
 * @client:	Its address
 * @now:	Nanoseconds
 * @address:	Of the backend
 * @port:	Of the backend
 */
void affinity_give(struct affinity *a, uint32_t service, uint32_t client, uint64_t now,
		   uint32_t address, uint16_t port)
{
	uint32_t at = find(a, service, client);
	struct entry *e;

	if (at == NONE) {
		uint32_t *chain = &a->chains[chain_of(a, service, client)];

		at = a->count < PYLB_MOST_AFFINE ? a->count++ : forget_oldest(a);
		e = &a->entries[at];
		e->service = service;
		e->client = client;
		e->next = *chain;
		*chain = at;
	} else {
		e = &a->entries[at];
		unuse(a, e);
	}
	e->address = address;
	e->port = port;
	e->at = now;
	e->older = a->newest;
	e->newer = NONE;
	if (a->newest == NONE)
		a->oldest = at;
	else
		a->entries[a->newest].newer = at;
	a->newest = at;
}
