/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_AFFINITY_H
#define PYLB_AFFINITY_H

#include "packet.h"

struct affinity;

struct affinity *affinity_new(const uint8_t *secret);
void affinity_free(struct affinity *a);
bool affinity_given(const struct affinity *a, uint32_t service, uint32_t client, uint64_t now,
		    uint32_t seconds, uint32_t *address, uint16_t *port);
uint32_t affinity_services(const struct affinity *a, uint32_t *services);
void affinity_give(struct affinity *a, uint32_t service, uint32_t client, uint64_t now,
		   uint32_t address, uint16_t port);

#endif
