/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a packet costs in the native dataplane when its flow is one of many.
 *
 * One UDP packet opens each of N flows from pods to a ClusterIP whose backends are behind
 * a peer; then packets of flows chosen at random are handled in batches, as the pump does
 * but without a system call.  Prints one line of JSON for each N given:
 *
 *	{"flows": N, "open_ns": ..., "packet_ns": ..., "bytes_per_flow": ...}
 *
 * Usage: packet_cost FLOWS...
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"

#define NODE		0xc0a8320bu	/* 192.168.50.11 */
#define PODS		0x0af40000u	/* 10.244.0.0/16 */
#define PEER_PODS	0x0af50000u	/* 10.245.0.0/16 */
#define VIP		0x0a600001u	/* 10.96.0.1 */
#define PORTS		32768u		/* flows of one pod */
#define BATCH		64
#define SLOT		192		/* bytes between packets of a batch */
#define PACKET		92		/* bytes: IP, UDP, 64 of payload */
#define PACKETS		4000000u

static struct gro batch;
static uint8_t buffer[BATCH * SLOT];

static uint64_t nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t resident(void)
{
	unsigned long total = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu %lu", &total, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct pylb_plan *make_plan(void)
{
	const uint32_t udp = 30, stream = 86400;
	struct pylb_node_config node = {
		.node_ip = NODE, .bridge_ip = PODS + 1, .tunnel_ip = PODS,
		.pod_cidr = PODS, .pod_mask = 0xffff0000,
		.service_cidr = 0x0a600000, .service_mask = 0xfff00000,
		.vni = 1, .mtu = 1450, .masquerade = 1,
		.masquerade_low = 61000, .masquerade_high = 65534,
	};
	struct pylb_peer peer = { .address = NODE + 1, .subnet = PEER_PODS, .mask = 0xffff0000 };
	struct pylb_backend backends[4] = { 0 };
	struct pylb_frontend frontend = {
		.address = VIP, .port = 80, .protocol = PROTO_UDP, .kind = PYLB_CLUSTER_IP,
		.backends = 4,
	};
	struct pylb_change change = {
		.node = &node, .peers = &peer, .n_peers = 1, .set_peers = 1,
		.frontends = &frontend, .n_frontends = 1,
		.backends = backends, .n_backends = 4, .whole = 1,
	};

	for (int i = 0; i < PYLB_TIMEOUTS; i++)
		node.timeouts[i] = stream;
	node.timeouts[PYLB_ICMP] = udp;
	for (uint32_t i = 0; i < 4; i++) {
		backends[i].address = PEER_PODS + 2 + i;
		backends[i].port = 8080;
		backends[i].weight = 1;
	}
	return pylb_plan_make(NULL, &change);
}

static void make_packet(uint8_t *p, uint32_t flow)
{
	memset(p, 0, PACKET);
	p[0] = 0x45;
	put16(p + 2, PACKET);
	p[8] = 64;
	p[9] = PROTO_UDP;
	put32(p + 12, PODS + 2 + flow / PORTS);
	put32(p + 16, VIP);
	packet_ip_checksum(p, IP_HEADER);
	put16(p + 20, (uint16_t)(1024 + flow % PORTS));
	put16(p + 22, 80);
	put16(p + 24, PACKET - IP_HEADER);
}

static uint64_t sent;

static void transmit(void *context)
{
	struct pylb_dataplane *dp = context;

	sent += dp->n_outs;
	datapath_clear(dp);
}

static void handle(struct pylb_dataplane *dp, const uint32_t *flows, uint64_t now)
{
	for (int i = 0; i < BATCH; i++) {
		struct pylb_packet origin = { .kind = PYLB_TUN, .len = PACKET };
		uint8_t *data = buffer + i * SLOT + HEADROOM;
		struct packet p;

		make_packet(data, flows[i]);
		origin.data = data;
		if (packet_parse(&p, data, PACKET) == PACKET_OK)
			gro_add(&batch, dp->table, &p, &origin, true, true);
	}
	batch_handle(dp, &batch, now, transmit, dp);
}

static int measure(uint32_t count)
{
	static const uint8_t secret[16] = "not a secret";
	uint64_t before = resident(), begun, opened, done, random = 88172645463325252ull;
	struct pylb_dataplane *dp = pylb_new(secret, count);
	uint32_t flows[BATCH];

	if (!dp)
		return 1;
	pylb_want_events(dp, 0);
	pylb_load(dp, make_plan());
	gro_clear(&batch);
	count -= count % BATCH;
	sent = 0;
	begun = nanoseconds();
	for (uint32_t i = 0; i < count; i += BATCH) {
		for (uint32_t j = 0; j < BATCH; j++)
			flows[j] = i + j;
		handle(dp, flows, begun);
	}
	opened = nanoseconds() - begun;
	begun = nanoseconds();
	for (uint32_t i = 0; i < PACKETS; i += BATCH) {
		for (uint32_t j = 0; j < BATCH; j++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			flows[j] = (uint32_t)((random >> 32) * count >> 32);
		}
		handle(dp, flows, begun);
	}
	done = nanoseconds() - begun;
	if (sent != (uint64_t)count + PACKETS || dp->counts[PYLB_COUNT_NEW] != count) {
		fprintf(stderr, "packet_cost: %u flows: %llu packets came out, %llu flows opened\n",
			count, (unsigned long long)sent,
			(unsigned long long)dp->counts[PYLB_COUNT_NEW]);
		return 1;
	}
	printf("{\"flows\": %u, \"open_ns\": %.1f, \"packet_ns\": %.1f, \"bytes_per_flow\": %.1f}\n",
	       count, (double)opened / count, (double)done / PACKETS,
	       (double)(resident() - before) / count);
	pylb_free(dp);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (measure((uint32_t)strtoul(argv[i], NULL, 10)))
			return 1;
	}
	return 0;
}
