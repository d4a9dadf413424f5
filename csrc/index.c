/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of the connection table.
 *
 * Theory of Operation
 * ===================
 *
 * Both tuples of a flow lead to it.  A bucket is one cache line: fifteen entries, each
 * eight bits of the hash (the tag) and a slot's number, and a count.  So a look-up
 * costs two lines that are not in the cache, the bucket and the flow, and the first is
 * known before anything is read: it can be asked for while other packets are handled.
 *
 * A tag is only a hint; whether the flow is meant is seen by its tuples.  A tag is
 * never 0, so that an entry of 0 is an empty one.
 *
 * An entry whose bucket is full goes to the next one that is not, and every bucket that
 * it passes counts it.  A look-up goes on only behind a bucket that was passed.  Taking
 * an entry out undoes the counts on the same way: nothing is ever moved, and no
 * tombstone is left.
 *
 * The hash is SipHash-1-3 (Aumasson and Bernstein, 2012) of the tuple's thirteen bytes
 * under the secret: nobody outside can choose tuples that meet in a bucket.  It is
 * computed on two words in registers.
 */
#include "index.h"

#include <assert.h>

#include "pages.h"

#define LINE		64	/* bytes */
#define ENTRIES		15	/* in a bucket */
#define FULL_PERCENT	85	/* of all entries when the table is full */
#define TUPLE_BYTES	13
#define SLOT_BITS	24
#define ENTRY_SLOT	((1u << SLOT_BITS) - 1)

/**
 * struct bucket - One cache line of the index
 * @entry:	Tag << SLOT_BITS | (slot + 1), 0: empty
 * @passed:	How many entries would lie here, or before, if this had not been full
 */
struct bucket {
	uint32_t entry[ENTRIES];
	uint32_t passed;
};

static_assert(sizeof(struct bucket) == LINE, "a bucket is a cache line");
static_assert(MOST_FLOWS < ENTRY_SLOT, "slot + 1 fits into an entry");

/* Four entries that are compared in one instruction, where the machine has such. */
typedef uint32_t lanes __attribute__((vector_size(16)));

/**
 * read64() - Little-endian 64-bit word, which is how SipHash reads its input
 * @p:	8 bytes; may be unaligned
 *
 * Return: its value
 */
static uint64_t read64(const uint8_t *p)
{
	uint64_t x = 0;

	for (int i = 7; i >= 0; i--)
		x = x << 8 | p[i];
	return x;
}

/**
 * index_init() - Make an empty index
 * @x:		Index
 * @secret:	16 bytes
 * @max_flows:	How many flows it is to have room for
 *
 * Return: false when there is no memory
 */
bool index_init(struct index *x, const uint8_t *secret, uint32_t max_flows)
{
	uint64_t entries = 2 * (uint64_t)max_flows * 100 / FULL_PERCENT;

	x->n_buckets = (uint32_t)(entries / ENTRIES + 1);
	x->key[0] = read64(secret);
	x->key[1] = read64(secret + 8);
	x->buckets = pages_map((size_t)x->n_buckets * sizeof(struct bucket));
	return x->buckets;
}

/**
 * index_end() - Free what index_init() took
 * @x:	Index
 */
void index_end(struct index *x)
{
	pages_unmap(x->buckets, (size_t)x->n_buckets * sizeof(struct bucket));
}

/**
 * rotl() - Rotate to the left
 * @x:		Value
 * @bits:	1 to 63
 *
 * Return: rotated value
 */
static inline uint64_t rotl(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

/**
 * sip_round() - SipRound
 * @v:	State, see section 2.1 of the paper
 */
static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

/**
 * index_hash() - Keyed hash of a tuple
 * @x:	Index
 * @t:	Tuple
 *
 * Return: 64-bit hash
 */
uint64_t index_hash(const struct index *x, const struct tuple *t)
{
	const uint64_t words[2] = {
		(uint64_t)t->src << 32 | t->dst,
		(uint64_t)TUPLE_BYTES << 56 | (uint64_t)t->protocol << 32 |
			(uint32_t)t->sport << 16 | t->dport,
	};
	uint64_t v[4] = {
		x->key[0] ^ 0x736f6d6570736575ull,
		x->key[1] ^ 0x646f72616e646f6dull,
		x->key[0] ^ 0x6c7967656e657261ull,
		x->key[1] ^ 0x7465646279746573ull,
	};

	for (int i = 0; i < 2; i++) {
		v[3] ^= words[i];
		sip_round(v);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/**
 * home() - The bucket that a hash belongs to
 * @x:		Index
 * @hash:	index_hash()
 *
 * Return: its number
 */
static inline uint32_t home(const struct index *x, uint64_t hash)
{
	return (uint32_t)((hash >> 32) * x->n_buckets >> 32);
}

/**
 * following() - The bucket behind another, around
 * @x:	Index
 * @at:	Bucket's number
 *
 * Return: its number
 */
static inline uint32_t following(const struct index *x, uint32_t at)
{
	return at + 1 == x->n_buckets ? 0 : at + 1;
}

/**
 * tag_of() - What an entry keeps of a hash
 * @hash:	index_hash()
 *
 * Return: 8 bits, not 0
 */
static inline uint32_t tag_of(uint64_t hash)
{
	uint32_t tag = (uint32_t)hash & 0xff;

	return tag ? tag : 1;
}

/**
 * tagged() - Which entries of a bucket have a tag
 * @b:		Bucket
 * @tag:	tag_of(), or 0 for empty ones
 *
 * Return: a bit for each entry
 */
static inline uint32_t tagged(const struct bucket *b, uint32_t tag)
{
	static const lanes bits[4] = {
		{ 1 << 0, 1 << 1, 1 << 2, 1 << 3 },
		{ 1 << 4, 1 << 5, 1 << 6, 1 << 7 },
		{ 1 << 8, 1 << 9, 1 << 10, 1 << 11 },
		{ 1 << 12, 1 << 13, 1 << 14, 0 },
	};
	const lanes wanted = { tag, tag, tag, tag };
	lanes found = { 0 };

	for (int i = 0; i < 4; i++) {
		lanes entries;

		memcpy(&entries, (const uint8_t *)b + i * (int)sizeof(entries), sizeof(entries));
		found |= (lanes)(entries >> SLOT_BITS == wanted) & bits[i];
	}
	return found[0] | found[1] | found[2] | found[3];
}

/**
 * index_prefetch() - Ask for what a look-up reads first
 * @x:		Index
 * @hash:	index_hash()
 */
void index_prefetch(const struct index *x, uint64_t hash)
{
	__builtin_prefetch(&x->buckets[home(x, hash)]);
}

/**
 * index_prefetch_flow() - Ask for the flow that a look-up will find
 * @x:		Index
 * @flows:	By slot
 * @hash:	index_hash(), of which index_prefetch() was called a while ago
 *
 * A flow that lies in another bucket than its home is not found here.
 */
void index_prefetch_flow(const struct index *x, const struct flow *flows, uint64_t hash)
{
	const struct bucket *b = &x->buckets[home(x, hash)];

	for (uint32_t found = tagged(b, tag_of(hash)); found; found &= found - 1) {
		uint32_t entry = b->entry[__builtin_ctz(found)];
		const uint8_t *flow = (const uint8_t *)&flows[(entry & ENTRY_SLOT) - 1];

		__builtin_prefetch(flow, 1);
		__builtin_prefetch(flow + LINE, 1);
		__builtin_prefetch(flow + sizeof(struct flow) - 1, 1);
	}
}

/**
 * index_hint() - The flow that a look-up will probably find
 * @x:		Index
 * @hash:	index_hash()
 *
 * Return: slot, NO_FLOW when none is known
 */
uint32_t index_hint(const struct index *x, uint64_t hash)
{
	const struct bucket *b = &x->buckets[home(x, hash)];
	uint32_t found = tagged(b, tag_of(hash));

	return found ? (b->entry[__builtin_ctz(found)] & ENTRY_SLOT) - 1 : NO_FLOW;
}

/**
 * index_find() - The flow that has a tuple
 * @x:		Index
 * @flows:	By slot
 * @key:	Tuple
 * @hash:	index_hash() of it
 * @direction:	Out: which of the flow's tuples it is
 *
 * Return: slot or NO_FLOW
 */
uint32_t index_find(const struct index *x, const struct flow *flows, const struct tuple *key,
		    uint64_t hash, int *direction)
{
	const uint32_t tag = tag_of(hash);
	uint32_t at = home(x, hash);

	/* When every bucket has been passed by something, there is still only one way round. */
	for (uint32_t n = 0; n < x->n_buckets; n++) {
		const struct bucket *b = &x->buckets[at];

		for (uint32_t found = tagged(b, tag); found; found &= found - 1) {
			uint32_t slot = (b->entry[__builtin_ctz(found)] & ENTRY_SLOT) - 1;

			*direction = flow_direction(&flows[slot], key);
			if (*direction >= 0)
				return slot;
		}
		if (!b->passed)
			break;
		at = following(x, at);
	}
	return NO_FLOW;
}

/**
 * index_insert() - Let a hash lead to a flow
 * @x:		Index, with less than twice its flows in it
 * @hash:	index_hash() of one of its tuples
 * @slot:	The flow's
 */
void index_insert(struct index *x, uint64_t hash, uint32_t slot)
{
	uint32_t at = home(x, hash), empty;

	while (!(empty = tagged(&x->buckets[at], 0))) {
		x->buckets[at].passed++;
		at = following(x, at);
	}
	x->buckets[at].entry[__builtin_ctz(empty)] = tag_of(hash) << SLOT_BITS | (slot + 1);
}

/**
 * index_remove() - Undo index_insert()
 * @x:		Index
 * @hash:	As it was inserted
 * @slot:	As it was inserted
 */
void index_remove(struct index *x, uint64_t hash, uint32_t slot)
{
	const uint32_t tag = tag_of(hash), wanted = tag << SLOT_BITS | (slot + 1);
	uint32_t at = home(x, hash);

	for (;;) {
		struct bucket *b = &x->buckets[at];

		for (uint32_t found = tagged(b, tag); found; found &= found - 1) {
			uint32_t *entry = &b->entry[__builtin_ctz(found)];

			if (*entry == wanted) {
				*entry = 0;
				return;
			}
		}
		b->passed--;
		at = following(x, at);
	}
}
