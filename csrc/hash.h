/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_HASH_H
#define PYLB_HASH_H

#include "pylb.h"

#define SIPHASH_KEY_LEN		16	/* bytes */
#define TOEPLITZ_KEY_LEN	40	/* bytes: enough for IPv6 with ports */
#define TOEPLITZ_WORDS		3	/* 32-bit words: two IPv4 addresses, both ports */

#define MOST_ENTRIES	(1u << 30)	/* of a hash table, whose size has 32 bits */

/**
 * mix() - Spread a key over 64 bits (the finaliser of MurmurHash3)
 * @x:	Key
 *
 * Return: hash; every bit of it depends on every bit of @x
 */
static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccd;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53;
	return x ^ x >> 33;
}

/**
 * mask_for() - Size of a hash table that is to be at most half full, less 1
 * @entries:	Most entries that it will have, at most MOST_ENTRIES
 *
 * Return: the mask that brings a hash into the table, whose size is a power of two
 */
static inline uint32_t mask_for(size_t entries)
{
	uint32_t size = 2;

	while (size < 2 * entries)
		size *= 2;
	return size - 1;
}

#endif
