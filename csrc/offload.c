/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Super-packets: what a TUN says of them, and how they are cut.
 *
 * Theory of Operation
 * ===================
 *
 * A TUN with IFF_VNET_HDR puts a virtio-net header (Virtio 1.2, 5.1.6, without
 * num_buffers) before each packet, in the machine's byte order.  It says whether the
 * transport checksum is still to be made, and that a packet is a super-packet: up to 64
 * KiB that the stack would cut into segments of gso_size bytes of payload at the very
 * end.  We are that end when such a packet leaves by the overlay: every segment gets
 * the first one's headers, with what differs (RFC 9293, and as Linux' tcp_gso_segment()
 * and __udp_gso_segment() do): length, identification, sequence number, FIN and PSH on
 * the last only, CWR on the first only, and a checksum over its own payload.
 */
#include "offload.h"

#include "checksum.h"
#include "tcp.h"

#define NEEDS_CSUM	1
#define DATA_VALID	2
#define GSO_NONE	0
#define GSO_TCPV4	1
#define GSO_UDP_L4	5
#define GSO_ECN		0x80

#define TCP_CWR		0x80
#define TCP_CHECK_AT	16
#define UDP_CHECK_AT	6
#define UDP_HEADER	8

/**
 * struct virtio - The header as it lies before a packet
 * @flags:		NEEDS_CSUM: the checksum is to be made; DATA_VALID: it was found right
 * @gso_type:		GSO_*
 * @hdr_len:		Bytes of all headers, a hint
 * @gso_size:		Payload bytes of a segment
 * @csum_start:		Where what the checksum covers begins
 * @csum_offset:	Where from there the checksum lies
 */
struct virtio {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

/**
 * check_at() - Where a checksum lies in its header
 * @protocol:	PROTO_TCP or PROTO_UDP
 *
 * Return: offset in the transport header
 */
static uint32_t check_at(uint8_t protocol)
{
	return protocol == PROTO_TCP ? TCP_CHECK_AT : UDP_CHECK_AT;
}

/**
 * has_sum() - Is it TCP or UDP, and no fragment?
 * @p:		Packet
 *
 * Return: true if so
 */
static bool has_sum(const struct packet *p)
{
	return (p->tuple.protocol == PROTO_TCP || p->tuple.protocol == PROTO_UDP) &&
	       !packet_is_fragment(p);
}

/**
 * headers_of() - Bytes before a packet's payload
 * @p:		TCP or UDP packet
 *
 * Return: their number, IP header included
 */
static uint32_t headers_of(const struct packet *p)
{
	if (p->tuple.protocol == PROTO_TCP)
		return p->l4 + (p->data[p->l4 + 12] >> 4) * 4u;
	return p->l4 + UDP_HEADER;
}

/**
 * parsed_bytes() - How far a packet has been read when it was parsed
 * @p:	Packet
 *
 * Return: offset of the first byte that nothing was concluded from
 */
static uint32_t parsed_bytes(const struct packet *p)
{
	if (has_sum(p))
		return headers_of(p);
	if (!packet_is_fragment(p) && p->tuple.protocol == PROTO_SCTP)
		return p->l4 + SCTP_HEADER;
	if (!packet_is_fragment(p) &&
	    (p->tuple.protocol == PROTO_ICMP || p->tuple.protocol == PROTO_GRE))
		return p->l4 + 8u;
	return p->l4;
}

/**
 * offload_read() - Take in what the TUN says of a packet
 * @p:		The packet, parsed
 * @header:	VIRTIO_HEADER bytes
 *
 * Return: PACKET_OK, or PYLB_DROP_BAD_OFFLOAD for what cannot be
 */
int offload_read(struct packet *p, const uint8_t *header)
{
	struct virtio v;
	uint32_t payload;

	memcpy(&v, header, sizeof(v));
	v.gso_type &= (uint8_t)~GSO_ECN;
	if (v.flags & NEEDS_CSUM) {
		if (has_sum(p) && v.csum_start == p->l4 &&
		    v.csum_offset == check_at(p->tuple.protocol)) {
			p->csum = CSUM_PARTIAL;
		} else if (v.gso_type == GSO_NONE && v.csum_start >= parsed_bytes(p) &&
			   (uint32_t)v.csum_start + v.csum_offset + 2 <= p->len) {
			/* Of a header further in, or of a protocol that we only carry. */
			uint8_t *check = p->data + v.csum_start + v.csum_offset;
			uint16_t sum = pylb_ones_sum(p->data + v.csum_start, p->len - v.csum_start,
						     0);

			put16(check, (uint16_t)~sum);
		} else {
			return PYLB_DROP_BAD_OFFLOAD;
		}
	} else if (v.flags & DATA_VALID && has_sum(p)) {
		p->csum = CSUM_VERIFIED;
	}
	if (v.gso_type == GSO_NONE)
		return PACKET_OK;
	if (p->csum != CSUM_PARTIAL || !v.gso_size ||
	    v.gso_type != (p->tuple.protocol == PROTO_TCP ? GSO_TCPV4 : GSO_UDP_L4))
		return PYLB_DROP_BAD_OFFLOAD;
	payload = p->len - headers_of(p);
	if (payload > v.gso_size) {
		p->gso_size = v.gso_size;
		p->segments = (uint16_t)((payload + v.gso_size - 1) / v.gso_size);
	}
	return PACKET_OK;
}

/**
 * offload_write() - Tell the TUN what it needs to know of a packet
 * @p:		The packet
 * @header:	Out: VIRTIO_HEADER bytes
 */
void offload_write(const struct packet *p, uint8_t *header)
{
	struct virtio v = { 0 };

	if (p->csum == CSUM_PARTIAL) {
		v.flags = NEEDS_CSUM;
		v.csum_start = p->l4;
		v.csum_offset = (uint16_t)check_at(p->tuple.protocol);
	}
	if (p->gso_size) {
		v.gso_type = p->tuple.protocol == PROTO_TCP ? GSO_TCPV4 : GSO_UDP_L4;
		v.gso_size = p->gso_size;
		v.hdr_len = (uint16_t)headers_of(p);
	}
	memcpy(header, &v, sizeof(v));
}

/**
 * segmenter_start() - Begin with the first segment
 * @s:	Segmenter
 * @p:	Super-packet; not to be changed while it is cut
 */
void segmenter_start(struct segmenter *s, const struct packet *p)
{
	s->p = p;
	s->headers = headers_of(p);
	s->index = s->offset = 0;
	s->data = p->data + s->headers;
	s->left = p->here - s->headers;
	s->more = p->more;
}

/**
 * take_payload() - The parts that the next bytes of the payload lie in, and their sum
 * @s:		Segmenter
 * @len:	Bytes
 * @payload:	Out
 * @parts:	Out: how many; 0 when there are more than MOST_PARTS
 *
 * Return: one's-complement sum of the bytes
 */
static uint64_t take_payload(struct segmenter *s, uint32_t len, struct slice *payload, int *parts)
{
	uint64_t sum = 0;
	bool odd = false;

	*parts = 0;
	while (len) {
		uint32_t part = s->left < len ? s->left : len;
		uint16_t of_part;

		if (!part) {
			if (!s->more)
				break;
			s->data = s->more->data;
			s->left = s->more->len;
			s->more = s->more->next;
			continue;
		}
		if (*parts == MOST_PARTS) {
			*parts = 0;
			return 0;
		}
		payload[*parts].data = s->data;
		payload[*parts].len = part;
		++*parts;
		of_part = pylb_ones_sum(s->data, part, 0);
		/* Behind an odd number of bytes, the words lie the other way round. */
		sum += odd ? (uint16_t)(of_part << 8 | of_part >> 8) : of_part;
		odd ^= part & 1;
		s->data += part;
		s->left -= part;
		len -= part;
	}
	return sum;
}

/**
 * segmenter_next() - The next segment
 * @s:		Segmenter
 * @headers:	Out: its headers, at most MOST_HEADERS bytes, checksums complete
 * @payload:	Out: where its payload lies, at most MOST_PARTS parts
 * @parts:	Out: how many
 *
 * Return: bytes of the headers, 0 when there is no segment left
 */
uint32_t segmenter_next(struct segmenter *s, uint8_t *headers, struct slice *payload, int *parts)
{
	const struct packet *p = s->p;
	uint32_t left = p->len - s->headers - s->offset;
	uint32_t len = left < p->gso_size ? left : p->gso_size;
	uint8_t *l4 = headers + p->l4;
	uint32_t l4_len = s->headers - p->l4 + len;
	uint64_t sum;

	if (!len)
		return 0;
	memcpy(headers, p->data, s->headers);
	put16(headers + 2, (uint16_t)(s->headers + len));
	if (!p->fixed_id)
		put16(headers + 4, (uint16_t)(get16(headers + 4) + s->index));
	packet_ip_checksum(headers, p->l4);
	if (p->tuple.protocol == PROTO_TCP) {
		put32(l4 + 4, get32(l4 + 4) + s->offset);
		if (len < left)
			l4[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
		if (s->index)
			l4[13] &= (uint8_t)~TCP_CWR;
	} else {
		put16(l4 + 4, (uint16_t)l4_len);
	}
	put16(l4 + check_at(p->tuple.protocol), 0);
	sum = take_payload(s, len, payload, parts);
	sum += pylb_ones_sum(l4, s->headers - p->l4,
			     pylb_pseudo_sum(p->tuple.src, p->tuple.dst, p->tuple.protocol,
					     (uint16_t)l4_len));
	sum = (uint16_t)~fold(sum);
	if (!sum && p->tuple.protocol == PROTO_UDP)
		sum = 0xffff;
	put16(l4 + check_at(p->tuple.protocol), (uint16_t)sum);
	s->index++;
	s->offset += len;
	return s->headers;
}
