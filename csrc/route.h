/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_ROUTE_H
#define PYLB_ROUTE_H

#include <pthread.h>

#include "affinity.h"
#include "conntrack.h"
#include "fragments.h"
#include "icmp.h"
#include "plan.h"

#define HEADROOM	64	/* bytes before a packet in which headers can be put */
#define OUTS		10240	/* packets that one batch may produce */
#define MOST_PIECES	8300	/* of the longest packet, in fragments of 8 bytes each */
#define ARENA		(3u << 20)	/* bytes of what a batch makes itself */

/**
 * struct out - A packet on its way out
 * @packet:	The packet, HEADROOM bytes free before it
 * @peer:	Where the overlay takes it, NULL: to the TUN
 * @spread:	Decides the overlay's source port
 */
struct out {
	struct packet packet;
	const struct peer *peer;
	uint32_t spread;
};

/**
 * struct pylb_dataplane - A node's dataplane
 * @lock:	Held while a batch is processed, a plan swapped, the table looked at
 * @next:	Held while waiting for @lock: first come, first served
 * @plan:	NULL before the first
 * @generation:	Plans loaded so far
 * @secret:	Keys everything that looks random
 * @table:	Flows
 * @reassembler:	Fragments that wait
 * @affinity:	What clients were given
 * @counts:	By enum pylb_count
 * @drops:	By enum pylb_drop
 * @dropped:	Called for each drop, or NULL: then they are only counted
 * @context:	For @dropped
 * @n_outs:	How many of @outs the batch has produced
 * @used:	Bytes of @arena in use
 * @outs:	In order
 * @arena:	What was made here: answers and fragments
 */
struct pylb_dataplane {
	pthread_mutex_t lock, next;
	struct pylb_plan *plan;
	uint32_t generation;
	uint8_t secret[16];
	struct table *table;
	struct reassembler *reassembler;
	struct affinity *affinity;
	uint64_t counts[PYLB_COUNTS];
	uint64_t drops[PYLB_DROPS];
	lost_fn dropped;
	void *context;
	size_t n_outs;
	size_t used;
	struct out outs[OUTS];
	uint8_t arena[ARENA];
};

void datapath_drop(struct pylb_dataplane *dp, int reason, uint32_t packets,
		   const struct pylb_packet *origin);
bool datapath_has_room(const struct pylb_dataplane *dp);
void datapath_clear(struct pylb_dataplane *dp);

uint8_t *arena_take(struct pylb_dataplane *dp, uint32_t len);
uint32_t on_the_wire(const struct packet *p);
void to_tun(struct pylb_dataplane *dp, struct packet *p, uint32_t largest, bool from_tun);
void route(struct pylb_dataplane *dp, struct packet *p, uint32_t largest, bool from_tun);
void emit(struct pylb_dataplane *dp, uint8_t *data, uint32_t len);

#endif
