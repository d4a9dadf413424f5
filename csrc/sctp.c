/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCTP association tracking: the kernel's state machine and its rules for tags.
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/sctp.py.  Source: Linux
 * net/netfilter/nf_conntrack_proto_sctp.c; RFC 9260 sections 3, 8.4 and 8.5.
 *
 * Each side chooses a tag that every packet to it carries: INIT and INIT ACK tell them.
 * Chunks act one after the other, and what the first ones did stays done when a later one
 * is found wrong.  One thing is ours: an INIT to an association that was answered and is
 * CLOSED begins a new flow, so that a Service balances it anew.
 *
 * A packet is walked twice: once to see whether its chunks can stand together, which is
 * also what makes the second walk safe, and once to let them act.
 */
#include "sctp.h"

#include <assert.h>

#define CHUNK_HEADER	4	/* bytes */
#define INIT_VALUE	16	/* bytes of INIT's fixed fields, the initiate tag first */
#define INVALID		SCTP_STATES

static_assert(sizeof(struct sctp) == 12, "small beside struct tcp, whose place it takes");

#define BIT(kind)	(1u << (kind))

/* Nothing may stand behind these, */
#define ALONE		(BIT(SCTP_INIT) | BIT(SCTP_INIT_ACK) | BIT(SCTP_SHUTDOWN_COMPLETE))
/* and these behind nothing (RFC 9260 sections 6.10 and 3.3.11). */
#define FIRST		(ALONE | BIT(SCTP_COOKIE_ECHO) | BIT(SCTP_COOKIE_ACK))
#define OWN_TAG_RULES	(BIT(SCTP_INIT) | BIT(SCTP_SHUTDOWN_COMPLETE) | BIT(SCTP_COOKIE_ECHO) | \
			 BIT(SCTP_ABORT) | BIT(SCTP_SHUTDOWN_ACK) | BIT(SCTP_HEARTBEAT) | \
			 BIT(SCTP_HEARTBEAT_ACK))
#define NEVER_OPEN	(BIT(SCTP_ABORT) | BIT(SCTP_SHUTDOWN_COMPLETE) | BIT(SCTP_COOKIE_ACK))
#define MOVES		(OWN_TAG_RULES | BIT(SCTP_INIT_ACK) | BIT(SCTP_SHUTDOWN) | \
			 BIT(SCTP_ERROR) | BIT(SCTP_COOKIE_ACK))
#define OTHER		BIT(31)	/* chunks of a kind that is not in enum sctp_chunk */

/* By direction, kind and state: the next state.  Rows that are not here change nothing. */
#define CL	SCTP_CLOSED
#define CW	SCTP_COOKIE_WAIT
#define CE	SCTP_COOKIE_ECHOED
#define ES	SCTP_ESTABLISHED
#define SS	SCTP_SHUTDOWN_SENT
#define SR	SCTP_SHUTDOWN_RECD
#define SA	SCTP_SHUTDOWN_ACK_SENT
#define HS	SCTP_HEARTBEAT_SENT
#define IV	INVALID
static const uint8_t transitions[2][SCTP_CHUNKS][SCTP_STATES] = {
	{
		/*		NO  CL  CW  CE  ES  SS  SR  SA  HS */
		[SCTP_INIT] =			{ CL, CL, CW, CE, ES, CL, CL, SA, CW },
		[SCTP_INIT_ACK] =		{ CL, CL, CW, CE, ES, SS, SR, SA, CL },
		[SCTP_ABORT] =			{ CL, CL, CL, CL, CL, CL, CL, CL, CL },
		[SCTP_SHUTDOWN] =		{ CL, CL, CW, CE, SS, SS, SR, SA, CL },
		[SCTP_SHUTDOWN_ACK] =		{ SA, CL, CW, CE, ES, SA, SA, SA, SA },
		[SCTP_ERROR] =			{ CL, CL, CW, CE, ES, SS, SR, SA, CL },
		[SCTP_COOKIE_ECHO] =		{ CL, CL, CE, CE, ES, SS, SR, SA, CL },
		[SCTP_COOKIE_ACK] =		{ CL, CL, CW, ES, ES, SS, SR, SA, CL },
		[SCTP_SHUTDOWN_COMPLETE] =	{ CL, CL, CW, CE, ES, SS, SR, CL, CL },
		[SCTP_HEARTBEAT] =		{ HS, CL, CW, CE, ES, SS, SR, SA, HS },
		[SCTP_HEARTBEAT_ACK] =		{ CL, CL, CW, CE, ES, SS, SR, SA, HS },
	},
	{
		/*		NO  CL  CW  CE  ES  SS  SR  SA  HS */
		[SCTP_INIT] =			{ IV, CL, CW, CE, ES, SS, SR, SA, IV },
		[SCTP_INIT_ACK] =		{ IV, CW, CW, CE, ES, SS, SR, SA, IV },
		[SCTP_ABORT] =			{ IV, CL, CL, CL, CL, CL, CL, CL, IV },
		[SCTP_SHUTDOWN] =		{ IV, CL, CW, CE, SR, SS, SR, SA, IV },
		[SCTP_SHUTDOWN_ACK] =		{ IV, CL, CW, CE, ES, SA, SA, SA, IV },
		[SCTP_ERROR] =			{ IV, CL, CW, CL, ES, SS, SR, SA, IV },
		[SCTP_COOKIE_ECHO] =		{ IV, CL, CE, CE, ES, SS, SR, SA, IV },
		[SCTP_COOKIE_ACK] =		{ IV, CL, CW, ES, ES, SS, SR, SA, IV },
		[SCTP_SHUTDOWN_COMPLETE] =	{ IV, CL, CW, CE, ES, SS, SR, CL, IV },
		[SCTP_HEARTBEAT] =		{ IV, CL, CW, CE, ES, SS, SR, SA, HS },
		[SCTP_HEARTBEAT_ACK] =		{ IV, CL, CW, CE, ES, SS, SR, SA, ES },
	},
};

/* By state: which of the timeouts is its own. */
static const uint8_t timeout_of[SCTP_STATES] = {
	[SCTP_NONE] = PYLB_SCTP_CLOSED,
	[SCTP_CLOSED] = PYLB_SCTP_CLOSED,
	[SCTP_COOKIE_WAIT] = PYLB_SCTP_COOKIE_WAIT,
	[SCTP_COOKIE_ECHOED] = PYLB_SCTP_COOKIE_ECHOED,
	[SCTP_ESTABLISHED] = PYLB_SCTP_ESTABLISHED,
	[SCTP_SHUTDOWN_SENT] = PYLB_SCTP_SHUTDOWN_SENT,
	[SCTP_SHUTDOWN_RECD] = PYLB_SCTP_SHUTDOWN_RECD,
	[SCTP_SHUTDOWN_ACK_SENT] = PYLB_SCTP_SHUTDOWN_ACK_SENT,
	[SCTP_HEARTBEAT_SENT] = PYLB_SCTP_HEARTBEAT_SENT,
};

/**
 * struct chunk - A chunk of a packet
 * @kind:	enum sctp_chunk, or another
 * @flags:	Its flags
 * @length:	What it says of its own length, bytes
 * @has_tag:	There is room for INIT's fixed fields
 * @tag:	Then, of INIT and INIT ACK, the initiate tag
 */
struct chunk {
	uint8_t kind, flags;
	uint16_t length;
	bool has_tag;
	uint32_t tag;
};

/**
 * next_chunk() - Walk over the chunks
 * @p:		SCTP packet
 * @at:		Where to go on, from the transport header; moved behind the chunk
 * @c:		Out: the chunk
 *
 * Return: false when there is no other; the walk does not move over one without length
 */
static bool next_chunk(const struct packet *p, uint32_t *at, struct chunk *c)
{
	uint32_t left = p->len - p->l4;
	const uint8_t *chunk = p->data + p->l4 + *at;

	if (*at + CHUNK_HEADER > left)
		return false;
	*c = (struct chunk){
		.kind = chunk[0],
		.flags = chunk[1],
		.length = get16(chunk + 2),
		.has_tag = *at + CHUNK_HEADER + INIT_VALUE <= left,
	};
	if (c->has_tag)
		c->tag = get32(chunk + CHUNK_HEADER);
	*at += (c->length + 3u) & ~3u;
	return true;
}

/**
 * bit_of() - A chunk's bit among the kinds
 * @c:	Chunk
 *
 * Return: the bit
 */
static uint32_t bit_of(const struct chunk *c)
{
	return c->kind < SCTP_CHUNKS ? BIT(c->kind) : OTHER;
}

/**
 * kinds_of() - What chunks a packet has
 * @p:	SCTP packet
 *
 * Return: their bits; 0 when there are none, or they cannot stand together, or cannot be
 */
static uint32_t kinds_of(const struct packet *p)
{
	uint32_t at = SCTP_HEADER, kinds = 0, bit;
	struct chunk c;

	while (next_chunk(p, &at, &c)) {
		bit = bit_of(&c);
		if (!c.length || (kinds && (bit & FIRST || kinds & ALONE)))
			return 0;
		kinds |= bit;
	}
	return kinds;
}

/**
 * first_chunk() - The chunk that a packet begins with
 * @p:	SCTP packet with a chunk
 *
 * Return: the chunk
 */
static struct chunk first_chunk(const struct packet *p)
{
	uint32_t at = SCTP_HEADER;
	struct chunk c = { 0 };

	next_chunk(p, &at, &c);
	return c;
}

/**
 * sctp_tag() - The verification tag of a packet
 * @p:	SCTP packet
 *
 * Return: the tag
 */
uint32_t sctp_tag(const struct packet *p)
{
	return get32(p->data + p->l4 + 4);
}

/**
 * sctp_begins() - Does a packet ask for a new association?
 * @p:	SCTP packet
 *
 * Return: true if it is an INIT
 */
bool sctp_begins(const struct packet *p)
{
	return kinds_of(p) & BIT(SCTP_INIT);
}

/**
 * sctp_is_answered() - May a packet be answered with an ABORT (RFC 9260 section 8.4)?
 * @p:	SCTP packet
 *
 * Return: true if so
 */
bool sctp_is_answered(const struct packet *p)
{
	uint32_t kinds = kinds_of(p);

	return kinds && !(kinds & (BIT(SCTP_ABORT) | BIT(SCTP_SHUTDOWN_COMPLETE)));
}

/**
 * sctp_start() - Start with a flow's first packet
 * @c:	Context of a new flow
 * @p:	The packet, for which sctp_opens()
 */
void sctp_start(struct sctp_context *c, const struct packet *p)
{
	uint32_t at = SCTP_HEADER;
	struct chunk chunk;

	*c->sctp = (struct sctp){ 0 };
	c->state = SCTP_NONE;
	while (next_chunk(p, &at, &chunk)) {
		if (chunk.kind == SCTP_INIT)
			c->sctp->tags[REPLY] = chunk.tag;
		else if (chunk.kind == SCTP_HEARTBEAT || chunk.kind == SCTP_HEARTBEAT_ACK)
			c->sctp->tags[ORIGINAL] = sctp_tag(p);
		else
			c->sctp->tags[REPLY] = sctp_tag(p);
	}
}

/**
 * sctp_opens() - May a packet without a flow start one?
 * @p:	SCTP packet
 *
 * An INIT does, and a HEARTBEAT.  So does what an endpoint without an association answers
 * to (RFC 9260 section 8.4).  DATA does not: an association is not picked up midstream.
 *
 * Return: true if so
 */
bool sctp_opens(const struct packet *p)
{
	static const uint32_t no_timeouts[PYLB_TIMEOUTS];
	uint32_t kinds = kinds_of(p);
	struct sctp sctp;
	struct sctp_context c = { .sctp = &sctp };

	if (!kinds || kinds & NEVER_OPEN || kinds & ~MOVES)
		return false;
	if (kinds & BIT(SCTP_INIT) && (sctp_tag(p) || !first_chunk(p).has_tag))
		return false;
	sctp_start(&c, p);
	return sctp_track(&c, p, ORIGINAL, no_timeouts) != VERDICT_INVALID;
}

/* Is the tag right for a chunk? */
enum judgement { WRONG, PASSES, RIGHT };

/**
 * judge() - Is the tag right for a chunk (RFC 9260 section 8.5.1)?
 * @s:		Tags
 * @tag:	The packet's
 * @c:		Chunk
 * @direction:	The packet's
 * @strict:	Heartbeats with a wrong tag are refused
 *
 * Return: RIGHT, WRONG, or PASSES: a heartbeat that is let through and changes nothing
 */
static enum judgement judge(struct sctp *s, uint32_t tag, const struct chunk *c, int direction,
			    bool strict)
{
	uint32_t expected = s->tags[direction], peers = s->tags[!direction];
	uint8_t failed = direction == REPLY ? SCTP_FAILED_REPLY : SCTP_FAILED_ORIGINAL;

	switch (c->kind) {
	case SCTP_INIT:
		return tag ? WRONG : RIGHT;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN_COMPLETE:
		return tag == (c->flags & SCTP_REFLECTED ? peers : expected) ? RIGHT : WRONG;
	case SCTP_COOKIE_ECHO:
		return tag == expected ? RIGHT : WRONG;
	case SCTP_COOKIE_ACK:
		s->inits[ORIGINAL] = s->inits[REPLY] = 0;
		return RIGHT;
	case SCTP_HEARTBEAT:
	case SCTP_HEARTBEAT_ACK:
		break;
	default:
		return RIGHT;
	}
	if (!expected) {
		s->tags[direction] = tag;
		return RIGHT;
	}
	if (tag == expected) {
		s->failed = SCTP_FAILED_NOT;
		return RIGHT;
	}
	if (strict)
		return WRONG;
	if (c->kind == SCTP_HEARTBEAT) {
		s->failed = failed;
		return PASSES;
	}
	if (s->failed == SCTP_FAILED_NOT || s->failed == failed)
		return WRONG;
	s->failed = SCTP_FAILED_NOT;
	s->tags[direction] = tag;
	s->tags[!direction] = 0;
	return RIGHT;
}

/**
 * learn() - Note the tag that an INIT or INIT ACK tells
 * @s:		Tags
 * @c:		Chunk
 * @direction:	The packet's
 *
 * Return: false when it may not be
 */
static bool learn(struct sctp *s, const struct chunk *c, int direction)
{
	uint32_t known = s->tags[!direction];

	if (c->kind != SCTP_INIT && c->kind != SCTP_INIT_ACK)
		return true;
	if (!c->has_tag)
		return false;
	if (c->kind == SCTP_INIT) {
		if (s->inits[ORIGINAL] && s->inits[REPLY])
			s->inits[!direction] = 0;
		s->inits[direction] = 1;
	} else {
		if (!s->inits[!direction] && known && known != c->tag)
			return false;
		if (s->inits[ORIGINAL] && s->inits[REPLY] && known != c->tag)
			return false;
	}
	s->tags[!direction] = c->tag;
	return true;
}

/**
 * sctp_track() - Let a packet act on its flow's state
 * @c:		Context
 * @p:		SCTP packet
 * @direction:	Its direction
 * @timeouts:	By enum pylb_timeout, seconds
 *
 * Return: VERDICT_ACCEPT; VERDICT_KEEP: accepted, the timeout stays; VERDICT_REOPEN: it
 * begins a new flow; VERDICT_INVALID, and the state may have changed nevertheless
 */
enum verdict sctp_track(struct sctp_context *c, const struct packet *p, int direction,
			const uint32_t *timeouts)
{
	uint32_t kinds = kinds_of(p), tag = sctp_tag(p), at = SCTP_HEADER;
	bool keep = false;
	struct chunk chunk;

	if (!kinds)
		return VERDICT_INVALID;
	if (c->state == SCTP_CLOSED && c->seen_reply && direction == ORIGINAL &&
	    kinds & BIT(SCTP_INIT) && !tag && first_chunk(p).has_tag)
		return VERDICT_REOPEN;
	if (!(kinds & OWN_TAG_RULES) && tag != c->sctp->tags[direction])
		return VERDICT_INVALID;
	while (next_chunk(p, &at, &chunk)) {
		bool strict = keep || kinds & BIT(SCTP_DATA);
		uint8_t before = c->state, after = before;

		switch (judge(c->sctp, tag, &chunk, direction, strict)) {
		case WRONG:
			return VERDICT_INVALID;
		case PASSES:
			keep = true;
			continue;
		case RIGHT:
			break;
		}
		if (bit_of(&chunk) & MOVES)
			after = transitions[direction][chunk.kind][before];
		if (after == INVALID || !learn(c->sctp, &chunk, direction))
			return VERDICT_INVALID;
		/* A retransmitted INIT must not keep an unanswered flow alive. */
		if (chunk.kind == SCTP_INIT && before == SCTP_CLOSED && after == SCTP_CLOSED)
			keep = true;
		if (after == SCTP_ESTABLISHED && before != SCTP_ESTABLISHED)
			c->established = true;
		c->state = after;
	}
	c->timeout = timeouts[timeout_of[c->state]];
	return keep ? VERDICT_KEEP : VERDICT_ACCEPT;
}
