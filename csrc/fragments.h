/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_FRAGMENTS_H
#define PYLB_FRAGMENTS_H

#include "packet.h"

struct reassembler;

/* What became of a fragment. */
enum reassembly {
	FRAGMENT_KEPT,		/* it waits for others (or was there already) */
	FRAGMENT_WHOLE,		/* the packet is whole */
	FRAGMENT_BAD,		/* it cannot be taken */
};

/**
 * lost_fn - Called for each packet that was kept and goes with a datagram that is given up
 * @context:	As it was handed in
 * @reason:	enum pylb_drop
 * @packet:	As it came in; its bytes are gone after the call
 */
typedef void (*lost_fn)(void *context, int reason, const struct pylb_packet *packet);

struct reassembler *reassembler_new(void);
void reassembler_free(struct reassembler *r);
enum reassembly reassembler_add(struct reassembler *r, const struct packet *p,
				const struct pylb_packet *origin, uint64_t now, lost_fn lost,
				void *context, struct packet *whole, uint32_t *largest,
				int *reason);
void reassembler_expire(struct reassembler *r, uint64_t now, lost_fn lost, void *context);
uint64_t reassembler_next_deadline(const struct reassembler *r);

uint32_t fragment_next(const struct packet *p, uint32_t size, uint32_t offset, uint8_t *to,
		       uint32_t *len);

#endif
