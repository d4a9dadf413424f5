/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a TUN says of a packet, and super-packets cut into segments.
 *
 * The first byte says whether checksums are mended, then come the virtio-net header and
 * the packet.
 */
#include "fuzz.h"

#include "offload.h"

static void cut(const struct packet *p)
{
	uint8_t headers[MOST_HEADERS];
	struct slice payload[MOST_PARTS];
	struct segmenter s;
	uint32_t len, sum = 0, segments = 0;
	int parts;

	segmenter_start(&s, p);
	while ((len = segmenter_next(&s, headers, payload, &parts))) {
		uint32_t size = 0;

		PROMISE(len == s.headers && len <= MOST_HEADERS && parts > 0);
		for (int i = 0; i < parts; i++) {
			volatile uint8_t last = payload[i].data[payload[i].len - 1];

			(void)last;
			size += payload[i].len;
		}
		PROMISE(size && size <= p->gso_size);
		PROMISE(get16(headers + 2) == len + size);
		PROMISE(pylb_ones_sum(headers, p->l4, 0) == 0xffff);
		sum += size;
		segments++;
	}
	PROMISE(sum == p->len - s.headers);
	PROMISE(segments == p->segments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t header[VIRTIO_HEADER];
	struct packet p;
	uint8_t *copy;

	if (size < 1 + VIRTIO_HEADER || size > IP_MAX)
		return 0;
	memcpy(header, data + 1, sizeof(header));
	size -= 1 + sizeof(header);
	copy = exact(data + 1 + sizeof(header), size);
	if (data[0] & 1)
		mend(copy, size);
	if (packet_parse(&p, copy, (uint32_t)size) == PACKET_OK) {
		struct tuple was = p.tuple;
		int reason = offload_read(&p, header);

		PROMISE(reason == PACKET_OK || reason == PYLB_DROP_BAD_OFFLOAD);
		PROMISE(tuple_same(&was, &p.tuple) && p.segments);
		if (reason == PACKET_OK && p.gso_size)
			cut(&p);
		if (reason == PACKET_OK && p.csum == CSUM_PARTIAL && !p.gso_size) {
			packet_complete(&p);
			p.csum = CSUM_COMPLETE;
			PROMISE(packet_checksum_ok(&p));
		}
		offload_write(&p, header);
	}
	free(copy);
	return 0;
}
