/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_MAGLEV_H
#define PYLB_MAGLEV_H

#include "packet.h"

/**
 * struct maglev - A look-up table; shared by whoever has the same backends
 * @users:	How many
 * @size:	Slots
 * @slots:	Each a position among the backends
 */
struct maglev {
	uint32_t users;
	uint32_t size;
	uint16_t slots[];
};

extern const uint8_t public_key[16];

struct maglev *maglev_build(const struct pylb_backend *backends, uint32_t count, uint32_t size);
void maglev_release(struct maglev *m);

#endif
