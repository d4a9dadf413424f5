/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch of received packets through the datapath.
 *
 * Theory of Operation
 * ===================
 *
 * The flow table is larger than any cache: taken by themselves, packets of random flows
 * would each wait for memory several times: for the index, for the flow, and for the
 * flow's neighbours in its list, if it moves there.  So these are asked for some packets
 * ahead, step by step, for each says where the next one lies.
 */
#include "batch.h"

#define AHEAD	8	/* packets between the steps */
#define STEPS	3

/**
 * batch_handle() - Handle what has been received, send what it becomes, begin anew
 * @dp:		Dataplane with a plan
 * @g:		The batch; empty afterwards
 * @now:	Nanoseconds
 * @transmit:	Sends what is in dp->outs and clears it (datapath_clear()); the packets of the
 *		batch may lie there until it has
 * @context:	For @transmit
 */
void batch_handle(struct pylb_dataplane *dp, struct gro *g, uint64_t now,
		  void (*transmit)(void *context), void *context)
{
	gro_finish(g);
	for (uint32_t i = 0; i < g->n_runs + STEPS * AHEAD; i++) {
		struct run *r;

		if (i < g->n_runs)
			table_prefetch(dp->table, g->runs[i].packet.hash);
		if (i >= AHEAD && i - AHEAD < g->n_runs)
			table_prefetch_flow(dp->table, g->runs[i - AHEAD].packet.hash);
		if (i >= 2 * AHEAD && i - 2 * AHEAD < g->n_runs)
			table_prefetch_neighbours(dp->table,
						  g->runs[i - 2 * AHEAD].packet.hash);
		if (i < STEPS * AHEAD)
			continue;
		if (!datapath_has_room(dp))
			transmit(context);
		r = &g->runs[i - STEPS * AHEAD];
		datapath_receive(dp, &r->packet, &r->origin, now);
	}
	transmit(context);
	gro_clear(g);
}
