/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_WHEEL_H
#define PYLB_WHEEL_H

#include "list.h"

#define NEAR_SLOTS	256	/* of the lowest level */
#define FAR_SLOTS	64	/* of each level above */
#define FAR_LEVELS	4

#define DEADLINE_MASK	((1ull << 56) - 1)	/* as many bits as a flow has for it */

/* Heads of the wheel's lists. */
enum wheel_head {
	HEAD_NEAR,
	HEAD_FAR = HEAD_NEAR + NEAR_SLOTS,
	HEAD_DUE = HEAD_FAR + FAR_LEVELS * FAR_SLOTS,
	HEAD_PENDING,
	WHEEL_HEADS,
};

/**
 * struct wheel - Flows by when they die
 * @flows:	By slot
 * @first_head:	Slot of the first of WHEEL_HEADS heads
 * @tick:	Where the wheel stands, in ticks of the lowest level
 * @near:	A bit for each slot of the lowest level that may hold a flow
 * @far:	The same for the levels above
 * @popped:	All that was dead at this time has been taken out, nanoseconds
 * @due_sorted:	The list of what is due in this tick is in order
 */
struct wheel {
	struct flow *flows;
	uint32_t first_head;
	uint64_t tick;
	uint64_t near[NEAR_SLOTS / 64];
	uint64_t far[FAR_LEVELS];
	uint64_t popped;
	bool due_sorted;
};

void wheel_init(struct wheel *w, struct flow *flows, uint32_t first_head);
void wheel_link(struct wheel *w, uint32_t slot, uint64_t now);
void wheel_renew(struct wheel *w, uint32_t slot, uint64_t deadline, uint32_t seconds,
		 uint64_t now);
uint32_t wheel_pop(struct wheel *w, uint64_t now, uint32_t *budget);
uint64_t wheel_next_deadline(const struct wheel *w);

#endif
