/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_ICMP_H
#define PYLB_ICMP_H

#include "conntrack.h"
#include "packet.h"

#define ANSWER_MAX	576	/* bytes of the longest packet that is made here (RFC 1812) */

uint32_t related_flow(struct table *t, const struct packet *error, uint64_t now, int *direction,
		      struct packet *quoted);
void translate_error(struct packet *error, const struct flow *f, int direction,
		     struct packet *quoted);
uint32_t rejection(const struct packet *p, uint32_t source, uint8_t *to);
uint32_t icmp_error(uint8_t type, uint8_t code, uint32_t rest, const uint8_t *quoted,
		    uint32_t quoted_len, uint32_t src, uint32_t dst, uint8_t *to);
uint32_t sctp_abort(const struct tuple *t, uint32_t tag, uint8_t flags, uint8_t *to);
uint32_t tcp_segment(const struct tuple *t, uint32_t seq, uint32_t ack, uint8_t flags,
		     uint8_t *to);

#endif
