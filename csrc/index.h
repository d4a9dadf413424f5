/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_INDEX_H
#define PYLB_INDEX_H

#include "flow.h"

struct bucket;

/**
 * struct index - Where the flows are, by either of their tuples
 * @buckets:	A cache line each
 * @n_buckets:	Their number
 * @key:	Of the hash
 */
struct index {
	struct bucket *buckets;
	uint32_t n_buckets;
	uint64_t key[2];
};

bool index_init(struct index *x, const uint8_t *secret, uint32_t max_flows);
void index_end(struct index *x);
uint64_t index_hash(const struct index *x, const struct tuple *t);
void index_prefetch(const struct index *x, uint64_t hash);
void index_prefetch_flow(const struct index *x, const struct flow *flows, uint64_t hash);
uint32_t index_hint(const struct index *x, uint64_t hash);
uint32_t index_find(const struct index *x, const struct flow *flows, const struct tuple *key,
		    uint64_t hash, int *direction);
void index_insert(struct index *x, uint64_t hash, uint32_t slot);
void index_remove(struct index *x, uint64_t hash, uint32_t slot);

#endif
