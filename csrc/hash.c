/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyed and spreading hashes.
 *
 * Theory of Operation
 * ===================
 *
 * SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012)
 * keys everything that an attacker could otherwise steer: the choice of a
 * backend, the first SNAT port tried.
 *
 * The Toeplitz hash is what network cards spread flows with (RSS).  It is no
 * secret and need not be: it picks the overlay's source port, nothing else.  For
 * every input bit that is set, the 32 bits of the key that begin at that bit's
 * position are XORed into the result; that is done by half bytes, from a table.
 */
#include "hash.h"

#include <assert.h>

/* Each word is hashed with its own 32 bits of the key and the 32 after them. */
static_assert(4 * (TOEPLITZ_WORDS + 1) <= TOEPLITZ_KEY_LEN, "the key must outlast the input");

/**
 * rotl() - Rotate to the left
 * @x:		Value
 * @bits:	1 to 63
 *
 * Return: rotated value
 */
static uint64_t rotl(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

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
 * struct sip - SipHash's internal state
 * @v0:		See section 2.1 of the paper
 * @v1:		As above
 * @v2:		As above
 * @v3:		As above
 */
struct sip {
	uint64_t v0, v1, v2, v3;
};

/**
 * sip_rounds() - SipRound, repeated
 * @s:		State
 * @rounds:	How many times
 */
static void sip_rounds(struct sip *s, int rounds)
{
	while (rounds--) {
		s->v0 += s->v1;
		s->v2 += s->v3;
		s->v1 = rotl(s->v1, 13) ^ s->v0;
		s->v3 = rotl(s->v3, 16) ^ s->v2;
		s->v0 = rotl(s->v0, 32);
		s->v2 += s->v1;
		s->v0 += s->v3;
		s->v1 = rotl(s->v1, 17) ^ s->v2;
		s->v3 = rotl(s->v3, 21) ^ s->v0;
		s->v2 = rotl(s->v2, 32);
	}
}

/**
 * sip_absorb() - Take in one word, with the 2 of SipHash-2-4
 * @s:		State
 * @word:	Next 8 bytes of the input
 */
static void sip_absorb(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_rounds(s, 2);
	s->v0 ^= word;
}

/**
 * pylb_siphash() - SipHash-2-4
 * @key:	SIPHASH_KEY_LEN bytes
 * @data:	Bytes to hash
 * @len:	Their number
 *
 * Return: 64-bit hash
 */
uint64_t pylb_siphash(const uint8_t *key, const uint8_t *data, size_t len)
{
	const uint64_t k0 = read64(key), k1 = read64(key + 8);
	struct sip s = {
		k0 ^ 0x736f6d6570736575ULL,
		k1 ^ 0x646f72616e646f6dULL,
		k0 ^ 0x6c7967656e657261ULL,
		k1 ^ 0x7465646279746573ULL,
	};
	uint64_t last = (uint64_t)len << 56;

	for (; len >= 8; data += 8, len -= 8)
		sip_absorb(&s, read64(data));
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)data[i] << (8 * i);
	sip_absorb(&s, last);
	s.v2 ^= 0xff;
	sip_rounds(&s, 4);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/* The key that the RSS specification publishes with its verification vectors. */
static const uint8_t toeplitz_key[TOEPLITZ_KEY_LEN] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
	0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
	0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* What each half byte of the input adds, by its place: filled before main(). */
static uint32_t toeplitz_nibbles[8 * TOEPLITZ_WORDS][16];

/**
 * toeplitz_prepare() - Fill the table of half bytes
 *
 * The 32 bits of the key that begin at bit n are what input bit n adds.
 */
__attribute__((constructor)) static void toeplitz_prepare(void)
{
	for (int place = 0; place < 8 * TOEPLITZ_WORDS; place++) {
		for (int bit = 0; bit < 4; bit++) {
			int at = 4 * place + bit;
			const uint8_t *k = toeplitz_key + at / 8;
			uint64_t window = (uint64_t)k[0] << 32 | (uint64_t)k[1] << 24 |
					  (uint64_t)k[2] << 16 | (uint64_t)k[3] << 8 | k[4];
			uint32_t adds = (uint32_t)(window >> (8 - at % 8));

			for (int value = 0; value < 16; value++) {
				if (value & 8 >> bit)
					toeplitz_nibbles[place][value] ^= adds;
			}
		}
	}
}

/**
 * toeplitz() - Toeplitz hash of consecutive big-endian 32-bit words
 * @words:	Input words, host order
 * @count:	Their number, at most TOEPLITZ_WORDS
 *
 * Return: 32-bit hash
 */
static uint32_t toeplitz(const uint32_t *words, int count)
{
	uint32_t hash = 0;

	for (int i = 0; i < count; i++) {
		for (int n = 0; n < 8; n++)
			hash ^= toeplitz_nibbles[8 * i + n][words[i] >> (28 - 4 * n) & 15];
	}
	return hash;
}

/**
 * pylb_toeplitz() - RSS hash of an IPv4 flow with ports
 * @src:	Source address, host order
 * @dst:	Destination address
 * @sport:	Source port
 * @dport:	Destination port
 *
 * Return: 32-bit hash
 */
uint32_t pylb_toeplitz(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport)
{
	const uint32_t words[TOEPLITZ_WORDS] = { src, dst, (uint32_t)sport << 16 | dport };

	return toeplitz(words, 3);
}

/**
 * pylb_toeplitz_addresses() - RSS hash of a pair of IPv4 addresses
 * @src:	Source address, host order
 * @dst:	Destination address
 *
 * Return: 32-bit hash
 */
uint32_t pylb_toeplitz_addresses(uint32_t src, uint32_t dst)
{
	const uint32_t words[] = { src, dst };

	return toeplitz(words, 2);
}
