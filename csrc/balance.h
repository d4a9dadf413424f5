/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_BALANCE_H
#define PYLB_BALANCE_H

#include "affinity.h"
#include "conntrack.h"
#include "plan.h"

#define TUPLE_BYTES	13	/* what keyed choices hash: see tuple_bytes() */

/**
 * struct choices - Which of a frontend's backends a flow may have
 * @first:	The first of them
 * @count:	Their number
 * @which:	0: the active ones; 1: the others
 */
struct choices {
	const struct pylb_backend *first;
	uint32_t count;
	int which;
};

void tuple_bytes(const struct tuple *t, uint8_t *bytes);
bool eligible(const struct pylb_plan *plan, const struct frontend *f, uint32_t source,
	      struct choices *choices);
bool admits(const struct pylb_plan *plan, const struct frontend *f, uint32_t source);
bool counts_load(const struct frontend *f);
const struct pylb_backend *balance(struct table *t, struct affinity *affinity,
				   const uint8_t *secret, const struct frontend *f,
				   const struct choices *choices, const struct tuple *original,
				   uint64_t now);

#endif
