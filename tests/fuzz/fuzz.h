/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share: a failed promise ends the run, and checksums are mended.
 */
#ifndef PYLB_FUZZ_H
#define PYLB_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"

#define PROMISE(what)                                                       \
	do {                                                                \
		if (!(what)) {                                              \
			fprintf(stderr, "%s:%d: broken promise: %s\n",      \
				__FILE__, __LINE__, #what);                 \
			abort();                                            \
		}                                                           \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/**
 * exact() - A copy that ends where its bytes end, so that a read beyond is seen
 * @data:	Bytes
 * @size:	Their number
 *
 * Return: memory to be freed
 */
static inline uint8_t *exact(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	PROMISE(copy);
	if (size)
		memcpy(copy, data, size);
	return copy;
}

static inline void mend_transport(uint8_t *body, size_t len, uint32_t src, uint32_t dst,
				  uint8_t protocol)
{
	static const struct {
		uint8_t protocol, at, pseudo;
	} kinds[] = { { PROTO_TCP, 16, 1 }, { PROTO_UDP, 6, 1 }, { PROTO_ICMP, 2, 0 } };
	uint32_t crc;

	if (protocol == PROTO_SCTP && len >= SCTP_HEADER) {
		memset(body + SCTP_CRC_AT, 0, sizeof(crc));
		crc = pylb_crc32c(body, len, 0);
		for (size_t i = 0; i < sizeof(crc); i++)
			body[SCTP_CRC_AT + i] = (uint8_t)(crc >> 8 * i);
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		uint32_t start = 0;

		if (kinds[i].protocol != protocol || len < kinds[i].at + 2u)
			continue;
		if (protocol == PROTO_UDP && get16(body + 4) < len)
			len = get16(body + 4);
		if (len < kinds[i].at + 2u)
			return;
		if (kinds[i].pseudo)
			start = pylb_pseudo_sum(src, dst, protocol, (uint16_t)len);
		put16(body + kinds[i].at, 0);
		put16(body + kinds[i].at, (uint16_t)~pylb_ones_sum(body, len, start));
	}
}

/**
 * mend() - Make the checksums of a packet right, and its total length, as far as it goes
 * @data:	Packet
 * @len:	Its bytes
 *
 * A fuzzer finds no checksum by chance.
 */
static inline void mend(uint8_t *data, size_t len)
{
	size_t header = len ? (data[0] & 15) * 4u : 0;

	if (len < 20 || header < 20 || header > len || len > IP_MAX)
		return;
	put16(data + 2, (uint16_t)len);
	put16(data + 10, 0);
	put16(data + 10, (uint16_t)~pylb_ones_sum(data, header, 0));
	if (!(get16(data + 6) & (IP_MORE_FRAGMENTS | IP_OFFSET_MASK)))
		mend_transport(data + header, len - header, get32(data + 12), get32(data + 16),
			       data[9]);
}

#endif
