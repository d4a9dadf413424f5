/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_DATAPLANE_H
#define PYLB_DATAPLANE_H

#include "datapath.h"

void dataplane_lock(struct pylb_dataplane *dp);
void dataplane_unlock(struct pylb_dataplane *dp);

#endif
