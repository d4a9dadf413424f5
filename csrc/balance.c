/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing a backend for a new flow.
 *
 * Theory of Operation
 * ===================
 *
 * `random` is a keyed hash of the original tuple modulo the number of active backends:
 * the same flow gets the same backend as long as these stay the same, also after a
 * restart with the same secret.  `rr` is the frontend's turn modulo that number, and a
 * change of the backends does not restart it.  See pylb/dataplane/python/balance.py.
 */
#include "balance.h"

#include "hash.h"

/**
 * tuple_bytes() - What keyed choices hash
 * @t:		Tuple
 * @bytes:	Out: TUPLE_BYTES: addresses, ports and protocol, big-endian
 */
void tuple_bytes(const struct tuple *t, uint8_t *bytes)
{
	put32(bytes, t->src);
	put32(bytes + 4, t->dst);
	put16(bytes + 8, t->sport);
	put16(bytes + 10, t->dport);
	bytes[12] = t->protocol;
}

/**
 * balance() - The backend for a new flow
 * @plan:	Plan
 * @f:		Frontend of that plan; its turn moves on
 * @original:	The flow's first packet
 * @secret:	SIPHASH_KEY_LEN bytes
 *
 * Return: the backend, NULL when none is active
 */
const struct pylb_backend *balance(const struct pylb_plan *plan, const struct frontend *f,
				   const struct tuple *original, const uint8_t *secret)
{
	uint8_t bytes[TUPLE_BYTES];
	uint64_t choice;

	if (!f->key.backends)
		return NULL;
	if (f->key.scheduler == PYLB_ROUND_ROBIN) {
		choice = f->turn->next++;
	} else {
		tuple_bytes(original, bytes);
		choice = pylb_siphash(secret, bytes, sizeof(bytes));
	}
	return plan_backends(plan, f) + choice % f->key.backends;
}
