/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan has changed: does a flow still go where it should?
 *
 * Theory of Operation
 * ===================
 *
 * The C twin of src/pylb/dataplane/python/served.py.  Asked once for each flow and plan,
 * with its first packet after the change.  A flow remembers why it goes where it does, so
 * that nobody has to look for those concerned:
 *
 * - TCP that a frontend balanced stays until nothing has its backend's address any more.
 * - UDP moves as soon as its backend takes no new flows, with the client's next packet;
 *   what the backend still had to say is let through.
 * - A flow that nothing balanced is a Service's when its destination becomes a virtual
 *   address, for nobody else can be there.  Where the address is only redirected, what is
 *   open stays with whom it talks to, but for UDP, of which every packet is new.
 */
#include "served.h"

/**
 * choices_of() - Who may have a flow
 * @plan:	Plan
 * @f:		Flow
 * @choices:	Out
 *
 * Return: false if there is no frontend for it
 */
static bool choices_of(const struct pylb_plan *plan, const struct flow *f, struct choices *choices)
{
	const struct frontend *frontend = plan_frontend(plan, f->dst, f->dport, f->protocol);

	return frontend && eligible(plan, frontend, f->src, choices);
}

/**
 * is_offered() - Does a flow's backend take new ones like it?
 * @plan:	Plan
 * @f:		Balanced flow
 *
 * Return: true if so
 */
static bool is_offered(const struct pylb_plan *plan, const struct flow *f)
{
	struct choices choices;

	if (!choices_of(plan, f, &choices))
		return false;
	for (uint32_t i = 0; i < choices.count; i++)
		if (choices.first[i].address == f->reply_src &&
		    choices.first[i].port == f->reply_sport)
			return true;
	return false;
}

/**
 * is_taken() - Is where a flow goes a Service's since?
 * @plan:	Plan
 * @f:		Flow that nothing balanced
 *
 * Return: true if so
 */
static bool is_taken(const struct pylb_plan *plan, const struct flow *f)
{
	struct choices choices;

	return plan_is_vip(plan, f->dst) ||
	       (f->protocol == PROTO_UDP && choices_of(plan, f, &choices));
}

/**
 * still_right() - Does a flow go where it should?
 * @plan:	Plan
 * @generation:	Its number
 * @f:		Flow; if so it is of that generation then
 * @direction:	Of the packet in hand
 * @from_tun:	Where that came from
 *
 * Return: true if so
 */
bool still_right(const struct pylb_plan *plan, uint32_t generation, struct flow *f, int direction,
		 bool from_tun)
{
	bool right;

	if (f->balanced && f->protocol == PROTO_TCP)
		right = plan_has_address(plan, f->reply_src);
	else if (direction == REPLY)
		return true;
	else if (f->balanced)
		right = is_offered(plan, f);
	else
		right = !(from_tun && is_taken(plan, f));
	if (right)
		f->generation = generation & GENERATION_MASK;
	return right;
}
