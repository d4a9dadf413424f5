/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load programs of `pylb bench`: one executable, a mode for each end of a measurement.
 *
 * Servers print "ready" once they can be reached, count until SIGTERM and then
 * print what they counted; clients run for a time and print what they saw.  Both
 * print one JSON object on one line.  Counts are kept in slots of SLOT_NS since
 * the first event, so that whoever reads them can leave out the warm-up.
 *
 * Times are CLOCK_MONOTONIC in ns; addresses and ports are host order until they
 * are put into a sockaddr.
 */
#ifndef PYLB_BENCH_LOAD_H
#define PYLB_BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_S 1000000000ULL
/* Width of a slot: short against the shortest run (0.3 s), long against a batch */
#define SLOT_NS (NS_PER_S / 20)
/* Slots that are kept, 102 s of them; later events count in the last */
#define SLOTS 2048
/* Bytes of a read or write of TCP bulk data, as iperf3 has them */
#define BULK 131072
/* Segments that one UDP_SEGMENT message may have (UDP_MAX_SEGMENTS was 64 before 6.9) */
#define SEGMENTS 64

/**
 * struct options - What a run is told
 * @address:	Where a client sends, host order; the first one of @addresses
 * @port:	Port to serve or to send to, host order
 * @ports:	Consecutive ports from @port on that take turns, or are served
 * @seconds:	How long a client runs
 * @streams:	TCP connections at a time
 * @flows:	UDP flows (source ports) that take turns
 * @addresses:	Consecutive destination addresses that take turns
 * @rate:	Datagrams a second, 0 for as many as can be sent
 * @size:	Payload of a datagram or a request in bytes
 * @count:	Flows to open, or bytes to send, 0 for as many as time allows
 * @check:	Datagrams carry what their sequence number says, and are held to it
 */
struct options {
	uint32_t address;
	uint16_t port;
	unsigned int ports;
	double seconds;
	unsigned int streams;
	unsigned int flows;
	unsigned int addresses;
	double rate;
	size_t size;
	uint64_t count;
	bool check;
};

/**
 * struct slots - A count over time; safe to add to from several threads
 * @origin:	Time of the first event, 0 before it
 * @last:	Highest slot in use
 * @total:	Sum of all
 * @count:	Events in each slot
 */
struct slots {
	uint64_t origin;
	uint64_t last;
	uint64_t total;
	uint64_t count[SLOTS];
};

/* common.c */
uint64_t now_ns(void);
void fail(const char *what) __attribute__((noreturn));
void slots_add(struct slots *slots, uint64_t now, uint64_t count);
void slots_print(const struct slots *slots);
struct sockaddr_in endpoint(uint32_t address, uint16_t port);
int listening(uint16_t port);
int bound_udp(uint16_t port);
int tcp_socket(int flags);
void start_worker(void (*worker)(int), int descriptor);
void serve(void (*worker)(int), int descriptor);
void sleep_until(uint64_t when);
uint64_t fnv1a(uint64_t hash, const uint8_t *data, size_t len);
uint64_t pattern(uint64_t seed, uint8_t *data, size_t len);
#define FNV_BASIS 0xcbf29ce484222325ULL

/* The device that every place sends from, and every place has */
#define DEVICE "eth0"

/* flows.c */
struct flows;
struct flows *flows_make(const struct options *options);
int flows_socket(void);
uint64_t flows_send(struct flows *flows, int descriptor, uint64_t count, uint64_t *refused);

/* offload.c */
bool segment_in_software(const char *device);

/* modes, each of which prints its result and gives an exit status */
int tcp_sink(const struct options *options);
int tcp_send(const struct options *options);
int tcp_accept(const struct options *options);
int tcp_connect(const struct options *options);
int tcp_echo(const struct options *options);
int tcp_rtt(const struct options *options);
int hash_sink(const struct options *options);
int hash_send(const struct options *options);
int udp_sink(const struct options *options);
int udp_send(const struct options *options);
int udp_echo(const struct options *options);
int udp_rtt(const struct options *options);
int udp_open(const struct options *options);

#endif /* PYLB_BENCH_LOAD_H */
