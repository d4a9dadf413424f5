/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CPU a pump runs on: with the others while there is little to do, apart under load.
 *
 * Theory of Operation
 * ===================
 *
 * A packet on its way through nodes of one machine wakes one daemon after the other.
 * Where there is little to do the scheduler wakes each on a CPU that is idle, and to get
 * an idle CPU out of its sleep takes longer (in a virtual machine, tens of microseconds)
 * than all that the daemons do to the packet.  So a pump with little to do asks to be run
 * on the lowest CPU that it may use, as all pumps do, where one wakes the next at the cost
 * of a switch.  Under load that CPU would be too small for all of them: then each runs
 * wherever the scheduler likes.
 *
 * How much there is to do is what the thread ran and what it waited to be run, in windows
 * of 10 ms (/proc/thread-self/schedstat; Documentation/scheduler/sched-stats.rst).  More
 * than three quarters of a window send it away at once, less than two fifths of several
 * in a row bring it back.
 */
#include "placement.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define SPREAD_ABOVE	(PLACEMENT_WINDOW * 3 / 4)
#define GATHER_BELOW	(PLACEMENT_WINDOW * 2 / 5)
#define QUIET_WINDOWS	5

/**
 * read_schedstat() - What the thread has run and waited so far
 * @p:		Placement
 * @ran:		Out, nanoseconds
 * @waited:	Out, nanoseconds
 *
 * Return: true, false when it cannot be read
 */
static bool read_schedstat(const struct placement *p, uint64_t *ran, uint64_t *waited)
{
	unsigned long long a, b;
	char text[96];
	ssize_t got = pread(p->schedstat, text, sizeof(text) - 1, 0);

	if (got <= 0)
		return false;
	text[got] = '\0';
	if (sscanf(text, "%llu %llu", &a, &b) != 2)
		return false;
	*ran = a;
	*waited = b;
	return true;
}

/**
 * place() - Run with the other pumps, or anywhere
 * @p:		Placement
 * @together:	Which
 */
static void place(struct placement *p, bool together)
{
	if (sched_setaffinity(0, sizeof(p->all), together ? &p->one : &p->all) == 0)
		p->together = together;
	p->quiet = 0;
}

/**
 * placement_begin() - Begin to look after the calling thread
 * @p:		Placement
 * @now:	Nanoseconds
 */
void placement_begin(struct placement *p, uint64_t now)
{
	size_t cpu = 0;

	*p = (struct placement){ .schedstat = -1, .since = now };
	if (sched_getaffinity(0, sizeof(p->all), &p->all) < 0 || CPU_COUNT(&p->all) < 2)
		return;
	p->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	if (p->schedstat < 0)
		return;
	if (!read_schedstat(p, &p->ran, &p->waited)) {
		placement_end(p);
		return;
	}
	while (!CPU_ISSET(cpu, &p->all))
		cpu++;
	CPU_SET(cpu, &p->one);
	place(p, true);
}

/**
 * placement_look() - See how much there was to do, if the window is over
 * @p:		Placement, of the calling thread
 * @now:	Nanoseconds
 */
void placement_look(struct placement *p, uint64_t now)
{
	uint64_t elapsed = now - p->since, ran, waited, busy;

	if (p->schedstat < 0 || elapsed < PLACEMENT_WINDOW)
		return;
	if (!read_schedstat(p, &ran, &waited))
		return;
	busy = (ran - p->ran + waited - p->waited) * PLACEMENT_WINDOW / elapsed;
	p->since = now;
	p->ran = ran;
	p->waited = waited;
	if (p->together) {
		if (busy > SPREAD_ABOVE)
			place(p, false);
	} else if (busy > GATHER_BELOW) {
		p->quiet = 0;
	} else if (++p->quiet >= QUIET_WINDOWS) {
		place(p, true);
	}
}

/**
 * placement_end() - The thread runs where it likes again
 * @p:	Placement
 */
void placement_end(struct placement *p)
{
	if (p->schedstat < 0)
		return;
	if (p->together)
		place(p, false);
	close(p->schedstat);
	p->schedstat = -1;
}
