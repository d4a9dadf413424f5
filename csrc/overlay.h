/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_OVERLAY_H
#define PYLB_OVERLAY_H

#include "plan.h"

int overlay_open(const struct pylb_plan *plan, uint32_t sender, uint8_t *data, uint32_t len,
		 struct packet *p);
uint32_t overlay_headers(const struct pylb_plan *plan, const struct peer *peer,
			 const uint8_t **headers);
uint32_t overlay_spread(const struct packet *p);

#endif
