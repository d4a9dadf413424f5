/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_BALANCE_H
#define PYLB_BALANCE_H

#include "plan.h"

#define TUPLE_BYTES	13	/* what keyed choices hash: see tuple_bytes() */

void tuple_bytes(const struct tuple *t, uint8_t *bytes);
const struct pylb_backend *balance(const struct pylb_plan *plan, const struct frontend *f,
				   const struct tuple *original, const uint8_t *secret);

#endif
