/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading TCP headers and their options.
 *
 * Theory of Operation
 * ===================
 *
 * RFC 9293 section 3.1, RFC 7323 (window scale), RFC 2018 (SACK).  Whoever parsed the
 * packet has found header and options to lie inside it; what an option says of its own
 * length is believed only as far as the options go, and at one that lies reading ends.
 */
#include "segment.h"

/* A bit for each set of flags that may stand in a segment, PSH apart. */
#define FLAGS(flags)	(1ull << (flags))
#define VALID_FLAGS	(FLAGS(TCP_SYN) | FLAGS(TCP_SYN | TCP_URG) | FLAGS(TCP_SYN | TCP_ACK) | \
			 FLAGS(TCP_RST) | FLAGS(TCP_RST | TCP_ACK) | FLAGS(TCP_FIN | TCP_ACK) | \
			 FLAGS(TCP_FIN | TCP_ACK | TCP_URG) | FLAGS(TCP_ACK) | \
			 FLAGS(TCP_ACK | TCP_URG))

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_SCALE = 3, OPTION_SACK_OK = 4, OPTION_SACK = 5 };

#define HEADER		20	/* bytes, without options */
#define TIMESTAMP	12	/* bytes of the usual options: two NOPs and a timestamp */
#define MOST_SCALE	14	/* RFC 7323 section 2.3 */
#define SACK_BLOCK	8	/* bytes */

/**
 * segment_read() - Read a TCP header
 * @p:	Packet, parsed and no fragment
 *
 * Return: what is needed of it; @p's bytes must stay while its options are
 */
struct segment segment_read(const struct packet *p)
{
	const uint8_t *l4 = p->data + p->l4;
	uint32_t header = (l4[12] >> 4) * 4u;
	struct segment s = {
		.options = l4 + HEADER,
		.n_options = header - HEADER,
		.seq = get32(l4 + 4),
		.ack = get32(l4 + 8),
		.window = get16(l4 + 14),
		.flags = l4[13] & 0x3f,
	};

	s.end = s.seq + (p->len - p->l4 - header) + (s.flags & TCP_FIN) +
		((s.flags & TCP_SYN) >> 1);
	s.valid = VALID_FLAGS >> (s.flags & ~TCP_PSH) & 1;
	if (s.flags & TCP_RST)
		s.kind = KIND_RST;
	else if (s.flags & TCP_SYN)
		s.kind = s.flags & TCP_ACK ? KIND_SYN_ACK : KIND_SYN;
	else if (s.flags & TCP_FIN)
		s.kind = KIND_FIN;
	else
		s.kind = s.flags & TCP_ACK ? KIND_ACK : KIND_NONE;
	return s;
}

/**
 * next_option() - Walk over the options
 * @s:		Segment
 * @at:		Where to go on; moved behind the option that is found
 * @length:	Out: its bytes, at least 2
 *
 * Return: the next option but NOPs, NULL at their end or at one that lies
 */
static const uint8_t *next_option(const struct segment *s, uint32_t *at, uint32_t *length)
{
	const uint8_t *option = s->options + *at, *end = s->options + s->n_options;

	while (option < end && *option == OPTION_NOP)
		option++;
	if (option == end || *option == OPTION_END || option + 1 == end || option[1] < 2 ||
	    option[1] > end - option)
		return NULL;
	*length = option[1];
	*at = (uint32_t)(option - s->options) + *length;
	return option;
}

/**
 * segment_options() - What a SYN's options offer
 * @s:		Segment
 * @scale:	Out: window scale, 0 if none is offered
 *
 * Return: enum segment_offer, ORed
 */
uint8_t segment_options(const struct segment *s, uint8_t *scale)
{
	const uint8_t *option;
	uint32_t at = 0, length;
	uint8_t offers = 0;

	*scale = 0;
	while ((option = next_option(s, &at, &length))) {
		if (option[0] == OPTION_SCALE && length == 3) {
			*scale = option[2] < MOST_SCALE ? option[2] : MOST_SCALE;
			offers |= WINDOW_SCALE;
		} else if (option[0] == OPTION_SACK_OK && length == 2) {
			offers |= SACK_PERMITTED;
		}
	}
	return offers;
}

/**
 * segment_highest_sack() - The right edge of the farthest SACK block
 * @s:	Segment
 *
 * Return: the edge, or the acknowledgement if that is farther
 */
uint32_t segment_highest_sack(const struct segment *s)
{
	static const uint8_t timestamp[] = { OPTION_NOP, OPTION_NOP, 8, 10 };
	const uint8_t *option;
	uint32_t sack = s->ack, at = 0, length;

	if (!s->n_options || (s->n_options == TIMESTAMP &&
			      !memcmp(s->options, timestamp, sizeof(timestamp))))
		return sack;
	while ((option = next_option(s, &at, &length))) {
		if (option[0] != OPTION_SACK || length < 2 + SACK_BLOCK ||
		    (length - 2) % SACK_BLOCK)
			continue;
		for (uint32_t block = 2; block < length; block += SACK_BLOCK) {
			uint32_t edge = get32(option + block + 4);

			if (seq_before(sack, edge))
				sack = edge;
		}
	}
	return sack;
}
