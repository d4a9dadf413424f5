/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_GRO_H
#define PYLB_GRO_H

#include "conntrack.h"

#define RUNS	512	/* packets and runs of packets in one batch */
#define SLICES	1024	/* packets that were put behind others in one batch */
#define LONGEST_RUN	64	/* packets: as many as fit into one send (UDP_MAX_SEGMENTS) */

/**
 * struct run - A packet, with those behind it that were put to it
 * @packet:	The first, whose headers speak for all
 * @origin:	As it came in
 * @last:	The last slice, NULL: there is none yet
 * @seq:	TCP: the sequence number that may follow
 * @unit:	Payload bytes of the first
 * @closed:	Nothing may follow
 */
struct run {
	struct packet packet;
	struct pylb_packet origin;
	struct slice *last;
	uint32_t seq, unit;
	bool closed;
};

/**
 * struct gro - One batch of received packets
 * @n_runs:	How many of @runs there are
 * @n_slices:	How many of @slices are in use
 * @newest:	By bits of the hash: the newest run of such a flow, plus one
 * @runs:	In order of their first packets
 * @slices:	What lies behind these
 */
struct gro {
	uint32_t n_runs, n_slices;
	uint16_t newest[256];
	struct run runs[RUNS];
	struct slice slices[SLICES];
};

void gro_clear(struct gro *g);
bool gro_has_room(const struct gro *g);
void gro_add(struct gro *g, const struct table *t, struct packet *p,
	     const struct pylb_packet *origin, bool tcp, bool udp);
void gro_finish(struct gro *g);

#endif
