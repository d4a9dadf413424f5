/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_AFFINITY_H
#define PYLB_AFFINITY_H

#include "packet.h"

#define MOST_AFFINE	65536	/* clients that are remembered, of all Services together */

struct affinity;

struct affinity *affinity_new(const uint8_t *secret);
void affinity_free(struct affinity *a);
bool affinity_given(const struct affinity *a, uint32_t service, uint32_t client, uint64_t now,
		    uint32_t seconds, uint32_t *address, uint16_t *port);
void affinity_give(struct affinity *a, uint32_t service, uint32_t client, uint64_t now,
		   uint32_t address, uint16_t port);

#endif
