/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters beyond 32 bits against an array that simply has 64.  Where more flows outgrow
 * their records than there is room for, the carry is lost, as wide.c says.
 *
 * Each operation takes 3 bytes: what, which flow, how much.
 */
#include "fuzz.h"

#include "wide.h"

#define FLOWS	64
#define ROOM	17	/* entries: one for 64 flows and 16 besides */

struct model {
	uint64_t packets[2], bytes[2];
	bool wide;
};

static bool carries(uint64_t counter, uint32_t more)
{
	return counter >> 32 != (counter + more) >> 32;
}

static void add(uint64_t *counter, uint32_t more, bool room)
{
	*counter = room ? *counter + more : (*counter & ~0xffffffffull) | (uint32_t)(*counter + more);
}

/**
 * count() - What wide_count() is to do
 * @m:		Flow
 * @used:	Flows that are wide; counted
 * @direction:	Direction
 * @packets:	How many
 * @bytes:	Their bytes
 */
static void count(struct model *m, int *used, int direction, uint32_t packets, uint32_t bytes)
{
	if (!m->wide && *used < ROOM &&
	    (carries(m->packets[direction], packets) || carries(m->bytes[direction], bytes))) {
		m->wide = true;
		++*used;
	}
	add(&m->packets[direction], packets, m->wide);
	add(&m->bytes[direction], bytes, m->wide);
}

static void compare(const struct wide_counters *w, const struct flow *flows,
		    const struct model *model)
{
	for (uint32_t slot = 0; slot < FLOWS; slot++) {
		const struct flow *f = &flows[slot];
		struct pylb_flow view = { 0 };

		for (int i = 0; i < 2; i++) {
			view.packets[i] = f->packets[i];
			view.bytes[i] = f->bytes[i];
		}
		if (f->wide)
			wide_read(w, slot, &view);
		PROMISE(f->wide == model[slot].wide);
		PROMISE(!memcmp(view.packets, model[slot].packets, sizeof(view.packets)));
		PROMISE(!memcmp(view.bytes, model[slot].bytes, sizeof(view.bytes)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct flow flows[FLOWS];
	static struct model model[FLOWS];
	struct wide_counters w;
	int used = 0;

	memset(flows, 0, sizeof(flows));
	memset(model, 0, sizeof(model));
	PROMISE(wide_init(&w, FLOWS));
	for (; size >= 3; data += 3, size -= 3) {
		uint32_t slot = data[1] % FLOWS, much = (uint32_t)data[2] << 24 | data[0];
		struct flow *f = &flows[slot];
		int direction = data[0] >> 7;

		if (data[0] & 7) {
			uint32_t packets = data[0] & 8 ? much : 1;

			wide_count(&w, f, slot, direction, packets, much);
			count(&model[slot], &used, direction, packets, much);
		} else {
			if (f->wide)
				wide_forget(&w, slot);
			used -= model[slot].wide;
			memset(f, 0, sizeof(*f));
			memset(&model[slot], 0, sizeof(*model));
		}
	}
	compare(&w, flows, model);
	wide_end(&w);
	return 0;
}
