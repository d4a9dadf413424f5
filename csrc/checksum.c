/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum.
 *
 * Theory of Operation
 * ===================
 *
 * The sum is the same in either byte order up to a swap of the result (RFC 1071
 * section 2 (B)), and carries may be added at any time (2 (C)).  So words are
 * added as they lie in memory, 32 bits at a time into a 64-bit accumulator, and
 * only the result is swapped.  A 64-bit accumulator of 32-bit words cannot
 * overflow below 16 GiB of data.
 *
 * Payloads are summed for every segment that leaves by the overlay or comes from it,
 * so where the processor has AVX2 long buffers are read 64 bytes at a time.
 */
#include "checksum.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDE	64	/* bytes of a step of sum_wide() */

/**
 * sum_wide() - Sum of 32-bit words as they lie in memory, with AVX2
 * @data:	Bytes; may be unaligned
 * @len:	A multiple of WIDE
 *
 * Each 64-bit lane holds two words: its lower half is added to one accumulator, its
 * upper half to another.
 *
 * Return: the sum, not folded
 */
__attribute__((target("avx2"))) static uint64_t sum_wide(const uint8_t *data, size_t len)
{
	const __m256i lower = _mm256_set1_epi64x(0xffffffff);
	__m256i sums[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(),
			    _mm256_setzero_si256(), _mm256_setzero_si256() };
	uint64_t lanes[4];

	for (; len; data += WIDE, len -= WIDE) {
		__m256i a = _mm256_loadu_si256((const __m256i *)data);
		__m256i b = _mm256_loadu_si256((const __m256i *)(data + 32));

		sums[0] = _mm256_add_epi64(sums[0], _mm256_and_si256(a, lower));
		sums[1] = _mm256_add_epi64(sums[1], _mm256_srli_epi64(a, 32));
		sums[2] = _mm256_add_epi64(sums[2], _mm256_and_si256(b, lower));
		sums[3] = _mm256_add_epi64(sums[3], _mm256_srli_epi64(b, 32));
	}
	_mm256_storeu_si256((__m256i *)lanes,
			    _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]),
					     _mm256_add_epi64(sums[2], sums[3])));
	return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

/**
 * has_wide() - Does the processor have AVX2?
 *
 * Return: true if so
 */
static bool has_wide(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
#define WIDE	64

/**
 * sum_wide() - There is no such thing on this machine
 * @data:	Unused
 * @len:	Unused
 *
 * Return: 0; has_wide() keeps callers away
 */
static uint64_t sum_wide(const uint8_t *data, size_t len)
{
	(void)data;
	(void)len;
	return 0;
}

/**
 * has_wide() - Does the processor have AVX2?
 *
 * Return: true if so
 */
static bool has_wide(void)
{
	return false;
}
#endif

/**
 * from_wire() - Host-order value of a big-endian word as it lies in memory
 * @word:	Word read with memcpy()
 *
 * Return: its value; compilers make one rotation of this, or nothing
 */
static uint16_t from_wire(uint16_t word)
{
	uint8_t bytes[2];

	memcpy(bytes, &word, sizeof(bytes));
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/**
 * pylb_ones_sum() - One's-complement sum of a buffer (RFC 1071)
 * @data:	Bytes; may be unaligned
 * @len:	Number of bytes; an odd last one is padded with zero
 * @initial:	Sum to start from, host order (a pseudo-header's)
 *
 * Return: folded sum, host order, not complemented
 */
uint16_t pylb_ones_sum(const uint8_t *data, size_t len, uint32_t initial)
{
	uint64_t sum = 0;
	uint32_t word32;
	uint16_t word16;

	if (len >= 4 * WIDE && has_wide()) {
		size_t wide = len - len % WIDE;

		sum = sum_wide(data, wide);
		data += wide;
		len -= wide;
	}
	for (; len >= 16; data += 16, len -= 16) {
		uint32_t words[4];

		memcpy(words, data, sizeof(words));
		sum += (uint64_t)words[0] + words[1] + words[2] + words[3];
	}
	for (; len >= 4; data += 4, len -= 4) {
		memcpy(&word32, data, sizeof(word32));
		sum += word32;
	}
	if (len >= 2) {
		memcpy(&word16, data, sizeof(word16));
		sum += word16;
		data += 2;
		len -= 2;
	}
	if (len) {
		uint8_t last[2] = { *data, 0 };

		memcpy(&word16, last, sizeof(word16));
		sum += word16;
	}
	return fold((uint64_t)from_wire(fold(sum)) + initial);
}

/**
 * pylb_check_update16() - Checksum after one 16-bit word changed (RFC 1624, eqn. 3)
 * @check:	Checksum as in the header
 * @old_word:	The word before
 * @new_word:	The word after
 *
 * Return: the new checksum
 */
uint16_t pylb_check_update16(uint16_t check, uint16_t old_word, uint16_t new_word)
{
	uint64_t sum = (uint64_t)(uint16_t)~check + (uint16_t)~old_word + new_word;

	return (uint16_t)~fold(sum);
}

/**
 * pylb_check_update32() - Checksum after an aligned 32-bit word changed
 * @check:	Checksum as in the header
 * @old_word:	The word before (an address, or both ports)
 * @new_word:	The word after
 *
 * Return: the new checksum
 */
uint16_t pylb_check_update32(uint16_t check, uint32_t old_word, uint32_t new_word)
{
	uint64_t sum = (uint64_t)(uint16_t)~check + (uint32_t)~old_word + new_word;

	return (uint16_t)~fold(sum);
}

/**
 * pylb_pseudo_sum() - Sum of an IPv4 pseudo-header (RFC 9293 section 3.1)
 * @src:	Source address, host order
 * @dst:	Destination address
 * @protocol:	IANA protocol number
 * @length:	Bytes of the transport header and its payload
 *
 * Return: folded sum, host order, not complemented
 */
uint16_t pylb_pseudo_sum(uint32_t src, uint32_t dst, uint8_t protocol, uint16_t length)
{
	return fold((uint64_t)src + dst + protocol + length);
}
