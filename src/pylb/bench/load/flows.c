/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams of many flows, in turn.
 *
 * With UDP_SEGMENT they would come in runs of one flow, which is what a dataplane
 * that coalesces likes best and a network seldom has.  So whole frames, made
 * beforehand, are put on the device through a packet socket, which is the
 * cheapest way that sends each by itself: no route, no hooks and no queue.
 *
 * udp_open() is the other thing: flows that are to be there, not fast.
 */
#include "load.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_QDISC_BYPASS
#define PACKET_QDISC_BYPASS 20
#endif

#define BATCH 64
/* First source port of many flows; below the ports that anything else may choose */
#define FIRST_PORT 20000
#define HEADERS (sizeof(struct iphdr) + sizeof(struct udphdr))
#define FRAME 1500
/* The port of `discard`, where a datagram goes whose only purpose is that ARP asks */
#define DISCARD 9

/**
 * struct flows - Frames that take turns
 * @count:	How many
 * @length:	Of each, bytes
 * @turn:	Whose it is
 * @frame:	A frame of each flow
 */
struct flows {
	unsigned int count;
	size_t length;
	unsigned int turn;
	uint8_t frame[][FRAME];
};

/**
 * ones_sum() - One's-complement sum, complemented (RFC 1071)
 * @data:	Bytes, an even number
 * @len:	How many
 * @sum:	Sum to start from
 *
 * Return: checksum, network order
 */
static uint16_t ones_sum(const uint8_t *data, size_t len, uint32_t sum)
{
	size_t i;

	for (i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)data[i] << 8 | data[i + 1];
	if (len % 2)
		sum += (uint32_t)data[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/**
 * own_address() - The address that this place sends from
 * @to:		Where to
 *
 * Return: address, host order
 */
static uint32_t own_address(struct sockaddr_in to)
{
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in own;
	socklen_t len = sizeof(own);

	if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&to, sizeof(to)) ||
	    getsockname(descriptor, (struct sockaddr *)&own, &len))
		fail("connect");
	close(descriptor);
	return ntohl(own.sin_addr.s_addr);
}

/**
 * own_mac() - The address of the device
 * @mac:	ETH_ALEN bytes to fill
 */
static void own_mac(uint8_t *mac)
{
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };

	strncpy(request.ifr_name, DEVICE, IFNAMSIZ - 1);
	if (descriptor < 0 || ioctl(descriptor, SIOCGIFHWADDR, &request))
		fail("SIOCGIFHWADDR");
	memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	close(descriptor);
}

/**
 * gateway() - Who is asked on the link for an address
 * @address:	Where to, host order
 * @from:	Own address, host order
 *
 * Return: @address when it is on the link, else the default route's gateway; host order
 */
static uint32_t gateway(uint32_t address, uint32_t from)
{
	unsigned int to, by, flags, mask;
	uint32_t found = address;
	char device[32], line[256];
	FILE *routes = fopen("/proc/net/route", "r");

	if (!routes)
		fail("/proc/net/route");
	/* Addresses are there as they lie in memory; the default route has mask 0. */
	while (fgets(line, sizeof(line), routes)) {
		if (sscanf(line, "%31s %x %x %x %*d %*d %*d %x", device, &to, &by, &flags, &mask) != 5)
			continue;
		if (mask && (ntohl(to) ^ address) <= ~ntohl(mask) && address != from) {
			found = address;
			break;
		}
		if (!mask)
			found = ntohl(by);
	}
	fclose(routes);
	return found;
}

/**
 * next_hop() - The MAC address that frames to an address go to
 * @address:	Where to, host order
 * @from:	Own address, host order
 * @mac:	ETH_ALEN bytes to fill
 */
static void next_hop(uint32_t address, uint32_t from, uint8_t *mac)
{
	uint32_t hop = gateway(address, from);
	struct sockaddr_in to = endpoint(hop, DISCARD);
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), tries;
	struct arpreq request = { 0 };

	if (descriptor < 0)
		fail("socket");
	memcpy(&request.arp_pa, &to, sizeof(to));
	strncpy(request.arp_dev, DEVICE, sizeof(request.arp_dev) - 1);
	for (tries = 0; tries < 200; tries++) {
		if (ioctl(descriptor, SIOCGARP, &request) == 0 && request.arp_flags & ATF_COM) {
			memcpy(mac, request.arp_ha.sa_data, ETH_ALEN);
			close(descriptor);
			return;
		}
		if (tries % 20 == 0)
			sendto(descriptor, "", 0, 0, (struct sockaddr *)&to, sizeof(to));
		sleep_until(now_ns() + NS_PER_S / 100);
	}
	errno = EHOSTUNREACH;
	fail("next hop");
}

/**
 * packet_make() - Headers and payload of one flow
 * @frame:	Where, after the Ethernet header
 * @options:	Of the run
 * @from:	Own address, host order
 * @source:	Source port, host order
 */
static void packet_make(uint8_t *frame, const struct options *options, uint32_t from,
			unsigned int source)
{
	size_t len = options->size + sizeof(struct udphdr);
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP };
	struct udphdr udp = { 0 };
	uint32_t sum;

	ip.tot_len = htons((uint16_t)(len + sizeof(ip)));
	ip.frag_off = htons(IP_DF);
	ip.saddr = htonl(from);
	ip.daddr = htonl(options->address);
	memcpy(frame, &ip, sizeof(ip));
	ip.check = ones_sum(frame, sizeof(ip), 0);
	memcpy(frame, &ip, sizeof(ip));
	udp.source = htons((uint16_t)source);
	udp.dest = htons(options->port);
	udp.len = htons((uint16_t)len);
	memcpy(frame + sizeof(ip), &udp, sizeof(udp));
	sum = (from >> 16) + (from & 0xffff) + (options->address >> 16) +
	      (options->address & 0xffff) + IPPROTO_UDP + (uint32_t)len;
	udp.check = ones_sum(frame + sizeof(ip), len, sum);
	memcpy(frame + sizeof(ip), &udp, sizeof(udp));
}

/**
 * flows_make() - Frames of as many flows as the run has
 * @options:	address, port, flows, size
 *
 * Return: what flows_send() wants; free() releases it
 */
struct flows *flows_make(const struct options *options)
{
	uint32_t from = own_address(endpoint(options->address, options->port));
	struct ether_header ether = { .ether_type = htons(ETHERTYPE_IP) };
	struct flows *flows;
	unsigned int i;

	flows = calloc(1, sizeof(*flows) + options->flows * sizeof(flows->frame[0]));
	if (!flows)
		fail("calloc");
	flows->count = options->flows;
	flows->length = sizeof(ether) + HEADERS + options->size;
	next_hop(options->address, from, ether.ether_dhost);
	own_mac(ether.ether_shost);
	for (i = 0; i < flows->count; i++) {
		memcpy(flows->frame[i], &ether, sizeof(ether));
		packet_make(flows->frame[i] + sizeof(ether), options, from, FIRST_PORT + i);
	}
	return flows;
}

/**
 * flows_socket() - A socket for flows_send()
 *
 * Return: descriptor
 */
int flows_socket(void)
{
	int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;
	struct sockaddr_ll device = { 0 };

	device.sll_family = AF_PACKET;
	device.sll_protocol = htons(ETHERTYPE_IP);
	device.sll_ifindex = (int)if_nametoindex(DEVICE);
	if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&device, sizeof(device)))
		fail("packet socket");
	setsockopt(descriptor, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	return descriptor;
}

/**
 * flows_send() - Send some datagrams, each of another flow
 * @flows:	From flows_make()
 * @descriptor:	From flows_socket()
 * @count:	How many at most
 * @refused:	Grows by those that the kernel did not take
 *
 * Return: how many were tried
 */
uint64_t flows_send(struct flows *flows, int descriptor, uint64_t count, uint64_t *refused)
{
	unsigned int i, n = count < BATCH ? (unsigned int)count : BATCH;
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec parts[BATCH];
	int put;

	for (i = 0; i < n; i++) {
		parts[i] = (struct iovec){ flows->frame[flows->turn], flows->length };
		flows->turn = (flows->turn + 1) % flows->count;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	put = sendmmsg(descriptor, messages, n, 0);
	*refused += put < 0 ? n : n - (unsigned int)put;
	return n;
}

/**
 * udp_open() - Open flows: one datagram from each source port to each address
 * @options:	address, addresses, port, count, rate, seconds
 *
 * Return: exit status
 */
int udp_open(const struct options *options)
{
	uint64_t start = now_ns(), now = start, opened = 0, due;
	uint64_t end = start + (uint64_t)(options->seconds * (double)NS_PER_S);
	unsigned int source = 1024, i;

	while (opened < options->count && source < 65536 && (now = now_ns()) < end) {
		struct sockaddr_in own = endpoint(INADDR_ANY, (uint16_t)source++);
		int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (descriptor < 0)
			fail("socket");
		if (bind(descriptor, (struct sockaddr *)&own, sizeof(own)) == 0)
			for (i = 0; i < options->addresses && opened < options->count; i++) {
				struct sockaddr_in to = endpoint(options->address + i, options->port);

				if (sendto(descriptor, "flow", 4, 0, (struct sockaddr *)&to,
					   sizeof(to)) == 4)
					opened++;
			}
		close(descriptor);
		if (options->rate > 0) {
			due = start + (uint64_t)((double)opened / options->rate * (double)NS_PER_S);
			if (due > now)
				sleep_until(due);
		}
	}
	printf("{\"opened\": %llu, \"seconds\": %.6f}\n", (unsigned long long)opened,
	       (double)(now_ns() - start) / (double)NS_PER_S);
	return 0;
}
