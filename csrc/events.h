/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_EVENTS_H
#define PYLB_EVENTS_H

#include <stdbool.h>

#include "pylb.h"

#define EVENTS	4096	/* that wait to be taken, at most */

/**
 * struct events - What has happened to flows and was not taken yet
 * @waiting:	Events, oldest first
 * @count:	Their number
 * @lost:	How many there was no room for
 * @wanted:	Somebody takes them
 */
struct events {
	struct pylb_event *waiting;
	size_t count;
	uint64_t lost;
	bool wanted;
};

bool events_init(struct events *e);
void events_end(struct events *e);
struct pylb_flow *events_add(struct events *e, enum pylb_event_kind kind, uint64_t now);

/**
 * events_is_full() - Would the next event be lost?
 * @e:	Events
 *
 * Return: true if so; false when nobody wants it
 */
static inline bool events_is_full(const struct events *e)
{
	return e->wanted && e->count == EVENTS;
}

#endif
