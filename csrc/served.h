/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_SERVED_H
#define PYLB_SERVED_H

#include "balance.h"

bool still_right(const struct pylb_plan *plan, uint32_t generation, struct flow *f, int direction,
		 bool from_tun);

#endif
