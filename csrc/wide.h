/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_WIDE_H
#define PYLB_WIDE_H

#include "flow.h"

/**
 * struct wide_counters - High parts of counters that outgrew their flow's record
 * @entries:	Open addressing, by slot
 * @n_entries:	Room
 */
struct wide_counters {
	struct wide_entry *entries;
	uint32_t n_entries;
};

bool wide_init(struct wide_counters *w, uint32_t max_flows);
void wide_end(struct wide_counters *w);
void wide_forget(struct wide_counters *w, uint32_t slot);
void wide_read(const struct wide_counters *w, uint32_t slot, struct pylb_flow *view);
void wide_carry(struct wide_counters *w, struct flow *f, uint32_t slot, int direction,
		bool packets, bool bytes);

/**
 * wide_count() - Count packets of a flow
 * @w:		Counters' high parts
 * @f:		Flow
 * @slot:	Its slot
 * @direction:	Direction
 * @packets:	How many
 * @bytes:	Their bytes
 */
static inline void wide_count(struct wide_counters *w, struct flow *f, uint32_t slot,
			      int direction, uint32_t packets, uint32_t bytes)
{
	bool more_packets, more_bytes;

	f->packets[direction] += packets;
	f->bytes[direction] += bytes;
	more_packets = f->packets[direction] < packets;
	more_bytes = f->bytes[direction] < bytes;
	if (more_packets | more_bytes)
		wide_carry(w, f, slot, direction, more_packets, more_bytes);
}

#endif
