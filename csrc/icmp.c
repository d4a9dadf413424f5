/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP errors: those that pass through a translated flow, and what is answered here.
 *
 * Theory of Operation
 * ===================
 *
 * An error quotes the packet that it is about as that packet was on the wire where the
 * error arose, that is, translated.  Whoever sent the packet knows it by its
 * untranslated form, so both the outer addresses and the quotation are put back (RFC
 * 5508 section 4; Linux nf_nat_proto.c, nf_nat_icmp_reply_translation).
 *
 * What is made here is written to a buffer of the caller's, whole, checksums included,
 * and is at most ANSWER_MAX bytes long.
 */
#include "icmp.h"

#define ICMP_HEADER		8	/* bytes */
#define TCP_HEADER		20	/* bytes, without options */
#define ABORT_LENGTH		4	/* bytes of an ABORT chunk without causes */
#define QUOTED_MAX		(ANSWER_MAX - IP_HEADER - ICMP_HEADER)
#define PORT_UNREACHABLE	3
#define ICMP_TOS		0xc0	/* Internetwork Control (RFC 1812 section 4.3.2.5) */

/**
 * related_flow() - The flow that an error belongs to
 * @t:		Flows
 * @error:	ICMP error
 * @now:	Nanoseconds
 * @direction:	Out: the direction of the flow in which the error travels
 * @quoted:	Out: the packet that it quotes, where it lies in @error
 *
 * Return: the flow's slot, NO_FLOW when it quotes nothing that is tracked
 */
uint32_t related_flow(struct table *t, const struct packet *error, uint64_t now, int *direction,
		      struct packet *quoted)
{
	uint32_t at = error->l4 + ICMP_HEADER;
	struct tuple key;

	if (packet_parse_quoted(quoted, error->data + at, error->len - at) != PACKET_OK)
		return NO_FLOW;
	key = tuple_invert(&quoted->tuple);
	return table_lookup(t, &key, table_hash(t, &key), now, direction);
}

/**
 * translate_error() - Rewrite an error, quotation and all
 * @error:	ICMP error with a correct checksum
 * @f:		The flow that it is about
 * @direction:	The direction of @f in which it travels
 * @quoted:	From related_flow()
 *
 * The outer source changes only if the flow's own packets' source does in that
 * direction; a router's address is kept behind plain masquerade.
 */
void translate_error(struct packet *error, const struct flow *f, int direction,
		     struct packet *quoted)
{
	struct tuple own = flow_tuple(f, direction), far = flow_tuple(f, !direction);
	struct tuple target = tuple_invert(&far), to = error->tuple;
	uint8_t *icmp = error->data + error->l4;

	if (tuple_same(&target, &own))
		return;
	packet_rewrite(quoted, &far);
	put16(icmp + 2, 0);
	put16(icmp + 2, (uint16_t)~pylb_ones_sum(icmp, error->len - error->l4, 0));
	if (target.src != own.src)
		to.src = target.src;
	to.dst = target.dst;
	packet_rewrite(error, &to);
}

/**
 * put_ip() - Write an IPv4 header without options (RFC 791)
 * @to:		IP_HEADER bytes of room
 * @tos:	Type of service
 * @len:	Bytes of the whole packet
 * @flags:	Flags and fragment offset
 * @protocol:	IANA number
 * @src:	Source address
 * @dst:	Destination address
 */
static void put_ip(uint8_t *to, uint8_t tos, uint32_t len, uint16_t flags, uint8_t protocol,
		   uint32_t src, uint32_t dst)
{
	to[0] = 0x45;
	to[1] = tos;
	put16(to + 2, (uint16_t)len);
	put16(to + 4, 0);
	put16(to + 6, flags);
	to[8] = 64;
	to[9] = protocol;
	put32(to + 12, src);
	put32(to + 16, dst);
	packet_ip_checksum(to, IP_HEADER);
}

/**
 * icmp_error() - Make an ICMP error (RFC 792, RFC 1812 section 4.3)
 * @type:	ICMP type
 * @code:	ICMP code
 * @rest:	0 but for fragmentation needed, where it is the next hop's MTU (RFC 1191)
 * @quoted:	The packet that it is about, from its IP header on
 * @quoted_len:	Its bytes; as many are quoted as there is room for
 * @src:	Source address
 * @dst:	Destination address
 * @to:		ANSWER_MAX bytes of room
 *
 * Return: bytes of the packet
 */
uint32_t icmp_error(uint8_t type, uint8_t code, uint32_t rest, const uint8_t *quoted,
		    uint32_t quoted_len, uint32_t src, uint32_t dst, uint8_t *to)
{
	uint8_t *icmp = to + IP_HEADER;
	uint32_t len;

	if (quoted_len > QUOTED_MAX)
		quoted_len = QUOTED_MAX;
	len = ICMP_HEADER + quoted_len;
	icmp[0] = type;
	icmp[1] = code;
	put16(icmp + 2, 0);
	put32(icmp + 4, rest);
	memcpy(icmp + ICMP_HEADER, quoted, quoted_len);
	put16(icmp + 2, (uint16_t)~pylb_ones_sum(icmp, len, 0));
	put_ip(to, ICMP_TOS, IP_HEADER + len, 0, PROTO_ICMP, src, dst);
	return IP_HEADER + len;
}

/**
 * tcp_segment() - Make a TCP segment without payload, options and window (RFC 9293)
 * @t:		Addresses and ports
 * @seq:	Sequence number
 * @ack:	Acknowledgment number
 * @flags:	enum tcp_flag
 * @to:		ANSWER_MAX bytes of room
 *
 * Return: bytes of the packet
 */
uint32_t tcp_segment(const struct tuple *t, uint32_t seq, uint32_t ack, uint8_t flags, uint8_t *to)
{
	uint8_t *tcp = to + IP_HEADER;
	uint32_t sum = pylb_pseudo_sum(t->src, t->dst, PROTO_TCP, TCP_HEADER);

	memset(tcp, 0, TCP_HEADER);
	put16(tcp, t->sport);
	put16(tcp + 2, t->dport);
	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	tcp[12] = TCP_HEADER / 4 << 4;
	tcp[13] = flags;
	put16(tcp + 16, (uint16_t)~pylb_ones_sum(tcp, TCP_HEADER, sum));
	put_ip(to, 0, IP_HEADER + TCP_HEADER, IP_DONT_FRAGMENT, PROTO_TCP, t->src, t->dst);
	return IP_HEADER + TCP_HEADER;
}

/**
 * sctp_abort() - Make an SCTP packet with an ABORT without causes (RFC 9260 section 3.3.7)
 * @t:		Addresses and ports
 * @tag:	Verification tag
 * @flags:	0 or SCTP_REFLECTED
 * @to:		ANSWER_MAX bytes of room
 *
 * Return: bytes of the packet
 */
uint32_t sctp_abort(const struct tuple *t, uint32_t tag, uint8_t flags, uint8_t *to)
{
	uint8_t *sctp = to + IP_HEADER;

	memset(sctp, 0, SCTP_HEADER + ABORT_LENGTH);
	put16(sctp, t->sport);
	put16(sctp + 2, t->dport);
	put32(sctp + 4, tag);
	sctp[SCTP_HEADER] = SCTP_ABORT;
	sctp[SCTP_HEADER + 1] = flags;
	put16(sctp + SCTP_HEADER + 2, ABORT_LENGTH);
	put_crc(sctp + SCTP_CRC_AT, pylb_crc32c(sctp, SCTP_HEADER + ABORT_LENGTH, 0));
	put_ip(to, 0, IP_HEADER + SCTP_HEADER + ABORT_LENGTH, IP_DONT_FRAGMENT, PROTO_SCTP, t->src,
	       t->dst);
	return IP_HEADER + SCTP_HEADER + ABORT_LENGTH;
}

/**
 * reset_for() - The RST that answers a segment to a closed port (RFC 9293 section 3.10.7.1)
 * @p:	TCP packet
 * @to:	ANSWER_MAX bytes of room
 *
 * Return: bytes of the packet, 0 if @p is a RST itself
 */
static uint32_t reset_for(const struct packet *p, uint8_t *to)
{
	const uint8_t *tcp = p->data + p->l4;
	uint8_t flags = tcp[13];
	struct tuple back = tuple_invert(&p->tuple);
	uint32_t payload = p->len - p->l4 - (tcp[12] >> 4) * 4u;
	uint32_t occupied = payload + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);

	if (flags & TCP_RST)
		return 0;
	if (flags & TCP_ACK)
		return tcp_segment(&back, get32(tcp + 8), 0, TCP_RST, to);
	return tcp_segment(&back, 0, get32(tcp + 4) + occupied, TCP_RST | TCP_ACK, to);
}

/**
 * rejection() - What a closed port answers: a TCP reset, or port unreachable
 * @p:		Packet
 * @source:	Who says that a port is unreachable
 * @to:		ANSWER_MAX bytes of room
 *
 * Return: bytes of the packet; 0 where nothing may be sent: in answer to a reset or an
 * ICMP error (RFC 1122 section 3.2.2)
 */
uint32_t rejection(const struct packet *p, uint32_t source, uint8_t *to)
{
	if (p->tuple.protocol == PROTO_TCP)
		return reset_for(p, to);
	if (packet_is_icmp_error(p))
		return 0;
	return icmp_error(ICMP_UNREACHABLE, PORT_UNREACHABLE, 0, p->data, p->here, source,
			  p->tuple.src, to);
}
