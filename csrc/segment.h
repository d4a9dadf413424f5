/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_SEGMENT_H
#define PYLB_SEGMENT_H

#include "packet.h"

enum tcp_flag { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };

/* What a segment is, by the flag that decides: RST before SYN before FIN before ACK. */
enum segment_kind { KIND_SYN, KIND_SYN_ACK, KIND_FIN, KIND_ACK, KIND_RST, KIND_NONE, KINDS };

/* What a SYN offers in its options. */
enum segment_offer { WINDOW_SCALE = 1, SACK_PERMITTED = 2 };

/**
 * struct segment - What is needed of a TCP header
 * @options:	Its options
 * @n_options:	Their bytes
 * @seq:	Sequence number
 * @ack:	Acknowledgement number
 * @end:	@seq plus all that the segment occupies, modulo 2^32
 * @window:	Window, not scaled
 * @flags:	enum tcp_flag
 * @kind:	enum segment_kind
 * @valid:	The flags may stand together
 */
struct segment {
	const uint8_t *options;
	uint32_t n_options;
	uint32_t seq, ack, end;
	uint16_t window;
	uint8_t flags, kind;
	bool valid;
};

struct segment segment_read(const struct packet *p);
uint8_t segment_options(const struct segment *s, uint8_t *scale);
uint32_t segment_highest_sack(const struct segment *s);

/**
 * seq_before() - Does a sequence number come before another?
 * @a:	One
 * @b:	The other
 *
 * Return: true if it does, modulo 2^32
 */
static inline bool seq_before(uint32_t a, uint32_t b)
{
	return a - b > 0x7fffffff;
}

#endif
