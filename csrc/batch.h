/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_BATCH_H
#define PYLB_BATCH_H

#include "datapath.h"
#include "gro.h"

void batch_handle(struct pylb_dataplane *dp, struct gro *g, uint64_t now,
		  void (*transmit)(void *context), void *context);

#endif
