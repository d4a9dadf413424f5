/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's dataplane, from outside: whatever comes in, and whenever, it keeps its promises.
 *
 * The input is a sequence of operations: what (1 byte), how much time passes before it
 * (1 byte), how many bytes follow (2 bytes, big-endian), and these.  The plan is that of
 * tests/unit/dataplane/damage.py, so that what the tests build means something here.
 */
#include "fuzz.h"

#define SECOND		1000000000ull
#define MAX_FLOWS	24
#define END		(1ull << 52)	/* nanoseconds; no flow lives so long */
#define VXLAN_HEADERS	22

enum { NODE = 0xc0a8320b, PEER = 0xc0a8320c, PEER2 = 0xc0a8320d };
enum { POD_A = 0x0af40102, POD_B = 0x0af40103, POD_REMOTE = 0x0af40202 };
enum { VIP = 0x0a60000a, VIP_EMPTY = 0x0a60000b, VIP_UDP = 0x0a600035, SERVICES = 0x0a600000 };
#define SERVICE_MASK	0xfff00000

/* What an operation does; the rest of its byte are flags. */
enum { TUN, FROM_PEER, ADVANCE, CHANGE, DELETE, OPERATIONS };
#define MENDED		0x08	/* checksums are mended */
#define BARE		0x10	/* of the overlay: nothing is put before the bytes */
#define OTHER_PEER	0x20

static const uint64_t steps[] = { 0, 1, 1000000, SECOND, 2 * SECOND + 1, 10 * SECOND,
				  31 * SECOND, 121 * SECOND, 433000 * SECOND };

static const struct pylb_node_config node = {
	.node_ip = NODE,
	.bridge_ip = 0x0af40101,
	.tunnel_ip = 0x0af40100,
	.pod_cidr = 0x0af40100,
	.pod_mask = 0xffffff00,
	.service_cidr = SERVICES,
	.service_mask = SERVICE_MASK,
	.vni = 1,
	.mtu = 1450,
	.maglev_size = 7,
	.timeouts = { 120, 60, 432000, 120, 60, 30, 120, 10, 300, 300, 30, 120, 30, 30, 180, 600,
		      10, 3, 3, 210, 3, 3, 3, 30 },
	.masquerade_low = 61000,
	.masquerade_high = 61003,
	.masquerade = 1,
	.overlay = PYLB_VXLAN,
	.mac = { 2, 0x50, 0xc0, 0xa8, 0x32, 0x0b },
};

static const struct pylb_peer peers[] = {
	{ .address = PEER, .subnet = 0x0af40200, .mask = 0xffffff00, .mac = { 2, 0x50 } },
	{ .address = PEER2, .subnet = 0x0af40310, .mask = 0xfffffff0, .mac = { 2, 0x51 } },
};

static const struct pylb_backend backends[] = {
	{ POD_A, 8080, 1, 1 },
	{ POD_B, 8080, 3, 1 },
	{ POD_B, 53, 1, 1 },
	{ POD_REMOTE, 53, 65535, 0 },
	{ POD_REMOTE, 8080, 1, 0 },
	{ 0xcb007150, 80, 1, 0 },
};

static const struct pylb_prefix sources[] = { { POD_A, 0xffffffff } };

static const struct pylb_frontend frontends[] = {
	{ .address = VIP, .port = 80, .protocol = 6, .kind = PYLB_CLUSTER_IP,
	  .scheduler = PYLB_WEIGHTED_LEAST_CONNECTION, .is_virtual = 1, .service = 0,
	  .backends = 2 },
	{ .address = VIP, .port = 81, .protocol = 6, .kind = PYLB_LOCAL_REDIRECT,
	  .scheduler = PYLB_RANDOM, .others = PYLB_PASSING, .is_virtual = 1, .service = 1,
	  .first = 1, .backends = 5 },
	{ .address = VIP, .port = 82, .protocol = 6, .kind = PYLB_CLUSTER_IP,
	  .scheduler = PYLB_ROUND_ROBIN, .is_virtual = 1, .service = 7, .first = 1,
	  .backends = 5 },
	{ .address = VIP_EMPTY, .port = 80, .protocol = 6, .kind = PYLB_CLUSTER_IP,
	  .scheduler = PYLB_RANDOM, .elsewhere = 1, .is_virtual = 1, .service = 2 },
	{ .address = VIP_UDP, .port = 53, .protocol = 17, .kind = PYLB_EXTERNAL_IP,
	  .scheduler = PYLB_WEIGHTED_ROUND_ROBIN, .is_virtual = 1, .service = 3,
	  .affinity = 10, .first = 2, .backends = 2, .sources = 1 },
	{ .address = NODE, .port = 30080, .protocol = 6, .kind = PYLB_NODE_PORT,
	  .scheduler = PYLB_MAGLEV, .others = PYLB_INSIDE, .local_only = 1, .service = 4,
	  .first = 4, .backends = 0, .other = 2 },
	{ .address = NODE, .port = 30081, .protocol = 6, .kind = PYLB_NODE_PORT,
	  .scheduler = PYLB_SOURCE_HASH, .others = PYLB_BACKENDS, .local_only = 1, .service = 5,
	  .first = 0, .backends = 2, .other = 3 },
	{ .address = VIP, .port = 80, .protocol = PROTO_SCTP, .kind = PYLB_CLUSTER_IP,
	  .scheduler = PYLB_LEAST_CONNECTION, .is_virtual = 1, .service = 6, .first = 1,
	  .backends = 1 },
};
static const uint32_t addresses[] = { POD_A, POD_B, POD_REMOTE }, holders[] = { 3, 3, 3 };

/**
 * struct run - One input's life
 * @dp:		The dataplane
 * @now:	Nanoseconds
 * @packets:	How many were handed in
 * @dropped:	How many came back as dropped
 * @sent:	How many came out
 * @made:	NEW events
 * @gone:	DESTROY events
 */
struct run {
	struct pylb_dataplane *dp;
	uint64_t now;
	uint64_t packets, dropped, sent, made, gone;
};

static bool is_vip(uint32_t address)
{
	return (address & SERVICE_MASK) == SERVICES;
}

static void check_sent(const struct pylb_packet *sent)
{
	const uint8_t *data = sent->data;
	uint32_t len = sent->len, header;

	if (sent->kind == PYLB_OVERLAY) {
		PROMISE(len > VXLAN_HEADERS && len - VXLAN_HEADERS <= node.mtu);
		PROMISE(sent->port == PEER || sent->port == PEER2);
		PROMISE(data[0] == 0x08 && get32(data + 4) == node.vni << 8);
		data += VXLAN_HEADERS;
		len -= VXLAN_HEADERS;
	}
	PROMISE(len >= 20 && data[0] >> 4 == 4);
	header = (data[0] & 15) * 4u;
	PROMISE(header >= 20 && header <= len && get16(data + 2) == len);
	PROMISE(pylb_ones_sum(data, header, 0) == 0xffff);
	/* Written back to a VIP, a packet would come round again. */
	PROMISE(!is_vip(get32(data + 16)));
	if (sent->kind == PYLB_OVERLAY)
		PROMISE((get32(data + 16) & 0xffffff00) == 0x0af40200 ||
			(get32(data + 16) & 0xfffffff0) == 0x0af40310);
}

static void take(struct run *r, const struct pylb_output *out, const struct pylb_packet *origin)
{
	for (size_t i = 0; i < out->n_sent; i++)
		check_sent(&out->sent[i]);
	for (size_t i = 0; i < out->n_dropped; i++) {
		PROMISE(out->dropped[i].reason < PYLB_DROPS);
		PROMISE(out->dropped[i].packet.data || origin);
	}
	for (size_t i = 0; i < out->n_events; i++) {
		PROMISE(out->events[i].at == r->now);
		PROMISE(out->events[i].flow.id);
		r->made += out->events[i].kind == PYLB_NEW;
		r->gone += out->events[i].kind == PYLB_DESTROY;
	}
	r->sent += out->n_sent;
	r->dropped += out->n_dropped;
}

/**
 * add_up() - Hold the counters against what came out
 * @r:		Run
 */
static void add_up(const struct run *r)
{
	uint64_t counts[PYLB_COUNTS], drops[PYLB_DROPS], table[3], dropped = 0;
	struct pylb_flow flows[MAX_FLOWS + 1];
	uint32_t slot = 0;
	size_t alive = 0;

	pylb_counters(r->dp, counts, drops, table);
	for (int i = 0; i < PYLB_DROPS; i++)
		dropped += drops[i];
	PROMISE(dropped == r->dropped);
	PROMISE(counts[PYLB_COUNT_TUN_IN] + counts[PYLB_COUNT_OVERLAY_IN] == r->packets);
	PROMISE(counts[PYLB_COUNT_TUN_OUT] + counts[PYLB_COUNT_OVERLAY_OUT] == r->sent);
	PROMISE(table[0] <= MAX_FLOWS && table[1] == MAX_FLOWS);
	PROMISE(table[0] <= r->made - r->gone && r->made - r->gone <= MAX_FLOWS);
	PROMISE(counts[PYLB_COUNT_NEW] == r->made);
	/* At 0 nothing is dead yet, so all that are in the table are given. */
	while (slot != UINT32_MAX)
		alive += pylb_flows(r->dp, 0, &slot, flows + alive, MAX_FLOWS + 1 - alive);
	PROMISE(alive == table[0]);
}

static void process(struct run *r, uint8_t what, const uint8_t *data, uint32_t len)
{
	struct pylb_packet packet = { .len = len, .kind = PYLB_TUN };
	struct pylb_output out;
	uint8_t *copy;

	if (what % OPERATIONS == FROM_PEER) {
		uint32_t before = what & BARE ? 0 : VXLAN_HEADERS;
		static const uint8_t headers[VXLAN_HEADERS] = { 8, 0, 0, 0, 0, 0, 1, [20] = 8 };

		packet.kind = PYLB_OVERLAY;
		packet.port = what & OTHER_PEER ? PEER2 : PEER;
		packet.len += before;
		copy = malloc(packet.len + 1);
		PROMISE(copy);
		memcpy(copy, headers, before);
		memcpy(copy + before, data, len);
		if (what & MENDED)
			mend(copy + before, len);
		packet.data = exact(copy, packet.len);
		free(copy);
	} else {
		copy = exact(data, len);
		if (what & MENDED)
			mend(copy, len);
		packet.data = copy;
	}
	r->packets++;
	pylb_process(r->dp, &packet, r->now, &out);
	take(r, &out, &packet);
	free((void *)packet.data);
}

static void advance(struct run *r)
{
	struct pylb_output out;

	do {
		pylb_advance(r->dp, r->now, &out);
		PROMISE(!out.n_sent);
		take(r, &out, NULL);
	} while (out.more);
	PROMISE(pylb_next_deadline(r->dp) > r->now);
}

/**
 * change() - Load a plan that has or lacks a frontend, its addresses, a peer
 * @r:		Run
 * @base:	What it follows, or NULL
 * @bits:	What it lacks
 *
 * Return: the plan, now the dataplane's
 */
static struct pylb_plan *change(struct run *r, struct pylb_plan *base, uint8_t bits)
{
	struct pylb_change c = {
		.node = base && !(bits & 1) ? NULL : &node,
		.peers = peers,
		.n_peers = bits & 2 ? 1 : 2,
		.frontends = frontends,
		.n_frontends = sizeof(frontends) / sizeof(*frontends) - (bits >> 2 & 3),
		.backends = backends,
		.n_backends = sizeof(backends) / sizeof(*backends),
		.sources = sources,
		.n_sources = sizeof(sources) / sizeof(*sources),
		.addresses = addresses,
		.holders = holders,
		.n_addresses = 3,
		.set_peers = 1,
		.whole = !base || bits & 1,
	};
	static const uint32_t none[3];
	struct pylb_plan *made;

	if (bits & 0x10) {
		c.frontends += 1;
		c.n_frontends -= 1;
		c.removed = frontends;
		c.n_removed = 1;
		c.holders = none;
	}
	made = pylb_plan_make(base, &c);
	PROMISE(made);
	pylb_plan_free(pylb_load(r->dp, made));
	return made;
}

static void delete(struct run *r, uint8_t which)
{
	struct pylb_flow flows[MAX_FLOWS];
	struct pylb_event events[MAX_FLOWS];
	uint32_t slot = 0;
	size_t count = pylb_flows(r->dp, r->now, &slot, flows, MAX_FLOWS);

	if (!count)
		return;
	which %= count;
	PROMISE(!pylb_destroy(r->dp, flows[which].slot, flows[which].id + 1, r->now));
	PROMISE(pylb_destroy(r->dp, flows[which].slot, flows[which].id, r->now));
	PROMISE(!pylb_destroy(r->dp, flows[which].slot, flows[which].id, r->now));
	PROMISE(pylb_events(r->dp, events, MAX_FLOWS) == 1 && events[0].kind == PYLB_DESTROY);
	r->gone++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t secret[16] = { 1, 2, 3 };
	struct run r = { .dp = pylb_new(secret, MAX_FLOWS) };
	struct pylb_plan *plan;

	PROMISE(r.dp);
	plan = change(&r, NULL, 0);
	while (size >= 4) {
		uint8_t what = data[0], bits = data[1];
		size_t len = get16(data + 2);

		data += 4;
		size -= 4;
		if (len > size)
			len = size;
		r.now += steps[bits % (sizeof(steps) / sizeof(*steps))];
		switch (what % OPERATIONS) {
		case ADVANCE:
			advance(&r);
			break;
		case CHANGE:
			plan = change(&r, plan, len ? data[0] : bits);
			break;
		case DELETE:
			delete(&r, bits);
			break;
		default:
			process(&r, what, data, (uint32_t)len);
		}
		data += len;
		size -= len;
		add_up(&r);
	}
	r.now = END;
	advance(&r);
	add_up(&r);
	PROMISE(r.made == r.gone);
	PROMISE(pylb_next_deadline(r.dp) == UINT64_MAX);
	pylb_free(r.dp);
	return 0;
}
