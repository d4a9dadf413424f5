/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_LOADS_H
#define PYLB_LOADS_H

#include "packet.h"

struct loads;

struct loads *loads_new(void);
void loads_free(struct loads *l);
void loads_add(struct loads *l, uint32_t address, uint16_t port, uint8_t protocol, int64_t units);
int64_t loads_get(const struct loads *l, uint32_t address, uint16_t port, uint8_t protocol);

#endif
