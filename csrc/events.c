/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conntrack events on their way out.
 *
 * Theory of Operation
 * ===================
 *
 * Each is a copy of the flow as it was.  They wait until the caller takes them; whoever
 * does not loses what there is no room for, and packets never wait.
 */
#include "events.h"

#include <stdlib.h>

/**
 * events_init() - Begin to record events
 * @e:	Events, out
 *
 * Return: false when there is no memory
 */
bool events_init(struct events *e)
{
	*e = (struct events){ .waiting = calloc(EVENTS, sizeof(*e->waiting)), .wanted = true };
	return e->waiting;
}

/**
 * events_end() - Free what events_init() took
 * @e:	Events
 */
void events_end(struct events *e)
{
	free(e->waiting);
}

/**
 * events_add() - Record an event, if anybody wants it
 * @e:		Events
 * @kind:	enum pylb_event_kind
 * @now:	Nanoseconds
 *
 * Return: where the flow is to be written, NULL if nowhere
 */
struct pylb_flow *events_add(struct events *e, enum pylb_event_kind kind, uint64_t now)
{
	struct pylb_event *event;

	if (!e->wanted)
		return NULL;
	if (e->count == EVENTS) {
		e->lost++;
		return NULL;
	}
	event = &e->waiting[e->count++];
	event->at = now;
	event->kind = kind;
	return &event->flow;
}
