/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_PAGES_H
#define PYLB_PAGES_H

#include <stddef.h>

void *pages_map(size_t size);
void pages_unmap(void *area, size_t size);

#endif
