/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_NAT_H
#define PYLB_NAT_H

#include "conntrack.h"
#include "plan.h"

/**
 * struct source - What a flow's source becomes
 * @address:	Source address
 * @low:	First port to choose from; 0: the port is kept when it is free
 * @high:	Last one
 */
struct source {
	uint32_t address;
	uint16_t low, high;
};

struct source source_to_backend(const struct pylb_plan *plan, const struct tuple *original,
				const struct frontend *f, const struct pylb_backend *backend,
				bool to_pod);
struct source source_without_backend(const struct pylb_plan *plan, const struct tuple *original,
				     bool to_pod);
bool reply_tuple(struct table *t, const uint8_t *secret, const struct tuple *original,
		 uint32_t address, uint16_t port, const struct source *source, uint64_t now,
		 struct tuple *reply);

#endif
