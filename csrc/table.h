/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_TABLE_H
#define PYLB_TABLE_H

#include "events.h"
#include "flow.h"

struct table;

struct table *table_new(const uint8_t *secret, uint32_t max_flows);
void table_free(struct table *t);

uint64_t table_hash(const struct table *t, const struct tuple *key);
void table_prefetch(const struct table *t, uint64_t hash);
void table_prefetch_flow(const struct table *t, uint64_t hash);
struct flow *table_flow(struct table *t, uint32_t slot);
uint32_t table_lookup(struct table *t, const struct tuple *key, uint64_t hash, uint64_t now,
		      int *direction);

bool table_make_room(struct table *t, uint64_t now);
uint32_t table_create(struct table *t, const struct tuple *original, const struct tuple *reply,
		      uint64_t now);
void table_renew(struct table *t, uint32_t slot, uint32_t seconds, uint64_t now);
void table_assure(struct table *t, uint32_t slot, uint32_t seconds, uint64_t now);
void table_count(struct table *t, uint32_t slot, int direction, uint32_t packets, uint32_t bytes);
void table_announce(struct table *t, enum pylb_event_kind kind, uint32_t slot, uint64_t now);
void table_destroy(struct table *t, uint32_t slot, uint64_t now);
bool table_advance(struct table *t, uint64_t now, uint32_t limit);
uint64_t table_next_deadline(const struct table *t);

void table_view(const struct table *t, uint32_t slot, uint64_t now, struct pylb_flow *view);
uint32_t table_slots(const struct table *t);

const struct pylb_event *table_events(const struct table *t, size_t *count);
void table_clear_events(struct table *t);
uint64_t table_want_events(struct table *t, bool wanted);

uint32_t table_size(const struct table *t);
uint32_t table_max(const struct table *t);
uint64_t table_early_drops(const struct table *t);

#endif
