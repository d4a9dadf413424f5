/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out: what the datapath has put out, to the TUN and to the overlay's sockets.
 *
 * Theory of Operation
 * ===================
 *
 * A super-packet goes to a peer as one UDP_SEGMENT send whose buffers are [headers,
 * slice of the payload] for each segment, so that no byte is copied here.  To the TUN it
 * goes as one write with a virtio-net header that says how to cut it.  Where a descriptor
 * does not take that, it is cut here, one packet a call.
 */
#define _GNU_SOURCE
#include "pump.h"

#include <errno.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "overlay.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103
#endif

/**
 * count_moved() - Count packets, or that the system refused them
 * @pump:	Pump
 * @what:	enum pylb_moved
 * @packets:	Their number, on the wire
 * @done:	What the call gave
 */
void count_moved(struct pylb_pump *pump, enum pylb_moved what, uint32_t packets, ssize_t done)
{
	if (done >= 0)
		pump->moved[what] += packets;
	else
		pump->refused[what][errno < ERRNOS ? errno : 0] += packets;
}

/* To the overlay */

/**
 * send_to() - One sendmsg()
 * @pump:		Pump
 * @s:		Peer and socket
 * @iov:		Where the bytes lie
 * @count:	Number of @iov
 * @size:		Bytes of each datagram but the last, 0: it is one
 *
 * Return: what sendmsg() gives
 */
static ssize_t send_to(struct pylb_pump *pump, const struct send *s, struct iovec *iov,
		       size_t count, uint32_t size)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(pump->port),
		.sin_addr.s_addr = htonl(s->peer),
	};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(uint16_t))];
	} control;
	struct msghdr message = {
		.msg_name = &to,
		.msg_namelen = sizeof(to),
		.msg_iov = iov,
		.msg_iovlen = count,
	};

	if (size) {
		uint16_t segment = (uint16_t)size;

		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_UDP;
		control.header.cmsg_type = UDP_SEGMENT;
		control.header.cmsg_len = CMSG_LEN(sizeof(segment));
		memcpy(CMSG_DATA(&control.header), &segment, sizeof(segment));
	}
	return sendmsg(pump->senders[s->sender], &message, 0);
}

/**
 * send_singly() - Send what would not go in one piece
 * @pump:	Pump
 * @s:		Datagrams
 */
static void send_singly(struct pylb_pump *pump, struct send *s)
{
	size_t first = 0;
	uint32_t left = s->bytes;

	while (left) {
		uint32_t size = left < s->size ? left : s->size, bytes = 0;
		size_t end = first;

		while (bytes < size)
			bytes += (uint32_t)s->iov[end++].iov_len;
		count_moved(pump, PYLB_SEND_OVERLAY, 1,
			    send_to(pump, s, &s->iov[first], end - first, 0));
		first = end;
		left -= size;
	}
}

/**
 * transmit_send() - Send datagrams that were gathered (struct sends)
 * @context:	struct pylb_pump
 * @s:		Datagrams
 */
void transmit_send(void *context, struct send *s)
{
	struct pylb_pump *pump = context;
	ssize_t done = send_to(pump, s, s->iov, s->count, s->segments > 1 ? s->size : 0);

	if (done < 0 && s->segments > 1 &&
	    (errno == EINVAL || errno == EIO || errno == EMSGSIZE || errno == EOPNOTSUPP)) {
		/* Without checksum offload on the way out, or segments above the MTU. */
		if (errno == EIO || errno == EOPNOTSUPP)
			pump->sends.most = 1;
		send_singly(pump, s);
		return;
	}
	count_moved(pump, PYLB_SEND_OVERLAY, s->segments, done);
}

/**
 * send_segments() - Send a super-packet to a peer, segment by segment in few sends
 * @pump:		Pump
 * @out:		The super-packet
 * @sender:	Socket
 */
static void send_segments(struct pylb_pump *pump, const struct out *out, uint32_t sender)
{
	const uint8_t *around;
	uint32_t size = overlay_headers(pump->dp->plan, out->peer, &around);
	struct slice payload[MOST_PARTS];
	struct segmenter s;
	int parts;

	segmenter_start(&s, &out->packet);
	for (;;) {
		struct iovec iov[1 + MOST_PARTS];
		uint8_t *headers = pump->headers + pump->used;
		uint32_t len, total;

		if (pump->used + VXLAN_HEADERS + MOST_HEADERS > HEADER_BUFFER) {
			sends_flush(&pump->sends);
			pump->used = 0;
			continue;
		}
		len = segmenter_next(&s, headers + size, payload, &parts);
		if (!len)
			return;
		memcpy(headers, around, size);
		total = size + len;
		iov[0] = (struct iovec){ headers, total };
		for (int i = 0; i < parts; i++) {
			iov[1 + i] = (struct iovec){ (void *)payload[i].data, payload[i].len };
			total += payload[i].len;
		}
		pump->used += (size + len + 7) & ~7u;
		sends_add(&pump->sends, out->peer->address, sender, iov, (size_t)parts + 1, total);
	}
}

/**
 * send_overlay() - Send a packet to a peer
 * @pump:		Pump
 * @out:		The packet
 */
static void send_overlay(struct pylb_pump *pump, struct out *out)
{
	struct packet *p = &out->packet;
	uint32_t sender, size;
	const uint8_t *around;
	struct iovec iov;

	if (!pump->n_senders) {
		errno = ENOTCONN;
		count_moved(pump, PYLB_SEND_OVERLAY, p->segments, -1);
		return;
	}
	sender = out->spread % (uint32_t)pump->n_senders;
	if (p->gso_size) {
		send_segments(pump, out, sender);
		return;
	}
	packet_complete(p);
	size = overlay_headers(pump->dp->plan, out->peer, &around);
	iov.iov_base = memcpy(p->data - size, around, size);
	iov.iov_len = size + p->len;
	sends_add(&pump->sends, out->peer->address, sender, &iov, 1, size + p->len);
}

/* To the TUN */

/**
 * write_segments() - Write a super-packet to a TUN that takes none, one segment a call
 * @pump:		Pump
 * @p:		The super-packet
 */
static void write_segments(struct pylb_pump *pump, const struct packet *p)
{
	uint8_t headers[VIRTIO_HEADER + MOST_HEADERS] = { 0 };
	uint8_t *first = headers + VIRTIO_HEADER;
	struct slice payload[MOST_PARTS];
	struct iovec iov[1 + MOST_PARTS];
	struct segmenter s;
	uint32_t len;
	int parts;

	segmenter_start(&s, p);
	while ((len = segmenter_next(&s, first, payload, &parts))) {
		if (pump->offloads.header)
			iov[0] = (struct iovec){ headers, VIRTIO_HEADER + len };
		else
			iov[0] = (struct iovec){ first, len };
		for (int i = 0; i < parts; i++)
			iov[1 + i] = (struct iovec){ (void *)payload[i].data, payload[i].len };
		count_moved(pump, PYLB_WRITE_TUN, 1, writev(pump->tun, iov, parts + 1));
	}
}

/**
 * write_tun() - Write a packet to the TUN
 * @pump:		Pump
 * @p:		Packet, HEADROOM bytes free before it
 */
static void write_tun(struct pylb_pump *pump, struct packet *p)
{
	struct iovec iov[1 + LONGEST_RUN];
	uint8_t *start = p->data;
	uint32_t here = p->here;
	int count = 1;

	if (pump->tun < 0) {
		errno = ENOTCONN;
		count_moved(pump, PYLB_WRITE_TUN, p->segments, -1);
		return;
	}
	if (p->gso_size && !(p->tuple.protocol == PROTO_TCP ? pump->offloads.tso :
							      pump->offloads.uso)) {
		write_segments(pump, p);
		return;
	}
	if (pump->offloads.header) {
		start -= VIRTIO_HEADER;
		here += VIRTIO_HEADER;
		offload_write(p, start);
	} else {
		packet_complete(p);
	}
	if (!p->more) {
		count_moved(pump, PYLB_WRITE_TUN, p->segments, write(pump->tun, start, here));
		return;
	}
	iov[0] = (struct iovec){ start, here };
	for (const struct slice *s = p->more; s; s = s->next)
		iov[count++] = (struct iovec){ (void *)s->data, s->len };
	count_moved(pump, PYLB_WRITE_TUN, p->segments, writev(pump->tun, iov, count));
}

/**
 * transmit() - Send all that the datapath has put out
 * @pump:	Pump
 */
void transmit(struct pylb_pump *pump)
{
	struct pylb_dataplane *dp = pump->dp;

	for (size_t i = 0; i < dp->n_outs; i++) {
		if (dp->outs[i].peer)
			send_overlay(pump, &dp->outs[i]);
		else
			write_tun(pump, &dp->outs[i].packet);
	}
	sends_flush(&pump->sends);
	pump->used = 0;
	datapath_clear(dp);
}
