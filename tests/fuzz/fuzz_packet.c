/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading packets: whole ones, transport headers, and what an ICMP error quotes.
 *
 * The first byte says whether checksums are mended; the rest is the packet.
 */
#include "fuzz.h"

static void rewrite_and_back(struct packet *p)
{
	struct tuple was = p->tuple, other = { .src = 0x0af40102, .dst = 0x0a600001, .sport = 7,
					       .dport = 61000, .protocol = was.protocol };
	bool right = packet_checksum_ok(p);
	uint32_t len = p->len;
	struct packet again;

	if (was.protocol == PROTO_ICMP) {
		/* No flow has a type without an answer, so its identifier is never written. */
		other.sport = was.sport ? 7 : 0;
		other.dport = was.dport;
	}
	packet_rewrite(p, &other);
	PROMISE(p->tuple.src == other.src && p->tuple.dst == other.dst);
	packet_set_ttl(p, 65);
	PROMISE(packet_parse(&again, p->data, p->len) == PACKET_OK);
	PROMISE(again.len == len && again.ttl == 65);
	PROMISE(tuple_same(&again.tuple, &p->tuple));
	/* Incrementally: what was wrong stays wrong. */
	PROMISE(packet_checksum_ok(&again) == right);
	packet_rewrite(&again, &was);
	PROMISE(tuple_same(&again.tuple, &was));
}

static void check(struct packet *p, uint32_t size)
{
	struct tuple twice = tuple_invert(&p->tuple);

	PROMISE(p->len <= size && p->l4 >= 20 && p->l4 <= p->len);
	PROMISE(get16(p->data + 2) == p->len);
	twice = tuple_invert(&twice);
	PROMISE(tuple_same(&twice, &p->tuple));
	PROMISE(!packet_is_icmp_error(p) || p->tuple.protocol == PROTO_ICMP);
	if (!packet_is_fragment(p))
		rewrite_and_back(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet p;
	uint8_t *copy;

	if (!size || size > IP_MAX)
		return 0;
	copy = exact(data + 1, --size);
	if (packet_parse_quoted(&p, copy, (uint32_t)size) == PACKET_OK)
		PROMISE(p.l4 + 8u <= size);
	if (data[0] & 1)
		mend(copy, size);
	if (packet_parse(&p, copy, (uint32_t)size) == PACKET_OK)
		check(&p, (uint32_t)size);
	free(copy);
	return 0;
}
