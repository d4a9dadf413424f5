/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves packets between descriptors and the datapath.  Only this file and transmit.c make
 * system calls.
 *
 * Theory of Operation
 * ===================
 *
 * One thread, one loop.  It sleeps in epoll_wait(); what can be read is read, up to a
 * batch, put together (gro.c), handled (datapath.c) and sent, and only then is more
 * read.  A batch ends when there is nothing left to read, so nothing is ever held back
 * waiting for more, and a busy descriptor makes batches large by itself.
 *
 * Packets are not copied here.  A packet is read with room before it, its headers are
 * rewritten in place, and it is written from where it lies: a super-packet to a peer as
 * one UDP_SEGMENT send, segments that came in together as one write (transmit.c).
 *
 * The dataplane's lock is held for the length of a batch, so that a plan is swapped and
 * sockets are exchanged between batches.  What the system does not take is counted under
 * its errno and forgotten, as a full queue of a network card would.
 */
#define _GNU_SOURCE
#include "pump.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "overlay.h"
#include "placement.h"

#ifndef UDP_GRO
#define UDP_GRO		104
#endif

#define SHORTEST_TICK	50000000ull	/* nanoseconds between advances: no sooner... */
#define LONGEST_TICK	SECOND		/* ...no later */
#define ADVANCE		4096		/* flows that one advance may end */

enum { EVENT_TUN, EVENT_OVERLAY, EVENT_STOP };

/**
 * clock_now() - The time
 *
 * Return: nanoseconds, CLOCK_MONOTONIC
 */
static uint64_t clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/**
 * transmit_batch() - transmit(), as batch_handle() calls it
 * @pump:		struct pylb_pump
 */
static void transmit_batch(void *pump)
{
	transmit(pump);
}

/**
 * handle_batch() - Handle and send what has been received
 * @pump:		Pump
 * @now:		Nanoseconds
 */
static void handle_batch(struct pylb_pump *pump, uint64_t now)
{
	batch_handle(pump->dp, &pump->gro, now, transmit_batch, pump);
}

/**
 * rest_tun() - Leave a TUN that cannot be read alone until the next tick
 * @pump:		Pump
 */
static void rest_tun(struct pylb_pump *pump)
{
	/* Nothing was read (EBADFD: the device is gone), so epoll would come straight back. */
	epoll_ctl(pump->epoll, EPOLL_CTL_DEL, pump->tun, NULL);
	pump->resting = true;
}

/**
 * receive_from_tun() - Take a packet from the TUN into the batch
 * @pump:		Pump
 * @data:		The packet, behind its virtio-net header
 * @len:		Its bytes
 */
static void receive_from_tun(struct pylb_pump *pump, uint8_t *data, uint32_t len)
{
	struct pylb_dataplane *dp = pump->dp;
	struct pylb_packet origin = { .data = data, .len = len, .kind = PYLB_TUN };
	uint32_t packets = 1;
	struct packet p;
	int reason = PYLB_DROP_NO_PLAN;

	if (dp->plan)
		reason = packet_parse(&p, data, len);
	if (reason == PACKET_OK && pump->offloads.header) {
		reason = offload_read(&p, data - VIRTIO_HEADER);
		packets = p.segments;
	}
	dp->counts[PYLB_COUNT_TUN_IN] += packets;
	pump->moved[PYLB_READ_TUN] += packets;
	if (reason == PACKET_OK)
		gro_add(&pump->gro, dp->table, &p, &origin, true, true);
	else
		datapath_drop(dp, reason, packets, &origin);
}

/**
 * tun_readable() - Read a batch from the TUN and handle it
 * @pump:		Pump
 * @now:		Nanoseconds
 */
static void tun_readable(struct pylb_pump *pump, uint64_t now)
{
	const size_t header = pump->offloads.header ? VIRTIO_HEADER : 0;
	size_t used = 0;
	int most = pump->lone && now - pump->last_read > LONE_APART ? 1 : TUN_PACKETS, i;

	for (i = 0; i < most && used < TUN_BYTES && gro_has_room(&pump->gro); i++) {
		uint8_t *data = pump->tun_buffer + used + HEADROOM;
		ssize_t got = read(pump->tun, data - header, header + IP_MAX);

		if (got < 0) {
			if (errno != EAGAIN && errno != EINTR) {
				count_moved(pump, PYLB_READ_TUN, 1, -1);
				rest_tun(pump);
			}
			break;
		}
		if ((size_t)got < header) {
			pump->dp->counts[PYLB_COUNT_TUN_IN]++;
			pump->dp->drops[PYLB_DROP_BAD_OFFLOAD]++;
			continue;
		}
		receive_from_tun(pump, data, (uint32_t)((size_t)got - header));
		used += (HEADROOM + (size_t)got + 15) & ~(size_t)15;
	}
	/* If more is there after all, epoll says so at once, and the next batch is a whole one. */
	pump->lone = i <= 1;
	pump->last_read = now;
	handle_batch(pump, now);
}

/**
 * receive_datagram() - Take a datagram from the overlay into the batch
 * @pump:		Pump
 * @data:		UDP payload
 * @len:		Its bytes
 * @sender:	Address that it came from
 */
static void receive_datagram(struct pylb_pump *pump, uint8_t *data, uint32_t len, uint32_t sender)
{
	struct pylb_dataplane *dp = pump->dp;
	struct pylb_packet origin = {
		.data = data, .len = len, .kind = PYLB_OVERLAY, .port = sender
	};
	struct packet p;
	int reason = PYLB_DROP_NO_PLAN;

	dp->counts[PYLB_COUNT_OVERLAY_IN]++;
	if (dp->plan)
		reason = overlay_open(dp->plan, sender, data, len, &p);
	if (reason == PACKET_OK)
		gro_add(&pump->gro, dp->table, &p, &origin, pump->offloads.tso,
			pump->offloads.uso);
	else
		datapath_drop(dp, reason, 1, &origin);
}

/**
 * segment_size() - How the kernel's receive offload put a message together
 * @message:	Message received
 * @len:	Its bytes
 *
 * Return: bytes of each datagram in it but the last
 */
static uint32_t segment_size(struct msghdr *message, uint32_t len)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			int size;

			memcpy(&size, CMSG_DATA(c), sizeof(size));
			return size > 0 ? (uint32_t)size : len;
		}
	}
	return len;
}

/**
 * overlay_readable() - Receive a batch from the overlay and handle it
 * @pump:		Pump
 * @now:		Nanoseconds
 */
static void overlay_readable(struct pylb_pump *pump, uint64_t now)
{
	struct mmsghdr messages[DATAGRAMS];
	struct sockaddr_in from[DATAGRAMS];
	struct iovec iov[DATAGRAMS];
	char control[DATAGRAMS][CMSG_SPACE(sizeof(int))];
	int count;

	for (int i = 0; i < DATAGRAMS; i++) {
		iov[i] = (struct iovec){ pump->datagrams[i] + HEADROOM, DATAGRAM_BUFFER - HEADROOM };
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &from[i],
			.msg_namelen = sizeof(from[i]),
			.msg_iov = &iov[i],
			.msg_iovlen = 1,
			.msg_control = control[i],
			.msg_controllen = sizeof(control[i]),
		};
	}
	count = recvmmsg(pump->receiver, messages, DATAGRAMS, MSG_DONTWAIT, NULL);
	if (count < 0) {
		/* An ICMP error for something sent (a peer's daemon is down) is taken off so. */
		if (errno != EAGAIN && errno != EINTR)
			count_moved(pump, PYLB_RECEIVE_OVERLAY, 1, -1);
		return;
	}
	for (int i = 0; i < count; i++) {
		uint8_t *data = pump->datagrams[i] + HEADROOM;
		uint32_t left = messages[i].msg_len;
		uint32_t size = segment_size(&messages[i].msg_hdr, left);
		uint32_t sender = ntohl(from[i].sin_addr.s_addr);

		do {
			uint32_t len = left < size ? left : size;

			if (!gro_has_room(&pump->gro))
				handle_batch(pump, now);
			pump->moved[PYLB_RECEIVE_OVERLAY]++;
			receive_datagram(pump, data, len, sender);
			data += len;
			left -= len;
		} while (left);
	}
	handle_batch(pump, now);
}

/* The loop */

/**
 * watch() - Have the loop told when a descriptor can be read
 * @pump:		Pump
 * @descriptor:	Descriptor
 * @what:		EVENT_*
 */
static void watch(struct pylb_pump *pump, int descriptor, uint32_t what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = what };

	epoll_ctl(pump->epoll, EPOLL_CTL_ADD, descriptor, &event);
}

/**
 * tick() - Let the dataplane's time pass
 * @pump:	Pump
 * @now:	Nanoseconds
 *
 * Return: when to come back, nanoseconds
 */
static uint64_t tick(struct pylb_pump *pump, uint64_t now)
{
	struct pylb_dataplane *dp = pump->dp;
	uint64_t next, fragments;

	if (pump->resting && pump->tun >= 0)
		watch(pump, pump->tun, EVENT_TUN);
	pump->resting = false;
	datapath_expire(dp, now);
	if (table_advance(dp->table, now, ADVANCE)) {
		/* The rest soon; with events that nobody takes, not at once. */
		return now + SHORTEST_TICK / 50;
	}
	next = table_next_deadline(dp->table);
	fragments = reassembler_next_deadline(dp->reassembler);
	if (fragments < next)
		next = fragments;
	if (next > now + LONGEST_TICK)
		return now + LONGEST_TICK;
	return next < now + SHORTEST_TICK ? now + SHORTEST_TICK : next;
}

/**
 * tell_of_events() - Tell the owner that there are events, if there are
 * @pump:		Pump
 */
static void tell_of_events(struct pylb_pump *pump)
{
	size_t count;

	table_events(pump->dp->table, &count);
	if (count)
		eventfd_write(pump->notify, 1);
}

/**
 * pylb_pump_run() - Move packets until pylb_pump_stop()
 * @pump:	Pump
 *
 * Return: 0, or an errno
 */
int pylb_pump_run(struct pylb_pump *pump)
{
	uint64_t now = clock_now(), next = now;
	struct placement placement;

	placement_begin(&placement, now);
	for (;;) {
		struct epoll_event events[3];
		int wait = next > now ? (int)((next - now + 999999) / 1000000) : 0;
		int count = epoll_wait(pump->epoll, events, 3, wait);

		if (count < 0 && errno != EINTR) {
			int failed = errno;

			placement_end(&placement);
			return failed;
		}
		dataplane_lock(pump->dp);
		now = clock_now();
		for (int i = 0; i < count; i++) {
			if (events[i].data.u32 == EVENT_TUN && pump->tun >= 0) {
				tun_readable(pump, now);
			} else if (events[i].data.u32 == EVENT_OVERLAY && pump->receiver >= 0) {
				overlay_readable(pump, now);
			} else if (events[i].data.u32 == EVENT_STOP) {
				dataplane_unlock(pump->dp);
				placement_end(&placement);
				return 0;
			}
		}
		if (now >= next)
			next = tick(pump, now);
		tell_of_events(pump);
		dataplane_unlock(pump->dp);
		placement_look(&placement, now);
	}
}

/**
 * pylb_pump_stop() - End pylb_pump_run(), also one that is yet to begin
 * @pump:	Pump
 */
void pylb_pump_stop(struct pylb_pump *pump)
{
	eventfd_write(pump->stop, 1);
}

/**
 * pylb_pump_new() - Make a pump
 * @dp:		Dataplane; outlives the pump
 * @notify:	eventfd that is written to when there are events; the caller's
 *
 * Return: a pump without descriptors; NULL, with errno, when it cannot be had
 */
struct pylb_pump *pylb_pump_new(struct pylb_dataplane *dp, int notify)
{
	struct pylb_pump *pump = calloc(1, sizeof(*pump));

	if (!pump)
		return NULL;
	pump->dp = dp;
	pump->notify = notify;
	pump->tun = pump->receiver = -1;
	pump->sends.most = 1;
	pump->sends.flush = transmit_send;
	pump->sends.context = pump;
	pump->epoll = epoll_create1(EPOLL_CLOEXEC);
	pump->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pump->epoll < 0 || pump->stop < 0) {
		pylb_pump_free(pump);
		return NULL;
	}
	watch(pump, pump->stop, EVENT_STOP);
	return pump;
}

/**
 * pylb_pump_free() - End a pump that is not running
 * @pump:	Pump, or NULL
 */
void pylb_pump_free(struct pylb_pump *pump)
{
	if (!pump)
		return;
	if (pump->epoll >= 0)
		close(pump->epoll);
	if (pump->stop >= 0)
		close(pump->stop);
	free(pump);
}

/**
 * exchange() - Watch one descriptor in place of another
 * @pump:	Pump
 * @place:	Where it is kept
 * @descriptor:	The new one, -1: none
 * @what:	EVENT_*
 *
 * Return: 0, or an errno
 */
static int exchange(struct pylb_pump *pump, int *place, int descriptor, uint32_t what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = what };

	if (*place >= 0)
		epoll_ctl(pump->epoll, EPOLL_CTL_DEL, *place, NULL);
	*place = descriptor;
	if (descriptor >= 0 && epoll_ctl(pump->epoll, EPOLL_CTL_ADD, descriptor, &event) < 0)
		return errno;
	return 0;
}

/**
 * pylb_pump_use_tun() - Read from and write to a TUN from now on
 * @pump:	Pump
 * @tun:	Its descriptor, non-blocking, the caller's; -1: none
 * @offloads:	What it was found to take
 *
 * Return: 0, or an errno
 */
int pylb_pump_use_tun(struct pylb_pump *pump, int tun, const struct pylb_offloads *offloads)
{
	int done;

	dataplane_lock(pump->dp);
	pump->offloads.header = offloads->header;
	pump->offloads.tso = offloads->tso;
	pump->offloads.uso = offloads->uso;
	done = exchange(pump, &pump->tun, tun, EVENT_TUN);
	dataplane_unlock(pump->dp);
	return done;
}

/**
 * pylb_pump_use_overlay() - Receive and send the overlay's datagrams so from now on
 * @pump:	Pump
 * @receiver:	Socket to receive on, -1: none
 * @senders:	Sockets to send from, the caller's like @receiver
 * @count:	Their number, at most MOST_SENDS are used
 * @port:	Where peers receive
 * @offloads:	What the sockets were found to do
 *
 * Return: 0, or an errno
 */
int pylb_pump_use_overlay(struct pylb_pump *pump, int receiver, const int *senders, size_t count,
			  uint16_t port, const struct pylb_offloads *offloads)
{
	int done;

	dataplane_lock(pump->dp);
	pump->n_senders = count < MOST_SENDS ? count : MOST_SENDS;
	for (size_t i = 0; i < pump->n_senders; i++)
		pump->senders[i] = senders[i];
	pump->port = port;
	pump->sends.most = offloads->udp_segment ? MOST_SEGMENTS : 1;
	pump->offloads.udp_segment = offloads->udp_segment;
	pump->offloads.udp_gro = offloads->udp_gro;
	done = exchange(pump, &pump->receiver, receiver, EVENT_OVERLAY);
	dataplane_unlock(pump->dp);
	return done;
}

/**
 * pylb_pump_counters() - What was moved, and what the system refused
 * @pump:	Pump
 * @moved:	Out: 4 counts, by enum pylb_moved
 * @refused:	Out: 4 times ERRNOS counts
 */
void pylb_pump_counters(struct pylb_pump *pump, uint64_t *moved, uint64_t *refused)
{
	dataplane_lock(pump->dp);
	memcpy(moved, pump->moved, sizeof(pump->moved));
	memcpy(refused, pump->refused, sizeof(pump->refused));
	dataplane_unlock(pump->dp);
}
