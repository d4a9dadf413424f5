/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_HASH_H
#define PYLB_HASH_H

#include "pylb.h"

#define SIPHASH_KEY_LEN		16	/* bytes */
#define TOEPLITZ_KEY_LEN	40	/* bytes: enough for IPv6 with ports */
#define TOEPLITZ_WORDS		3	/* 32-bit words: two IPv4 addresses, both ports */

#endif
