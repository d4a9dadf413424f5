/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_DATAPATH_H
#define PYLB_DATAPATH_H

#include "route.h"

void datapath_receive(struct pylb_dataplane *dp, struct packet *p,
		      const struct pylb_packet *origin, uint64_t now);
void datapath_expire(struct pylb_dataplane *dp, uint64_t now);

#endif
