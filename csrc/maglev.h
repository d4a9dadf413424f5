/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_MAGLEV_H
#define PYLB_MAGLEV_H

#include "packet.h"

/**
 * struct maglev - A look-up table; shared by whoever has the same backends
 * @users:	How many
 * @size:	Slots
 * @key:	Hash of the backends
 * @count:	How many backends
 * @backends:	What it was made of
 * @slots:	Each a position among the backends
 */
struct maglev {
	uint32_t users;
	uint32_t size;
	uint64_t key;
	uint32_t count;
	struct pylb_backend *backends;
	uint16_t slots[];
};

/**
 * struct shelf - The tables that there are while a plan is made; it is a user of each
 * @places:	Hash table by @key of the tables, at most half full
 * @mask:	Its size less 1
 */
struct shelf {
	struct maglev **places;
	uint32_t mask;
};

extern const uint8_t public_key[16];

void maglev_release(struct maglev *m);
bool shelf_init(struct shelf *s, size_t most);
void shelf_end(struct shelf *s);
void shelf_put(struct shelf *s, struct maglev *m);
struct maglev *shelf_take(struct shelf *s, const struct pylb_backend *backends, uint32_t count,
			  uint32_t size);

#endif
