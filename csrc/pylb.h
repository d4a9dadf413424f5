/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pylb's C core: the only public header.
 *
 * What stands between the two cffi markers is also what Python sees: the builder
 * (src/pylb/_build.py) reads the declarations from here, so there is no second copy.
 * It holds plain declarations only: no macros, no attributes.
 *
 * Byte order: every integer argument and result is in host order and stands for
 * the big-endian value that is on the wire.
 */
#ifndef PYLB_H
#define PYLB_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* RFC 1071: one's-complement sum of len bytes, folded to 16 bits, not complemented. */
uint16_t pylb_ones_sum(const uint8_t *data, size_t len, uint32_t initial);

/* RFC 1624 eqn. 3: the checksum after a 16-bit word of the data changed from old to new. */
uint16_t pylb_check_update16(uint16_t check, uint16_t old_word, uint16_t new_word);

/* The same for an aligned 32-bit word. */
uint16_t pylb_check_update32(uint16_t check, uint32_t old_word, uint32_t new_word);

/* RFC 9293: one's-complement sum of an IPv4 pseudo-header, folded, not complemented. */
uint16_t pylb_pseudo_sum(uint32_t src, uint32_t dst, uint8_t protocol, uint16_t length);

/* CRC32c of len bytes behind others, whose CRC is initial (0: there are none). */
uint32_t pylb_crc32c(const uint8_t *data, size_t len, uint32_t initial);

/* The same without the processor's help. */
uint32_t pylb_crc32c_portable(const uint8_t *data, size_t len, uint32_t initial);

/* The CRC after a 32-bit word changed; length: bytes from its first on, 4 to 65535. */
uint32_t pylb_crc32c_update(uint32_t crc, uint32_t old_word, uint32_t new_word, uint32_t length);

/* SipHash-2-4 of len bytes under a 16-byte key. */
uint64_t pylb_siphash(const uint8_t *key, const uint8_t *data, size_t len);

/* Toeplitz hash (RSS, default key) of addresses and ports. */
uint32_t pylb_toeplitz(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport);

/* Toeplitz hash of addresses alone, for protocols without ports. */
uint32_t pylb_toeplitz_addresses(uint32_t src, uint32_t dst);

/* Why a packet was dropped, in the order of pylb.dataplane.base.DropReason. */
enum pylb_drop {
	PYLB_DROP_TRUNCATED,
	PYLB_DROP_BAD_VERSION,
	PYLB_DROP_BAD_HEADER_LENGTH,
	PYLB_DROP_BAD_TOTAL_LENGTH,
	PYLB_DROP_BAD_IP_CHECKSUM,
	PYLB_DROP_BAD_ADDRESS,
	PYLB_DROP_BAD_L4_HEADER,
	PYLB_DROP_BAD_L4_CHECKSUM,
	PYLB_DROP_BAD_FRAGMENT,
	PYLB_DROP_FRAGMENT_LIMIT,
	PYLB_DROP_FRAGMENT_TIMEOUT,
	PYLB_DROP_UNKNOWN_PEER,
	PYLB_DROP_BAD_ENCAPSULATION,
	PYLB_DROP_WRONG_VNI,
	PYLB_DROP_SPOOFED_INNER_SOURCE,
	PYLB_DROP_NOT_FOR_THIS_NODE,
	PYLB_DROP_INVALID_STATE,
	PYLB_DROP_NO_ENDPOINT,
	PYLB_DROP_NO_LOCAL_ENDPOINT,
	PYLB_DROP_NO_SUCH_FRONTEND,
	PYLB_DROP_UNALLOCATED_VIP,
	PYLB_DROP_SNAT_EXHAUSTED,
	PYLB_DROP_TABLE_FULL,
	PYLB_DROP_BACKEND_GONE,
	PYLB_DROP_TOO_BIG,
	PYLB_DROP_BAD_OFFLOAD,
	PYLB_DROP_NO_PLAN,
	PYLB_DROP_SOURCE_RANGE,
	PYLB_DROPS,
};

/* What is counted besides, in the order of the Python dataplane's counters. */
enum pylb_count {
	PYLB_COUNT_TUN_IN,
	PYLB_COUNT_TUN_OUT,
	PYLB_COUNT_OVERLAY_IN,
	PYLB_COUNT_OVERLAY_OUT,
	PYLB_COUNT_FOUND,
	PYLB_COUNT_NEW,
	PYLB_COUNT_UNTRACKED,
	PYLB_COUNT_INVALID,
	PYLB_COUNT_REJECTED,
	PYLB_COUNT_RESET,
	PYLB_COUNTS,
};

/* Conntrack timeouts, in the order of pylb.plan.tables.Timeouts. */
enum pylb_timeout {
	PYLB_TCP_SYN_SENT,
	PYLB_TCP_SYN_RECV,
	PYLB_TCP_ESTABLISHED,
	PYLB_TCP_FIN_WAIT,
	PYLB_TCP_CLOSE_WAIT,
	PYLB_TCP_LAST_ACK,
	PYLB_TCP_TIME_WAIT,
	PYLB_TCP_CLOSE,
	PYLB_TCP_MAX_RETRANS,
	PYLB_TCP_UNACKNOWLEDGED,
	PYLB_UDP,
	PYLB_UDP_STREAM,
	PYLB_ICMP,
	PYLB_GRE,
	PYLB_GRE_STREAM,
	PYLB_GENERIC,
	PYLB_SCTP_CLOSED,
	PYLB_SCTP_COOKIE_WAIT,
	PYLB_SCTP_COOKIE_ECHOED,
	PYLB_SCTP_ESTABLISHED,
	PYLB_SCTP_SHUTDOWN_SENT,
	PYLB_SCTP_SHUTDOWN_RECD,
	PYLB_SCTP_SHUTDOWN_ACK_SENT,
	PYLB_SCTP_HEARTBEAT_SENT,
	PYLB_TIMEOUTS,
};

enum pylb_overlay { PYLB_VXLAN, PYLB_FLANNEL_UDP, PYLB_HOST_GW };
/* By IPVS's names, but for the first; see pylb.dataplane.python.balance. */
enum pylb_scheduler {
	PYLB_RANDOM,
	PYLB_ROUND_ROBIN,
	PYLB_WEIGHTED_ROUND_ROBIN,
	PYLB_LEAST_CONNECTION,
	PYLB_WEIGHTED_LEAST_CONNECTION,
	PYLB_SOURCE_HASH,
	PYLB_MAGLEV,
};
/* As pylb.plan.tables.Others. */
enum pylb_others { PYLB_NOBODY, PYLB_INSIDE, PYLB_BACKENDS, PYLB_PASSING };
/* As pylb.plan.tables.FrontendKind. */
enum pylb_kind {
	PYLB_CLUSTER_IP = 1,
	PYLB_NODE_PORT = 2,
	PYLB_LOAD_BALANCER = 3,
	PYLB_EXTERNAL_IP = 4,
	PYLB_LOCAL_REDIRECT = 5,
};
enum pylb_event_kind { PYLB_NEW, PYLB_UPDATE, PYLB_DESTROY };
enum pylb_port { PYLB_TUN, PYLB_OVERLAY };

/* What a plan says of the node itself.  Masks are netmasks; ranges are inclusive. */
struct pylb_node_config {
	uint32_t node_ip, bridge_ip, tunnel_ip;
	uint32_t pod_cidr, pod_mask;
	uint32_t service_cidr, service_mask;
	uint32_t vni;
	uint32_t mtu;			/* the largest inner packet, bytes */
	uint32_t maglev_size;		/* slots of a Maglev table, prime, at most 2^24 */
	uint32_t timeouts[PYLB_TIMEOUTS];	/* seconds */
	uint16_t masquerade_low, masquerade_high;
	uint8_t masquerade;		/* pods' traffic to the outside: 0 or 1 */
	uint8_t overlay;		/* enum pylb_overlay */
	uint8_t mac[6];			/* of this node's VTEP */
};

struct pylb_peer {
	uint32_t address;
	uint32_t subnet, mask;
	uint8_t mac[6];
};

/* A backend that takes new flows; of the others a dataplane need not know. */
struct pylb_backend {
	uint32_t address;
	uint16_t port;
	uint16_t weight;
	uint32_t local;			/* in this node's podCIDR: 0 or 1 */
};

struct pylb_frontend {
	uint32_t address;
	uint16_t port;
	uint8_t protocol;
	uint8_t kind;			/* enum pylb_kind */
	uint8_t scheduler;		/* enum pylb_scheduler */
	uint8_t others;			/* enum pylb_others */
	uint8_t local_only, elsewhere;	/* 0 or 1 */
	uint32_t is_virtual;		/* nobody has the address: 0 or 1 */
	uint32_t service;		/* the caller's number of its name, below 2^24 */
	uint32_t affinity;		/* seconds, 0: none */
	uint32_t first;			/* of its backends, which lie together */
	uint32_t backends;		/* that are active... */
	uint32_t other;			/* ...and, behind them, for the clients that others says */
	uint32_t first_source;		/* of the prefixes of whom it serves */
	uint32_t sources;		/* 0: everyone */
};

/*
 * A Maglev table of its own: size slots (a prime), each a position among the backends, of
 * which there are 1 to 65535, each with a weight of 1 or more; 0 or ENOMEM.
 */
int pylb_maglev(const struct pylb_backend *backends, uint32_t count, uint32_t size,
		uint16_t *slots);

struct pylb_prefix {
	uint32_t address, mask;
};

/* A plan, or what changes of one.  Everything named replaces what the base has of it. */
struct pylb_change {
	const struct pylb_node_config *node;	/* NULL: as it is in the base */
	const struct pylb_peer *peers;		/* all of them, when set_peers */
	size_t n_peers;
	const struct pylb_frontend *frontends;	/* to set */
	size_t n_frontends;
	const struct pylb_backend *backends;	/* of these */
	size_t n_backends;
	const struct pylb_prefix *sources;	/* of these */
	size_t n_sources;
	const struct pylb_frontend *removed;	/* only address, port and protocol are looked at */
	size_t n_removed;
	const uint32_t *addresses;		/* that pods and endpoints have... */
	const uint32_t *holders;		/* ...and how many of them; 0 removes */
	size_t n_addresses;
	int set_peers;
	int whole;				/* of the base stay turns and Maglev's tables alone */
};

struct pylb_plan;
struct pylb_dataplane;
struct pylb_pump;

/* A flow as it was at one moment.  Tuples as in pylb.dataplane.base.FlowTuple. */
struct pylb_flow {
	uint64_t id;
	uint64_t packets[2], bytes[2];	/* original, reply */
	uint32_t slot;			/* where it lies: pylb_destroy() asks for it */
	uint32_t timeout;		/* seconds left, rounded down */
	uint32_t service;		/* its frontend's, when balanced */
	uint32_t generation;
	uint32_t src, dst;
	uint32_t reply_src, reply_dst;
	uint16_t sport, dport;
	uint16_t reply_sport, reply_dport;
	uint8_t protocol;
	uint8_t state;			/* TCP's or SCTP's, by State in pylb.dataplane.python */
	uint8_t seen_reply, assured, balanced;
};

struct pylb_event {
	uint64_t at;			/* nanoseconds */
	uint32_t kind;			/* enum pylb_event_kind */
	struct pylb_flow flow;
};

/* A packet and the port that it came in by or is to leave by. */
struct pylb_packet {
	const uint8_t *data;
	uint32_t len;
	uint32_t kind;			/* enum pylb_port */
	uint32_t port;			/* TUN: its number; overlay: the peer's address */
	uint32_t spread;
};

struct pylb_dropped {
	uint32_t reason;		/* enum pylb_drop */
	struct pylb_packet packet;	/* data NULL: the packet that was handed in */
};

/* What a call produced; all of it is overwritten by the next call. */
struct pylb_output {
	const struct pylb_packet *sent;
	size_t n_sent;
	const struct pylb_dropped *dropped;
	size_t n_dropped;
	const struct pylb_event *events;
	size_t n_events;
	int more;			/* pylb_advance(): call again, there is more */
};

/* A dataplane with room for max_flows (below 2^24); secret is 16 bytes.  NULL: no memory. */
struct pylb_dataplane *pylb_new(const uint8_t *secret, uint32_t max_flows);
void pylb_free(struct pylb_dataplane *dp);

/* The plan that follows from base (NULL: none) and change; NULL: no memory. */
struct pylb_plan *pylb_plan_make(const struct pylb_plan *base, const struct pylb_change *change);
void pylb_plan_free(struct pylb_plan *plan);

/* Obey plan, which is the dataplane's from now on; gives the one before (NULL: none) back. */
struct pylb_plan *pylb_load(struct pylb_dataplane *dp, struct pylb_plan *plan);
/* How many plans were loaded. */
uint32_t pylb_generation(const struct pylb_dataplane *dp);

/* Sans-IO: one packet; flows that are dead at now (nanoseconds); when to advance next. */
void pylb_process(struct pylb_dataplane *dp, const struct pylb_packet *packet, uint64_t now,
		  struct pylb_output *out);
void pylb_advance(struct pylb_dataplane *dp, uint64_t now, struct pylb_output *out);
/* UINT64_MAX while nothing can expire. */
uint64_t pylb_next_deadline(struct pylb_dataplane *dp);

/* Live flows at slots from *slot on, at most room; *slot is where to go on, gives how many. */
size_t pylb_flows(struct pylb_dataplane *dp, uint64_t now, uint32_t *slot, struct pylb_flow *flows,
		  size_t room);
/* Clients that sessionAffinity remembers, of all Services together. */
#define PYLB_MOST_AFFINE 65536
/* The numbers of their Services, PYLB_MOST_AFFINE at most, in no order; gives how many. */
uint32_t pylb_affine_services(struct pylb_dataplane *dp, uint32_t *services);
/* Destroy the flow that is still at slot under this id; gives 1, or 0 if it is gone. */
int pylb_destroy(struct pylb_dataplane *dp, uint32_t slot, uint64_t id, uint64_t now);
/* Take the events since the last call, at most room; gives how many. */
size_t pylb_events(struct pylb_dataplane *dp, struct pylb_event *events, size_t room);
/* Record events (the default) or not; gives how many were lost for want of room. */
uint64_t pylb_want_events(struct pylb_dataplane *dp, int wanted);

/* counts: PYLB_COUNTS, drops: PYLB_DROPS, table: flows, max_flows, early drops. */
void pylb_counters(struct pylb_dataplane *dp, uint64_t *counts, uint64_t *drops, uint64_t *table);

/* What a pump counts, packets as they are on the wire. */
enum pylb_moved { PYLB_READ_TUN, PYLB_WRITE_TUN, PYLB_RECEIVE_OVERLAY, PYLB_SEND_OVERLAY };

/* What was found of the offloads; each is 0 or 1. */
struct pylb_offloads {
	uint32_t header;		/* the TUN has a virtio-net header */
	uint32_t tso, uso;		/* the TUN takes super-packets of TCP, of UDP */
	uint32_t udp_segment, udp_gro;	/* the overlay's sockets send, receive them */
};

/* A pump for dp; it writes to the eventfd notify when there are events.  NULL: see errno. */
struct pylb_pump *pylb_pump_new(struct pylb_dataplane *dp, int notify);
void pylb_pump_free(struct pylb_pump *pump);
/* Read and write this TUN, -1: none; 0 or an errno.  The descriptor stays the caller's. */
int pylb_pump_use_tun(struct pylb_pump *pump, int tun, const struct pylb_offloads *offloads);
/* Receive on receiver (-1: not at all), send from senders to port; 0 or an errno. */
int pylb_pump_use_overlay(struct pylb_pump *pump, int receiver, const int *senders, size_t count,
			  uint16_t port, const struct pylb_offloads *offloads);
/* Move packets until pylb_pump_stop(); 0 or an errno. */
int pylb_pump_run(struct pylb_pump *pump);
void pylb_pump_stop(struct pylb_pump *pump);
/* moved: 4, by enum pylb_moved; refused: 4 times 160, by that and errno. */
void pylb_pump_counters(struct pylb_pump *pump, uint64_t *moved, uint64_t *refused);

/* cffi: end */

#endif
