/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_CONNTRACK_H
#define PYLB_CONNTRACK_H

#include "table.h"

bool may_open(const struct packet *p);
void track_abort(struct table *t, uint32_t slot, uint64_t now, const uint32_t *timeouts);
enum verdict track(struct table *t, uint32_t slot, const struct packet *p, int direction,
		   bool fresh, uint64_t now, const uint32_t *timeouts);

#endif
