/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_WINDOW_H
#define PYLB_WINDOW_H

#include "segment.h"

#define MOST_RETRANS	3

/* Flags of a side, 6 bits with those of enum segment_offer. */
enum side_flag {
	CLOSE_INIT = 4,		/* it sent the first FIN */
	LIBERAL = 8,		/* picked up midstream: its numbers are not held against it */
	UNACKNOWLEDGED = 16,	/* what it sent has not all been acknowledged */
	MAX_ACK_SET = 32,
};

/**
 * struct tcp_side - One end of a connection
 * @end:	How far it has sent
 * @max_end:	How far it may send
 * @max_window:	The largest window it has offered
 * @max_ack:	The largest number it has acknowledged
 */
struct tcp_side {
	uint32_t end, max_end, max_window, max_ack;
};

/**
 * struct tcp - What a flow remembers of its connection, 48 bytes
 * @side:		Both ends, by direction
 * @last_ack:		Of the last ACK, or of a segment that was ignored
 * @last_end:		Its end
 * @last_length:	@last_end less its sequence number
 * @last_window:	Its window
 * @flags0:		Of side 0: enum segment_offer and enum side_flag
 * @flags1:		Of side 1
 * @scale0:		Window scale of side 0
 * @scale1:		Window scale of side 1
 * @last_kind:		Kind of the last segment, enum segment_kind
 * @last_direction:	Its direction
 * @retrans:		How often it came again, at most 3
 * @last_flags:		Of the last SYN that was ignored, 4 bits that tcp.c knows of
 *
 * Its window scale and the state are in struct flow, where bits are left.
 */
struct tcp {
	struct tcp_side side[2];
	uint32_t last_ack, last_end;
	uint16_t last_length, last_window;
	uint32_t flags0 : 6, flags1 : 6, scale0 : 4, scale1 : 4;
	uint32_t last_kind : 3, last_direction : 1, retrans : 2, last_flags : 4;
};

/**
 * struct connection - A flow's TCP while a segment is judged
 * @t:		Its numbers
 * @flags:	By direction; @t's are not up to date meanwhile
 * @scale:	By direction; likewise
 */
struct connection {
	struct tcp *t;
	uint8_t flags[2], scale[2];
};

/* Where a segment lies. */
enum window_verdict {
	WINDOW_INSIDE,
	WINDOW_NEAR,		/* to be passed on, it moves nothing */
	WINDOW_OUTSIDE,
};

void window_start(struct connection *n, int direction, const struct segment *s);
enum window_verdict window_judge(struct connection *n, const struct segment *s, int direction,
				 bool unanswered, bool opening);

#endif
