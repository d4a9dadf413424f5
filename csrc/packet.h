/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_PACKET_H
#define PYLB_PACKET_H

#include <stdbool.h>
#include <string.h>

#include "pylb.h"

enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_GRE = 47, PROTO_SCTP = 132 };

enum {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
};

#define IP_MORE_FRAGMENTS	0x2000
#define IP_DONT_FRAGMENT	0x4000
#define IP_OFFSET_MASK		0x1fff
#define IP_HEADER		20	/* bytes, without options */
#define IP_MAX			65535	/* bytes of the longest packet */
#define SCTP_HEADER		12	/* bytes of the common header */
#define SCTP_CRC_AT		8	/* of the common header */

/* How an overlay or the IP header is read: big-endian, at any address. */
/**
 * get16() - Read a big-endian 16-bit word
 * @p:		2 bytes, at any address
 *
 * Return: its value
 */
static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/**
 * get32() - Read a big-endian 32-bit word
 * @p:		4 bytes, at any address
 *
 * Return: its value
 */
static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/**
 * put16() - Write a big-endian 16-bit word
 * @p:		2 bytes, at any address
 * @value:	What to write
 */
static inline void put16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

/**
 * put32() - Write a big-endian 32-bit word
 * @p:		4 bytes, at any address
 * @value:	What to write
 */
static inline void put32(uint8_t *p, uint32_t value)
{
	put16(p, (uint16_t)(value >> 16));
	put16(p + 2, (uint16_t)value);
}

/**
 * get_crc() - Read SCTP's checksum, the one field that begins with its lowest byte
 * @p:	Where
 *
 * Return: its value
 */
static inline uint32_t get_crc(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/**
 * put_crc() - Write SCTP's checksum
 * @p:		Where
 * @crc:	Its value
 */
static inline void put_crc(uint8_t *p, uint32_t crc)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(crc >> 8 * i);
}

/**
 * struct tuple - One direction of a flow; see pylb.dataplane.base.FlowTuple
 * @src:	Source address, host order
 * @dst:	Destination address
 * @sport:	Source port, ICMP identifier, or 0
 * @dport:	Destination port, ICMP type << 8 | code, GRE call id, or 0
 * @protocol:	IANA number
 */
struct tuple {
	uint32_t src, dst;
	uint16_t sport, dport;
	uint8_t protocol;
};

/* Directions of a flow: as its first packet went, and back. */
enum { ORIGINAL = 0, REPLY = 1 };

/* What is known of the transport checksum. */
enum csum {
	CSUM_COMPLETE,		/* it is there and nobody has looked at it */
	CSUM_VERIFIED,		/* it is there and right */
	CSUM_PARTIAL,		/* the field holds the pseudo-header's sum, not complemented */
};

/**
 * struct slice - A part of a payload that lies in a buffer of its own
 * @data:	Its bytes
 * @len:	Their number
 * @next:	The part behind it, or NULL
 */
struct slice {
	const uint8_t *data;
	uint32_t len;
	const struct slice *next;
};

/**
 * struct packet - An IPv4 packet in hand
 * @data:	Its IP header.  All headers lie together here, and of a super-packet
 *		at least the first segment's payload unless @gso_size is 0
 * @len:	Bytes of the whole IP packet; of a super-packet, of all its segments as
 *		one packet, which may not exceed IP_MAX
 * @here:	Bytes that lie at @data; @len but for a super-packet that was put together
 *		from several buffers
 * @more:	What lies behind the bytes at @data, or NULL
 * @l4:		Offset of the transport header
 * @fragment:	The header's flags and fragment offset
 * @gso_size:	Payload bytes of each segment but the last, 0: not a super-packet
 * @segments:	How many packets it stands for on the wire, at least 1
 * @tuple:	Addresses, ports, protocol
 * @ttl:	Time to live
 * @csum:	enum csum
 * @fixed_id:	Of a super-packet: all segments have the first one's identification
 * @hash:	table_hash() of @tuple, when @hashed
 */
struct packet {
	uint8_t *data;
	uint32_t len;
	uint32_t here;
	const struct slice *more;
	uint16_t l4;
	uint16_t fragment;
	uint16_t gso_size;
	uint16_t segments;
	struct tuple tuple;
	uint8_t ttl;
	uint8_t csum;
	bool fixed_id;
	bool hashed;
	uint64_t hash;
};

#define PACKET_OK	(-1)	/* what a parser gives instead of an enum pylb_drop */

int packet_parse(struct packet *p, uint8_t *data, uint32_t len);
int packet_parse_transport(struct packet *p);
int packet_parse_quoted(struct packet *p, uint8_t *data, uint32_t len);
bool packet_checksum_ok(struct packet *p);
void packet_complete(struct packet *p);
void packet_set_ttl(struct packet *p, uint8_t ttl);
void packet_rewrite(struct packet *p, const struct tuple *to);
void packet_ip_checksum(uint8_t *header, uint32_t length);
struct tuple tuple_invert(const struct tuple *t);

/**
 * tuple_same() - Compare tuples
 * @a:	One
 * @b:	The other
 *
 * Return: true if all five fields agree
 */
static inline bool tuple_same(const struct tuple *a, const struct tuple *b)
{
	return a->src == b->src && a->dst == b->dst && a->sport == b->sport &&
	       a->dport == b->dport && a->protocol == b->protocol;
}

/**
 * has_ports() - Does a protocol have ports that may be translated?
 * @protocol:	IANA number
 *
 * Return: true if so
 */
static inline bool has_ports(uint8_t protocol)
{
	return protocol == PROTO_TCP || protocol == PROTO_UDP || protocol == PROTO_SCTP;
}

/**
 * packet_is_fragment() - Part of a larger packet?
 * @p:	Packet
 *
 * Return: true if so
 */
static inline bool packet_is_fragment(const struct packet *p)
{
	return p->fragment & (IP_MORE_FRAGMENTS | IP_OFFSET_MASK);
}

/**
 * packet_is_icmp_error() - Does it quote another packet (RFC 792)?
 * @p:	Packet
 *
 * Return: true if so
 */
static inline bool packet_is_icmp_error(const struct packet *p)
{
	/* Unreachable, source quench, redirect, time exceeded, parameter problem. */
	const uint32_t errors = 1u << 3 | 1u << 4 | 1u << 5 | 1u << 11 | 1u << 12;
	uint8_t type = (uint8_t)(p->tuple.dport >> 8);

	return p->tuple.protocol == PROTO_ICMP && type < 32 && errors >> type & 1;
}

#endif
