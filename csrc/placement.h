/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_PLACEMENT_H
#define PYLB_PLACEMENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct placement - Where a pump's thread may run
 * @schedstat:	The thread's own, -1: it stays where the scheduler puts it
 * @all:	CPUs that it may use
 * @one:	The lowest of them
 * @together:	It runs on @one
 * @quiet:	Windows in a row in which it had little to do
 * @since:	When the window began, nanoseconds
 * @ran:	The thread's time on a CPU until then, nanoseconds
 * @waited:	The thread's time waiting for one until then
 */
struct placement {
	int schedstat;
	cpu_set_t all, one;
	bool together;
	int quiet;
	uint64_t since, ran, waited;
};

void placement_begin(struct placement *p, uint64_t now);
void placement_look(struct placement *p, uint64_t now);
void placement_end(struct placement *p);

#define PLACEMENT_WINDOW	10000000ull	/* nanoseconds between looks */

#endif
