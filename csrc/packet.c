/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An IPv4 packet in hand: parsed with every length checked, rewritten in place.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/packet.py.  RFC 791, 792, 768, 9293, 9260,
 * 2784 and 2637.
 *
 * A packet is believed only as far as its bytes go: parsing checks every length that
 * later code relies on, in one order, and names the first that is wrong.
 *
 * Checksums are mended, never made anew (RFC 1624), so that a bad one stays bad.  What
 * all changed words add to the sum is gathered first and folded in once.  That is the
 * same to the bit as one word after the other: a folded sum is 0 only when everything
 * in it is 0, in either order.  A word that did not change adds nothing.
 */
#include "packet.h"

#include <assert.h>

#include "checksum.h"

#define CHECK_AT	10	/* of the IP header */
#define ADDRESSES_AT	12
#define TCP_HEADER	20
#define TCP_CHECK_AT	16
#define UDP_HEADER	8
#define UDP_CHECK_AT	6
#define ICMP_HEADER	8
#define ICMP_CHECK_AT	2
#define GRE_HEADER	4
#define GRE_WITH_KEY	8
#define GRE_VERSION	7	/* in its second byte; 1 is PPTP's, RFC 2637 */
#define NEVER_CUT	8	/* bytes behind the IP header that every ICMP error quotes */

static_assert(IP_MAX == UINT16_MAX, "a length fits into 16 bits");

/* By type: what answers it.  Types without an answer are their own. */
static const uint8_t icmp_reply[] = {
	[0] = 8, [1] = 1, [2] = 2, [3] = 3, [4] = 4, [5] = 5, [6] = 6, [7] = 7, [8] = 0, [9] = 9,
	[10] = 10, [11] = 11, [12] = 12, [13] = 14, [14] = 13, [15] = 16, [16] = 15, [17] = 18,
	[18] = 17,
};

#define ICMP_TYPES	(sizeof(icmp_reply) / sizeof(icmp_reply[0]))

/**
 * icmp_answer() - The ICMP type that answers another
 * @type:	ICMP type
 *
 * Return: its answer's type, @type itself when it has none
 */
static inline uint8_t icmp_answer(uint8_t type)
{
	return type < ICMP_TYPES ? icmp_reply[type] : type;
}

/**
 * word16() - A word of the IP header as it lies in memory
 * @at:	Where
 *
 * Return: its value in the machine's byte order, which is good enough to be summed (RFC
 * 1071 section 2 (B))
 */
static inline uint16_t word16(const uint8_t *at)
{
	uint16_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

/**
 * header_sum() - One's-complement sum of an IP header but for its checksum
 * @header:	The header
 * @length:	Its bytes, a multiple of 4, at least IP_HEADER
 *
 * Return: sum of the words as they lie in memory
 */
static inline uint64_t header_sum(const uint8_t *header, uint32_t length)
{
	uint32_t before[2], behind[2], option;
	uint64_t sum;

	memcpy(before, header, sizeof(before));
	memcpy(behind, header + ADDRESSES_AT, sizeof(behind));
	sum = (uint64_t)before[0] + before[1] + word16(header + 8) + behind[0] + behind[1];
	for (uint32_t at = IP_HEADER; at < length; at += 4) {
		memcpy(&option, header + at, sizeof(option));
		sum += option;
	}
	return sum;
}

/**
 * unicast() - May an address stand in a packet?
 * @address:	Address
 *
 * Return: true if it is neither in 0/8 nor multicast, class E or broadcast (RFC 1122
 * section 3.2.1.3)
 */
static inline bool unicast(uint32_t address)
{
	return address - 0x01000000u < 0xdf000000u;
}

/**
 * parse_ip() - Check the IP header and take in what it says
 * @p:		Packet, out
 * @data:	Its bytes
 * @len:	Their number
 * @whole:	The packet is all there, and not quoted
 *
 * Return: PACKET_OK or an enum pylb_drop
 */
static inline int parse_ip(struct packet *p, uint8_t *data, uint32_t len, bool whole)
{
	uint32_t header, total;

	if (len < IP_HEADER)
		return PYLB_DROP_TRUNCATED;
	if (data[0] >> 4 != 4)
		return PYLB_DROP_BAD_VERSION;
	header = (data[0] & 0xfu) * 4;
	if (header < IP_HEADER || header > len)
		return PYLB_DROP_BAD_HEADER_LENGTH;
	total = get16(data + 2);
	if (total < header || (whole && total > len))
		return PYLB_DROP_BAD_TOTAL_LENGTH;
	if (whole) {
		/* Link padding may follow. */
		len = total;
		if (fold(header_sum(data, header) + word16(data + CHECK_AT)) != 0xffff)
			return PYLB_DROP_BAD_IP_CHECKSUM;
	}
	*p = (struct packet){
		.data = data,
		.len = len,
		.here = len,
		.l4 = (uint16_t)header,
		.fragment = get16(data + 6),
		.segments = 1,
		.tuple = {
			.src = get32(data + ADDRESSES_AT),
			.dst = get32(data + ADDRESSES_AT + 4),
			.protocol = data[9],
		},
		.ttl = data[8],
		.csum = CSUM_COMPLETE,
	};
	if (whole && !(unicast(p->tuple.src) && unicast(p->tuple.dst)))
		return PYLB_DROP_BAD_ADDRESS;
	return PACKET_OK;
}

/**
 * read_ports() - Read ports or what stands for them
 * @p:	Packet with at least 8 bytes of transport header, of GRE without a key 4
 */
static inline void read_ports(struct packet *p)
{
	const uint8_t *l4 = p->data + p->l4;

	switch (p->tuple.protocol) {
	case PROTO_TCP:
	case PROTO_UDP:
	case PROTO_SCTP:
		p->tuple.sport = get16(l4);
		p->tuple.dport = get16(l4 + 2);
		break;
	case PROTO_ICMP:
		p->tuple.dport = get16(l4);
		/* Only queries and their answers have an identifier. */
		p->tuple.sport = icmp_answer(l4[0]) != l4[0] ? get16(l4 + 4) : 0;
		break;
	case PROTO_GRE:
		/* RFC 2637: the key's low half is the call id, the only thing like a port. */
		if ((l4[1] & GRE_VERSION) == 1)
			p->tuple.dport = get16(l4 + 6);
		break;
	}
}

/**
 * packet_parse() - Take in a packet as received
 * @p:		Packet, out: all of it
 * @data:	Its bytes; link padding may follow
 * @len:	Their number
 *
 * Return: PACKET_OK or the enum pylb_drop for which it is dropped.  A fragment's ports
 * are 0.
 */
int packet_parse(struct packet *p, uint8_t *data, uint32_t len)
{
	int reason = parse_ip(p, data, len, true);

	if (reason != PACKET_OK || packet_is_fragment(p))
		return reason;
	return packet_parse_transport(p);
}

/**
 * packet_parse_transport() - Check the transport header and read ports
 * @p:	Packet that is no fragment, its IP header parsed
 *
 * Return: PACKET_OK or PYLB_DROP_BAD_L4_HEADER
 */
int packet_parse_transport(struct packet *p)
{
	const uint8_t *l4 = p->data + p->l4;
	uint32_t length = p->len - p->l4, least;

	switch (p->tuple.protocol) {
	case PROTO_TCP:
		if (length < TCP_HEADER)
			return PYLB_DROP_BAD_L4_HEADER;
		least = (l4[12] >> 4) * 4u;
		if (least < TCP_HEADER)
			return PYLB_DROP_BAD_L4_HEADER;
		break;
	case PROTO_UDP:
		if (length < UDP_HEADER)
			return PYLB_DROP_BAD_L4_HEADER;
		least = get16(l4 + 4);
		if (least < UDP_HEADER)
			return PYLB_DROP_BAD_L4_HEADER;
		break;
	case PROTO_SCTP:
		least = SCTP_HEADER;
		break;
	case PROTO_ICMP:
		least = ICMP_HEADER;
		break;
	case PROTO_GRE:
		least = GRE_HEADER;
		if (length >= 2 && (l4[1] & GRE_VERSION) == 1)
			least = GRE_WITH_KEY;
		break;
	default:
		least = 0;
	}
	if (least > length)
		return PYLB_DROP_BAD_L4_HEADER;
	read_ports(p);
	return PACKET_OK;
}

/**
 * packet_parse_quoted() - Take in the packet that an ICMP error quotes (RFC 792)
 * @p:		Packet, out
 * @data:	Its bytes; the tail may be cut off
 * @len:	Their number
 *
 * At least 8 bytes behind the IP header must be there.  @p->len is what is there.
 *
 * Return: PACKET_OK or an enum pylb_drop
 */
int packet_parse_quoted(struct packet *p, uint8_t *data, uint32_t len)
{
	int reason = parse_ip(p, data, len, false);

	if (reason != PACKET_OK)
		return reason;
	if (p->fragment & IP_OFFSET_MASK || len - p->l4 < NEVER_CUT)
		return PYLB_DROP_BAD_L4_HEADER;
	read_ports(p);
	return PACKET_OK;
}

/**
 * transport_sum() - One's-complement sum of all that the TCP or UDP checksum covers
 * @p:	Packet, @p->here == @p->len
 *
 * Return: folded sum, host order; of a right packet 0xffff
 */
static uint16_t transport_sum(const struct packet *p)
{
	const uint8_t *l4 = p->data + p->l4;
	uint32_t length = p->len - p->l4;

	if (p->tuple.protocol == PROTO_UDP)
		length = get16(l4 + 4);
	return pylb_ones_sum(l4, length, pylb_pseudo_sum(p->tuple.src, p->tuple.dst,
							 p->tuple.protocol, (uint16_t)length));
}

/**
 * crc_ok() - Is SCTP's checksum right?
 * @p:	SCTP packet
 *
 * Return: true if so
 */
static bool crc_ok(const struct packet *p)
{
	static const uint8_t instead[SCTP_HEADER - SCTP_CRC_AT];
	const uint8_t *l4 = p->data + p->l4;
	uint32_t crc = pylb_crc32c(l4, SCTP_CRC_AT, 0);

	crc = pylb_crc32c(instead, sizeof(instead), crc);
	crc = pylb_crc32c(l4 + SCTP_HEADER, p->len - p->l4 - SCTP_HEADER, crc);
	return crc == get_crc(l4 + SCTP_CRC_AT);
}

/**
 * packet_checksum_ok() - Does the transport checksum hold?
 * @p:	Packet, parsed and no fragment; @p->here == @p->len, or its checksum is known
 *
 * Return: true if so, or if it has none, or if it is still to be made.  What was found
 * right is not looked at again.
 */
bool packet_checksum_ok(struct packet *p)
{
	const uint8_t *l4 = p->data + p->l4;
	bool ok;

	if (p->csum != CSUM_COMPLETE)
		return true;
	switch (p->tuple.protocol) {
	case PROTO_ICMP:
		ok = pylb_ones_sum(l4, p->len - p->l4, 0) == 0xffff;
		break;
	case PROTO_UDP:
		if (!get16(l4 + UDP_CHECK_AT))
			return true;
		ok = transport_sum(p) == 0xffff;
		break;
	case PROTO_TCP:
		ok = transport_sum(p) == 0xffff;
		break;
	case PROTO_SCTP:
		ok = crc_ok(p);
		break;
	default:
		return true;
	}
	if (ok)
		p->csum = CSUM_VERIFIED;
	return ok;
}

/**
 * packet_complete() - Make the checksum that is still to be made
 * @p:	Packet that is no super-packet, @p->here == @p->len
 */
void packet_complete(struct packet *p)
{
	bool udp = p->tuple.protocol == PROTO_UDP;
	uint8_t *check = p->data + p->l4 + (udp ? UDP_CHECK_AT : TCP_CHECK_AT);
	uint16_t sum;

	if (p->csum != CSUM_PARTIAL)
		return;
	put16(check, 0);
	sum = (uint16_t)~transport_sum(p);
	/* RFC 768: 0 would say that there is none. */
	put16(check, udp && !sum ? 0xffff : sum);
	p->csum = CSUM_VERIFIED;
}

/**
 * packet_set_ttl() - Write the TTL and mend the header checksum
 * @p:		Packet
 * @ttl:	Time to live
 */
void packet_set_ttl(struct packet *p, uint8_t ttl)
{
	uint8_t *data = p->data;
	uint16_t old = get16(data + 8);

	data[8] = p->ttl = ttl;
	put16(data + CHECK_AT,
	      pylb_check_update16(get16(data + CHECK_AT), old, get16(data + 8)));
}

/**
 * packet_ip_checksum() - Write a fresh header checksum
 * @header:	IP header
 * @length:	Its bytes
 */
void packet_ip_checksum(uint8_t *header, uint32_t length)
{
	uint16_t check = (uint16_t)~fold(header_sum(header, length));

	memcpy(header + CHECK_AT, &check, sizeof(check));
}

/**
 * moved() - What a word that changes adds to a sum (RFC 1624, eqn. 3)
 * @old:	The word before
 * @new:	The word after
 *
 * Return: the addend, 0 when nothing changes
 */
static inline uint64_t moved(uint32_t old, uint32_t new)
{
	return old == new ? 0 : (uint64_t)(uint32_t)~old + new;
}

/**
 * mend() - Checksum after words changed
 * @check:	Checksum as it is in the header
 * @change:	Sum of moved()
 *
 * Return: the new checksum
 */
static inline uint16_t mend(uint16_t check, uint64_t change)
{
	return (uint16_t)~fold((uint16_t)~check + change);
}

/**
 * rewrite_ports() - Make the ports others, and the checksum fit these and the addresses
 * @p:		TCP or UDP packet; quoted, it may end before the checksum
 * @to:		Ports
 * @addresses:	What the addresses' change adds to the checksum
 */
static inline void rewrite_ports(struct packet *p, const struct tuple *to, uint64_t addresses)
{
	bool udp = p->tuple.protocol == PROTO_UDP;
	uint32_t at = p->l4 + (udp ? (uint32_t)UDP_CHECK_AT : (uint32_t)TCP_CHECK_AT);
	uint32_t old = (uint32_t)p->tuple.sport << 16 | p->tuple.dport;
	uint32_t new = (uint32_t)to->sport << 16 | to->dport;
	uint8_t *check = p->data + at;

	put32(p->data + p->l4, new);
	p->tuple.sport = to->sport;
	p->tuple.dport = to->dport;
	if (at + 2 > p->len)
		return;
	if (p->csum == CSUM_PARTIAL) {
		/* The ports are summed when the checksum is made. */
		put16(check, fold(get16(check) + addresses));
		return;
	}
	if (udp && !get16(check))
		return;
	put16(check, mend(get16(check), addresses + moved(old, new)));
	if (udp && !get16(check))
		put16(check, 0xffff);
}

/**
 * rewrite_sctp() - Make the ports others, and the checksum fit
 * @p:		SCTP packet; quoted, it may end before the checksum
 * @to:		Ports
 *
 * The checksum covers no addresses.  How far it reaches the IP header says, for a
 * quotation may be cut off.
 */
static void rewrite_sctp(struct packet *p, const struct tuple *to)
{
	uint32_t old = (uint32_t)p->tuple.sport << 16 | p->tuple.dport;
	uint32_t new = (uint32_t)to->sport << 16 | to->dport;
	uint32_t total = get16(p->data + 2);
	uint8_t *l4 = p->data + p->l4, *at = l4 + SCTP_CRC_AT;

	if (old == new)
		return;
	put32(l4, new);
	p->tuple.sport = to->sport;
	p->tuple.dport = to->dport;
	if (total < p->l4 + (uint32_t)SCTP_HEADER || p->len < p->l4 + (uint32_t)SCTP_HEADER)
		return;
	put_crc(at, pylb_crc32c_update(get_crc(at), old, new, total - p->l4));
}

/**
 * packet_rewrite() - Make the packet's addresses, ports or ICMP identifier others
 * @p:	Packet
 * @to:	What to make them
 *
 * Checksums are mended, so that a bad one stays bad.
 */
void packet_rewrite(struct packet *p, const struct tuple *to)
{
	uint64_t addresses = moved(p->tuple.src, to->src) + moved(p->tuple.dst, to->dst);
	uint8_t *data = p->data, *l4 = data + p->l4;

	p->hashed = false;
	if (p->tuple.src != to->src || p->tuple.dst != to->dst) {
		put16(data + CHECK_AT, mend(get16(data + CHECK_AT), addresses));
		put32(data + ADDRESSES_AT, to->src);
		put32(data + ADDRESSES_AT + 4, to->dst);
		p->tuple.src = to->src;
		p->tuple.dst = to->dst;
	}
	if (p->tuple.protocol == PROTO_TCP || p->tuple.protocol == PROTO_UDP) {
		rewrite_ports(p, to, addresses);
	} else if (p->tuple.protocol == PROTO_SCTP) {
		rewrite_sctp(p, to);
	} else if (p->tuple.protocol == PROTO_ICMP && p->tuple.sport != to->sport) {
		put16(l4 + ICMP_CHECK_AT, pylb_check_update16(get16(l4 + ICMP_CHECK_AT),
							      p->tuple.sport, to->sport));
		put16(l4 + 4, to->sport);
		p->tuple.sport = to->sport;
	}
}

/**
 * tuple_invert() - The tuple of a packet that answers another
 * @t:	The other one's
 *
 * Return: the tuple.  An ICMP type without an answer maps to itself; no flow has it.
 */
struct tuple tuple_invert(const struct tuple *t)
{
	struct tuple inverted = {
		.src = t->dst,
		.dst = t->src,
		.sport = t->dport,
		.dport = t->sport,
		.protocol = t->protocol,
	};

	if (t->protocol == PROTO_ICMP) {
		uint8_t type = icmp_answer((uint8_t)(t->dport >> 8));

		inverted.sport = t->sport;
		inverted.dport = (uint16_t)(type << 8 | (t->dport & 0xff));
	}
	return inverted;
}
