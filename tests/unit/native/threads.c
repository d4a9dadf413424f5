/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump's thread, and one that does all else, under the thread sanitizer.
 *
 * A pair of sockets stands for the TUN: what is written to the one end the pump reads.
 * Meanwhile plans are made, swapped and freed, flows read and destroyed, counters and
 * events taken, and the TUN taken away and given back, as the daemon does it.
 *
 * Usage: threads ROUNDS; it ends with 0, or the sanitizer tells of a race and ends it.
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pump.h"

#define NODE		0xc0a8320bu	/* 192.168.50.11 */
#define PODS		0x0af40100u	/* 10.244.1.0/24 */
#define VIP		0x0a600001u	/* 10.96.0.1 */
#define FRONTENDS	7u
#define PACKET		64u
#define MOST_FLOWS_HERE	512

static const struct pylb_node_config node = {
	.node_ip = NODE, .bridge_ip = PODS + 1, .tunnel_ip = PODS,
	.pod_cidr = PODS, .pod_mask = 0xffffff00,
	.service_cidr = 0x0a600000, .service_mask = 0xfff00000,
	.vni = 1, .mtu = 1450, .maglev_size = 251,
	.timeouts = { 120, 60, 432000, 120, 60, 30, 120, 10, 300, 300, 1, 2, 1, 1, 2, 1 },
	.masquerade_low = 61000, .masquerade_high = 65534, .masquerade = 1,
	.overlay = PYLB_VXLAN,
};

static struct pylb_pump *pump;
static int far_end;
static atomic_bool over;

static uint64_t nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void *run(void *unused)
{
	(void)unused;
	return pylb_pump_run(pump) ? &over : NULL;
}

/* Packets of many flows to every frontend, and whatever comes out thrown away. */
static void *talk(void *unused)
{
	uint8_t p[PACKET], answer[2048];
	uint32_t random = 1;

	(void)unused;
	while (!atomic_load(&over)) {
		random = random * 1664525u + 1013904223u;
		memset(p, 0, sizeof(p));
		p[0] = 0x45;
		put16(p + 2, PACKET);
		p[8] = 64;
		p[9] = random >> 31 ? PROTO_UDP : PROTO_TCP;
		put32(p + 12, PODS + 2 + (random >> 8) % 4);
		put32(p + 16, VIP + (random >> 12) % FRONTENDS);
		packet_ip_checksum(p, IP_HEADER);
		put16(p + 20, (uint16_t)(1024 + (random >> 16) % 1024));
		put16(p + 22, 80);
		if (p[9] == PROTO_UDP) {
			put16(p + 24, PACKET - IP_HEADER);
		} else {
			p[32] = 0x50;
			p[33] = 0x02;
			put16(p + 34, 65535);
		}
		if (send(far_end, p, sizeof(p), MSG_DONTWAIT) < 0)
			sched_yield();
		while (recv(far_end, answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
	}
	return NULL;
}

/* A plan in which a few things are others than in the last. */
static struct pylb_plan *make(const struct pylb_plan *base, uint32_t round)
{
	struct pylb_backend backends[8];
	struct pylb_frontend frontends[FRONTENDS];
	uint32_t addresses[4], holders[4];
	struct pylb_change c = {
		.node = base ? NULL : &node, .whole = !base || round % 5 == 0,
		.frontends = frontends, .n_frontends = FRONTENDS - round % 3,
		.backends = backends, .n_backends = 8,
		.removed = frontends, .n_removed = round % 2,
		.addresses = addresses, .holders = holders, .n_addresses = 4,
	};

	if (c.whole)
		c.node = &node;
	memset(frontends, 0, sizeof(frontends));
	for (uint32_t i = 0; i < 8; i++)
		backends[i] = (struct pylb_backend){ PODS + 2 + i % 4, (uint16_t)(80 + i),
						     (uint16_t)(1 + (i + round) % 3), 1 };
	for (uint32_t i = 0; i < FRONTENDS; i++)
		frontends[i] = (struct pylb_frontend){
			.address = VIP + i, .port = 80,
			.protocol = i % 2 ? PROTO_UDP : PROTO_TCP, .kind = PYLB_CLUSTER_IP,
			.scheduler = (uint8_t)i, .is_virtual = 1, .service = i,
			.affinity = i % 3 == 0, .first = round % 4, .backends = 1 + round % 4,
		};
	for (uint32_t i = 0; i < 4; i++) {
		addresses[i] = PODS + 2 + i;
		holders[i] = (round + i) % 4 ? 8 : 0;
	}
	if (c.n_removed) {
		c.frontends++;
		c.n_frontends--;
	}
	return pylb_plan_make(base, &c);
}

int main(int argc, char **argv)
{
	uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100;
	static const uint8_t secret[16] = "not a secret";
	static struct pylb_flow flows[MOST_FLOWS_HERE];
	static struct pylb_event events[MOST_FLOWS_HERE];
	struct pylb_offloads offloads = { 0 };
	struct pylb_dataplane *dp = pylb_new(secret, MOST_FLOWS_HERE);
	int ends[2], notify = eventfd(0, EFD_NONBLOCK);
	struct pylb_plan *plan;
	pthread_t pumping, talking;
	uint64_t counts[PYLB_COUNTS], drops[PYLB_DROPS], table[3], moved[4];
	static uint64_t refused[4 * ERRNOS];
	eventfd_t told;
	void *failed;

	if (!dp || notify < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends))
		return 2;
	far_end = ends[1];
	pump = pylb_pump_new(dp, notify);
	plan = make(NULL, 0);
	if (!pump || !plan || pylb_pump_use_tun(pump, ends[0], &offloads))
		return 2;
	pylb_load(dp, plan);
	if (pthread_create(&pumping, NULL, run, NULL) || pthread_create(&talking, NULL, talk, NULL))
		return 2;
	for (uint32_t round = 1; round <= rounds; round++) {
		struct pylb_plan *next = make(plan, round);
		uint32_t slot = 0;
		size_t n;

		if (!next)
			return 2;
		pylb_plan_free(pylb_load(dp, next));
		plan = next;
		n = pylb_flows(dp, nanoseconds(), &slot, flows, MOST_FLOWS_HERE);
		for (size_t i = 0; i < n; i += 7)
			pylb_destroy(dp, flows[i].slot, flows[i].id, nanoseconds());
		pylb_want_events(dp, round % 4 != 0);
		while (pylb_events(dp, events, MOST_FLOWS_HERE))
			;
		eventfd_read(notify, &told);
		if (round % 16 == 0 && (pylb_pump_use_tun(pump, -1, &offloads) ||
					pylb_pump_use_tun(pump, ends[0], &offloads)))
			return 2;
		if (pylb_generation(dp) != round + 1)
			return 2;
		/*
		 * Each after a pause: right behind another lock's release they would be
		 * ordered by that, and a lock of their own would not be missed.
		 */
		usleep(1000);
		pylb_counters(dp, counts, drops, table);
		usleep(1000);
		pylb_pump_counters(pump, moved, refused);
	}
	pylb_pump_stop(pump);
	pthread_join(pumping, &failed);
	atomic_store(&over, true);
	pthread_join(talking, NULL);
	pylb_counters(dp, counts, drops, table);
	printf("%llu flows, %llu packets\n", (unsigned long long)counts[PYLB_COUNT_NEW],
	       (unsigned long long)counts[PYLB_COUNT_FOUND]);
	pylb_pump_free(pump);
	pylb_free(dp);
	return failed || !counts[PYLB_COUNT_NEW] ? 1 : 0;
}
