/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_SCTP_H
#define PYLB_SCTP_H

#include "tcp.h"

#define SCTP_REFLECTED	1	/* ABORT, SHUTDOWN COMPLETE: the tag is the receiver's peer's */

/* The kernel's order (enum sctp_conntrack). */
enum sctp_state {
	SCTP_NONE,
	SCTP_CLOSED,
	SCTP_COOKIE_WAIT,
	SCTP_COOKIE_ECHOED,
	SCTP_ESTABLISHED,
	SCTP_SHUTDOWN_SENT,
	SCTP_SHUTDOWN_RECD,
	SCTP_SHUTDOWN_ACK_SENT,
	SCTP_HEARTBEAT_SENT,
	SCTP_STATES,
};

/* Kinds of chunks (RFC 9260 section 3.2); others change nothing. */
enum sctp_chunk {
	SCTP_DATA = 0,
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_HEARTBEAT = 4,
	SCTP_HEARTBEAT_ACK = 5,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN = 7,
	SCTP_SHUTDOWN_ACK = 8,
	SCTP_ERROR = 9,
	SCTP_COOKIE_ECHO = 10,
	SCTP_COOKIE_ACK = 11,
	SCTP_SHUTDOWN_COMPLETE = 14,
	SCTP_CHUNKS,
};

/* In which direction a HEARTBEAT had a wrong tag, and no right one has come since. */
enum sctp_failed { SCTP_FAILED_NOT, SCTP_FAILED_ORIGINAL, SCTP_FAILED_REPLY };

/**
 * struct sctp - What a flow remembers of its association, 12 bytes
 * @tags:	By direction: the verification tag that packets must show, 0: unknown
 * @inits:	By direction: an INIT has passed and is not answered for good
 * @failed:	enum sctp_failed
 * @unused:	0
 */
struct sctp {
	uint32_t tags[2];
	uint8_t inits[2];
	uint8_t failed, unused;
};

/**
 * struct sctp_context - A flow's state as sctp_track() reads and writes it
 * @sctp:		Tags
 * @state:		enum sctp_state
 * @seen_reply:		The flow has seen a packet in both directions
 * @established:	Set when the packet makes it so
 * @timeout:		Out, seconds: on VERDICT_ACCEPT the new timeout
 */
struct sctp_context {
	struct sctp *sctp;
	uint8_t state;
	bool seen_reply, established;
	uint32_t timeout;
};

bool sctp_opens(const struct packet *p);
bool sctp_begins(const struct packet *p);
bool sctp_is_answered(const struct packet *p);
uint32_t sctp_tag(const struct packet *p);
void sctp_start(struct sctp_context *c, const struct packet *p);
enum verdict sctp_track(struct sctp_context *c, const struct packet *p, int direction,
			const uint32_t *timeouts);

#endif
