/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dataplane from outside: made, loaded, looked at, and fed by hand.
 *
 * Theory of Operation
 * ===================
 *
 * One lock stands before everything.  The pump holds it while it moves one batch;
 * whoever controls the dataplane holds it to swap a pointer or to look at a slice of
 * the table, never longer.  A plain mutex goes to whoever runs, and that is the pump,
 * which would starve the others under load; so there is a second one to queue at.
 *
 * The sans-IO calls (pylb_process(), pylb_advance()) take one packet or moment and list
 * all that became of it.  They are what tests, the simulation and a trace use; the pump
 * calls datapath.c itself.
 */
#include "dataplane.h"

#include <stdlib.h>

#include "overlay.h"

/**
 * dataplane_lock() - Wait for the dataplane, in turn
 * @dp:	Dataplane
 */
void dataplane_lock(struct pylb_dataplane *dp)
{
	pthread_mutex_lock(&dp->next);
	pthread_mutex_lock(&dp->lock);
	pthread_mutex_unlock(&dp->next);
}

/**
 * dataplane_unlock() - Let the next one have it
 * @dp:	Dataplane
 */
void dataplane_unlock(struct pylb_dataplane *dp)
{
	pthread_mutex_unlock(&dp->lock);
}

/**
 * struct sansio - What pylb_process() reports, kept until the next call
 * @dp:		The dataplane itself
 * @dropped:	Drops so far
 * @n_dropped:	Their number
 * @room:	How many @dropped has room for
 * @origin:	The packet in hand
 * @sent:	What the caller reads of dp.outs
 * @buffer:	The packet in hand, to be rewritten
 */
struct sansio {
	struct pylb_dataplane dp;
	struct pylb_dropped *dropped;
	size_t n_dropped, room;
	const struct pylb_packet *origin;
	struct pylb_packet sent[OUTS];
	uint8_t buffer[HEADROOM + IP_MAX + 1];
};

/**
 * sansio_of() - What a dataplane is the first member of
 * @dp:		Dataplane from pylb_new()
 *
 * Return: it
 */
static struct sansio *sansio_of(struct pylb_dataplane *dp)
{
	return (struct sansio *)dp;
}

/**
 * pylb_new() - Make a dataplane
 * @secret:	16 bytes; they key everything that looks random
 * @max_flows:	Bound of the connection table, at most MOST_FLOWS
 *
 * Return: a dataplane without a plan, NULL when there is no memory
 */
struct pylb_dataplane *pylb_new(const uint8_t *secret, uint32_t max_flows)
{
	struct sansio *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	memcpy(s->dp.secret, secret, sizeof(s->dp.secret));
	s->dp.table = table_new(secret, max_flows);
	s->dp.reassembler = reassembler_new();
	s->dp.affinity = affinity_new(secret);
	if (!s->dp.table || !s->dp.reassembler || !s->dp.affinity) {
		if (s->dp.table)
			table_free(s->dp.table);
		if (s->dp.reassembler)
			reassembler_free(s->dp.reassembler);
		affinity_free(s->dp.affinity);
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->dp.lock, NULL);
	pthread_mutex_init(&s->dp.next, NULL);
	return &s->dp;
}

/**
 * forget_dropped() - Begin the list of drops anew
 * @s:		Dataplane
 */
static void forget_dropped(struct sansio *s)
{
	for (size_t i = 0; i < s->n_dropped; i++)
		free((void *)s->dropped[i].packet.data);
	s->n_dropped = 0;
}

/**
 * pylb_free() - End a dataplane, its plan included; no pump may run on it
 * @dp:	Dataplane, or NULL
 */
void pylb_free(struct pylb_dataplane *dp)
{
	if (!dp)
		return;
	forget_dropped(sansio_of(dp));
	free(sansio_of(dp)->dropped);
	pylb_plan_free(dp->plan);
	table_free(dp->table);
	reassembler_free(dp->reassembler);
	affinity_free(dp->affinity);
	pthread_mutex_destroy(&dp->lock);
	pthread_mutex_destroy(&dp->next);
	free(dp);
}

/**
 * pylb_load() - Obey a plan from now on
 * @dp:		Dataplane
 * @plan:	Plan, the dataplane's own from now on
 *
 * Return: the plan before, the caller's to free, NULL if there was none
 */
struct pylb_plan *pylb_load(struct pylb_dataplane *dp, struct pylb_plan *plan)
{
	struct pylb_plan *before;

	dataplane_lock(dp);
	before = dp->plan;
	dp->plan = plan;
	dp->generation++;
	dataplane_unlock(dp);
	return before;
}

/**
 * pylb_generation() - How many plans were loaded
 * @dp:	Dataplane
 *
 * Return: their number; only loading changes it
 */
uint32_t pylb_generation(const struct pylb_dataplane *dp)
{
	return dp->generation;
}

/**
 * report_dropped() - Keep a drop for the caller of the sans-IO functions
 * @context:	struct sansio
 * @reason:	enum pylb_drop
 * @packet:	As it came in
 *
 * The packet in hand is named by NULL, others (fragments that were waiting) are copied.
 * Without memory the drop is counted and not reported.
 */
static void report_dropped(void *context, int reason, const struct pylb_packet *packet)
{
	struct sansio *s = context;
	struct pylb_dropped *d;

	if (s->n_dropped == s->room) {
		size_t room = s->room ? 2 * s->room : 16;

		d = realloc(s->dropped, room * sizeof(*d));
		if (!d)
			return;
		s->dropped = d;
		s->room = room;
	}
	d = &s->dropped[s->n_dropped];
	d->reason = (uint32_t)reason;
	d->packet = *packet;
	d->packet.data = NULL;
	if (packet != s->origin) {
		uint8_t *copy = malloc(packet->len + 1);

		if (!copy)
			return;
		d->packet.data = memcpy(copy, packet->data, packet->len);
	}
	s->n_dropped++;
}

/**
 * begin() - Before a sans-IO call: wait in turn, and report drops
 * @s:		Dataplane
 */
static void begin(struct sansio *s)
{
	dataplane_lock(&s->dp);
	forget_dropped(s);
	s->dp.dropped = report_dropped;
	s->dp.context = s;
}

/**
 * list_sent() - Make the datapath's output the caller's
 * @s:	Dataplane
 *
 * Encapsulation is put before the packets, where there is room for it.
 */
static void list_sent(struct sansio *s)
{
	for (size_t i = 0; i < s->dp.n_outs; i++) {
		struct out *out = &s->dp.outs[i];
		struct pylb_packet *sent = &s->sent[i];
		uint8_t *data = out->packet.data;
		uint32_t len = out->packet.len;

		memset(sent, 0, sizeof(*sent));
		if (out->peer) {
			const uint8_t *headers;
			uint32_t size = overlay_headers(s->dp.plan, out->peer, &headers);

			data -= size;
			len += size;
			memcpy(data, headers, size);
			sent->kind = PYLB_OVERLAY;
			sent->port = out->peer->address;
			sent->spread = out->spread;
		}
		sent->data = data;
		sent->len = len;
	}
}

/**
 * end() - After a sans-IO call: hand out what it produced
 * @s:		Dataplane
 * @out:		Out
 */
static void end(struct sansio *s, struct pylb_output *out)
{
	list_sent(s);
	out->sent = s->sent;
	out->n_sent = s->dp.n_outs;
	datapath_clear(&s->dp);
	out->dropped = s->dropped;
	out->n_dropped = s->n_dropped;
	out->events = table_events(s->dp.table, &out->n_events);
	table_clear_events(s->dp.table);
	s->dp.dropped = NULL;
	s->origin = NULL;
	dataplane_unlock(&s->dp);
}

/**
 * process() - Parse a packet and pass it through the datapath
 * @s:		Dataplane
 * @packet:	As it came in
 * @now:		Nanoseconds
 */
static void process(struct sansio *s, const struct pylb_packet *packet, uint64_t now)
{
	struct pylb_dataplane *dp = &s->dp;
	bool from_tun = packet->kind == PYLB_TUN;
	uint8_t *data = s->buffer + HEADROOM;
	struct packet p;
	int reason;

	dp->counts[from_tun ? PYLB_COUNT_TUN_IN : PYLB_COUNT_OVERLAY_IN]++;
	if (!dp->plan) {
		datapath_drop(dp, PYLB_DROP_NO_PLAN, 1, packet);
		return;
	}
	/* Longer than any datagram can be: cut off, and dropped for it. */
	memcpy(data, packet->data, packet->len < IP_MAX ? packet->len : IP_MAX);
	if (from_tun)
		reason = packet_parse(&p, data, packet->len < IP_MAX ? packet->len : IP_MAX);
	else
		reason = overlay_open(dp->plan, packet->port, data,
				      packet->len < IP_MAX ? packet->len : IP_MAX, &p);
	if (reason == PACKET_OK)
		datapath_receive(dp, &p, packet, now);
	else
		datapath_drop(dp, reason, 1, packet);
}

/**
 * pylb_process() - Handle one packet
 * @dp:		Dataplane
 * @packet:	The packet; it is not written to
 * @now:	Nanoseconds
 * @out:	What became of it; good until the next call
 */
void pylb_process(struct pylb_dataplane *dp, const struct pylb_packet *packet, uint64_t now,
		  struct pylb_output *out)
{
	struct sansio *s = sansio_of(dp);

	begin(s);
	s->origin = packet;
	process(s, packet, now);
	out->more = 0;
	end(s, out);
}

/**
 * pylb_advance() - Let time pass
 * @dp:		Dataplane
 * @now:	Nanoseconds
 * @out:	Fragments given up and DESTROY events; @out->more: call again for the rest
 */
void pylb_advance(struct pylb_dataplane *dp, uint64_t now, struct pylb_output *out)
{
	struct sansio *s = sansio_of(dp);

	begin(s);
	datapath_expire(dp, now);
	out->more = table_advance(dp->table, now, 0);
	end(s, out);
}

/**
 * pylb_next_deadline() - When pylb_advance() is next worth calling
 * @dp:	Dataplane
 *
 * Return: nanoseconds, no later than anything dies; UINT64_MAX: nothing can
 */
uint64_t pylb_next_deadline(struct pylb_dataplane *dp)
{
	uint64_t flows, fragments;

	dataplane_lock(dp);
	flows = table_next_deadline(dp->table);
	fragments = reassembler_next_deadline(dp->reassembler);
	dataplane_unlock(dp);
	return flows < fragments ? flows : fragments;
}

/**
 * pylb_flows() - A slice of the live flows, in the order in which they lie
 * @dp:		Dataplane
 * @now:	Nanoseconds
 * @slot:	Where to begin (0 first); where to go on
 * @flows:	Out
 * @room:	How many @flows has room for; as many slots are looked at
 *
 * Return: how many there are; *@slot is UINT32_MAX when there are no more
 */
size_t pylb_flows(struct pylb_dataplane *dp, uint64_t now, uint32_t *slot, struct pylb_flow *flows,
		  size_t room)
{
	size_t found = 0;
	uint32_t at = *slot, slots;

	dataplane_lock(dp);
	slots = table_slots(dp->table);
	for (size_t i = 0; i < room && at < slots; i++, at++) {
		const struct flow *f = table_flow(dp->table, at);

		if (f->id && f->alive && f->deadline > now)
			table_view(dp->table, at, now, &flows[found++]);
	}
	*slot = at < slots ? at : UINT32_MAX;
	dataplane_unlock(dp);
	return found;
}

/**
 * pylb_affine_services() - The Services whose clients sessionAffinity remembers
 * @dp:		Dataplane
 * @services:	Out: see affinity_services()
 *
 * Return: how many there are
 */
uint32_t pylb_affine_services(struct pylb_dataplane *dp, uint32_t *services)
{
	uint32_t count;

	dataplane_lock(dp);
	count = affinity_services(dp->affinity, services);
	dataplane_unlock(dp);
	return count;
}

/**
 * pylb_destroy() - Destroy a flow
 * @dp:		Dataplane
 * @slot:	Where it lay
 * @id:		Its id
 * @now:	Nanoseconds
 *
 * Return: 1, or 0 when it is not there any more
 */
int pylb_destroy(struct pylb_dataplane *dp, uint32_t slot, uint64_t id, uint64_t now)
{
	int gone = 0;

	dataplane_lock(dp);
	if (slot < table_slots(dp->table)) {
		const struct flow *f = table_flow(dp->table, slot);

		gone = f->id == id && f->alive && f->deadline > now;
		if (gone)
			table_destroy(dp->table, slot, now);
	}
	dataplane_unlock(dp);
	return gone;
}

/**
 * pylb_events() - Take what has happened since the last call
 * @dp:		Dataplane
 * @events:	Out
 * @room:	How many @events has room for; the rest is lost, so be it EVENTS
 *
 * Return: how many there are
 */
size_t pylb_events(struct pylb_dataplane *dp, struct pylb_event *events, size_t room)
{
	const struct pylb_event *waiting;
	size_t count;

	dataplane_lock(dp);
	waiting = table_events(dp->table, &count);
	if (count > room)
		count = room;
	memcpy(events, waiting, count * sizeof(*events));
	table_clear_events(dp->table);
	dataplane_unlock(dp);
	return count;
}

/**
 * pylb_want_events() - Record events or not
 * @dp:		Dataplane
 * @wanted:	0 or 1
 *
 * Return: how many were lost so far because nobody took them
 */
uint64_t pylb_want_events(struct pylb_dataplane *dp, int wanted)
{
	uint64_t lost;

	dataplane_lock(dp);
	lost = table_want_events(dp->table, wanted);
	dataplane_unlock(dp);
	return lost;
}

/**
 * pylb_counters() - Everything that is counted
 * @dp:		Dataplane
 * @counts:	Out: PYLB_COUNTS
 * @drops:	Out: PYLB_DROPS
 * @table:	Out: flows, most flows, early drops
 */
void pylb_counters(struct pylb_dataplane *dp, uint64_t *counts, uint64_t *drops, uint64_t *table)
{
	dataplane_lock(dp);
	memcpy(counts, dp->counts, sizeof(dp->counts));
	memcpy(drops, dp->drops, sizeof(dp->drops));
	table[0] = table_size(dp->table);
	table[1] = table_max(dp->table);
	table[2] = table_early_drops(dp->table);
	dataplane_unlock(dp);
}
