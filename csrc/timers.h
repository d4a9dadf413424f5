/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_TIMERS_H
#define PYLB_TIMERS_H

#include "wheel.h"

#define CLASSES		64	/* timeouts that unassured flows may have at one time */
#define TIMERS_HEADS	(CLASSES + WHEEL_HEADS)

/**
 * struct timers - When flows die, and which unassured one was renewed longest ago
 * @flows:	By slot; the last TIMERS_HEADS are list heads
 * @first_head:	Slot of the first of these: the classes'
 * @n_classes:	How many of @seconds are in use
 * @seconds:	By class: its timeout
 * @wheel:	Assured flows
 */
struct timers {
	struct flow *flows;
	uint32_t first_head;
	uint32_t n_classes;
	uint32_t seconds[CLASSES];
	struct wheel wheel;
};

void timers_init(struct timers *timers, struct flow *flows, uint32_t first_head);
void timers_add(struct timers *timers, uint32_t slot, uint64_t now);
void timers_remove(struct timers *timers, uint32_t slot);
void timers_renew(struct timers *timers, uint32_t slot, uint32_t seconds, uint64_t now);
void timers_assure(struct timers *timers, uint32_t slot, uint32_t seconds, uint64_t now);
void timers_retain(struct timers *timers, uint32_t slot, uint64_t now);
void timers_prefetch(const struct timers *timers, uint32_t slot);
uint32_t timers_victim(const struct timers *timers);
uint32_t timers_pop(struct timers *timers, uint64_t now, uint32_t *budget);
uint64_t timers_next_deadline(const struct timers *timers);

#endif
