/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pylb's C core: the only public header.
 *
 * What stands between the two cffi markers is also what Python sees: the builder
 * (src/pylb/_build.py) reads the declarations from here, so there is no second copy.
 * It holds plain declarations only: no macros, no attributes.
 *
 * Byte order: every integer argument and result is in host order and stands for
 * the big-endian value that is on the wire.
 */
#ifndef PYLB_H
#define PYLB_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* RFC 1071: one's-complement sum of len bytes, folded to 16 bits, not complemented. */
uint16_t pylb_ones_sum(const uint8_t *data, size_t len, uint32_t initial);

/* RFC 1624 eqn. 3: the checksum after a 16-bit word of the data changed from old to new. */
uint16_t pylb_check_update16(uint16_t check, uint16_t old_word, uint16_t new_word);

/* The same for an aligned 32-bit word. */
uint16_t pylb_check_update32(uint16_t check, uint32_t old_word, uint32_t new_word);

/* RFC 9293: one's-complement sum of an IPv4 pseudo-header, folded, not complemented. */
uint16_t pylb_pseudo_sum(uint32_t src, uint32_t dst, uint8_t protocol, uint16_t length);

/* SipHash-2-4 of len bytes under a 16-byte key. */
uint64_t pylb_siphash(const uint8_t *key, const uint8_t *data, size_t len);

/* Toeplitz hash (RSS, default key) of addresses and ports. */
uint32_t pylb_toeplitz(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport);

/* Toeplitz hash of addresses alone, for protocols without ports. */
uint32_t pylb_toeplitz_addresses(uint32_t src, uint32_t dst);

/* cffi: end */

#endif
