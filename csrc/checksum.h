/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_CHECKSUM_H
#define PYLB_CHECKSUM_H

#include "pylb.h"

/**
 * fold() - Fold a one's-complement sum to 16 bits
 * @sum: Sum with carries in the upper 48 bits
 *
 * Return: the same sum modulo 0xffff, in 16 bits
 */
static inline uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

#endif
