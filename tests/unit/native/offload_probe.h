/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of csrc/gro.c, segment cutting, offload.c, sends.c and the sums see of
 * them: one function from bytes to bytes, so that the same cases run inside Python and in
 * a program of its own under the sanitizers.  Integers in a case are little-endian;
 * tests/unit/native/probe.py is the other end.
 */
#ifndef OFFLOAD_PROBE_H
#define OFFLOAD_PROBE_H

#include <stddef.h>
#include <stdint.h>

/* The answer to a case, at most room bytes; 0: the case is malformed or does not fit. */
size_t probe(const uint8_t *in, size_t len, uint8_t *out, size_t room);

#endif
