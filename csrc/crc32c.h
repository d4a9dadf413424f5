/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_CRC32C_H
#define PYLB_CRC32C_H

#include "pylb.h"

#endif
