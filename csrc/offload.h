/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_OFFLOAD_H
#define PYLB_OFFLOAD_H

#include "packet.h"

#define VIRTIO_HEADER	10	/* bytes before each packet of a TUN with IFF_VNET_HDR */
#define MOST_HEADERS	120	/* bytes of the longest IP and TCP headers */

int offload_read(struct packet *p, const uint8_t *header);
void offload_write(const struct packet *p, uint8_t *header);

/**
 * struct segmenter - Cuts a super-packet into the packets that it stands for
 * @p:		The super-packet
 * @headers:	Bytes of its headers
 * @index:	Which segment comes next
 * @offset:	Payload bytes that went before
 * @data:	Where its payload begins
 * @left:	Bytes there
 * @more:	Where the payload goes on
 */
struct segmenter {
	const struct packet *p;
	uint32_t headers, index, offset;
	const uint8_t *data;
	uint32_t left;
	const struct slice *more;
};

void segmenter_start(struct segmenter *s, const struct packet *p);
uint32_t segmenter_next(struct segmenter *s, uint8_t *headers, struct slice *payload, int *parts);
#define MOST_PARTS	4	/* buffers that one segment's payload may lie in */

#endif
