/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYLB_PLAN_H
#define PYLB_PLAN_H

#include "addresses.h"
#include "maglev.h"
#include "peers.h"

/**
 * struct turn - Where a frontend has come to; shared by the plans that have it
 * @next:	`rr`: new flows so far
 * @at:		`wrr`: the position chosen last, -1: none yet
 * @threshold:	`wrr`: the weight that a backend must have
 * @plans:	How many plans refer to it
 */
struct turn {
	uint64_t next;
	int64_t at;
	uint32_t threshold;
	uint32_t plans;
};

/**
 * struct frontend - A frontend as it is loaded
 * @key:	As it was given; @key.first is into the plan's own backends
 * @turn:	NULL if the scheduler takes no turns and never did
 * @tables:	Maglev's, of the active backends and of the others; NULL: not asked for
 */
struct frontend {
	struct pylb_frontend key;
	struct turn *turn;
	struct maglev *tables[2];
};

/**
 * struct pylb_plan - Everything that a node obeys; never altered once it is made
 * @node:	Of the node itself
 * @frontends:	In no order
 * @n_frontends:	Their number
 * @frontend_index:	Hash table by key: 0, or one more than the position in @frontends
 * @frontend_mask:	Its size less 1
 * @backends:	Of all frontends, one frontend's after the other's
 * @sources:	Prefixes of all frontends, one frontend's after the other's
 * @addresses:	What is known by its address alone
 * @peers:	The other nodes
 */
struct pylb_plan {
	struct pylb_node_config node;
	struct frontend *frontends;
	uint32_t n_frontends;
	uint32_t *frontend_index;
	uint32_t frontend_mask;
	struct pylb_backend *backends;
	struct pylb_prefix *sources;
	struct addresses addresses;
	struct peers peers;
};

const struct frontend *plan_frontend(const struct pylb_plan *plan, uint32_t address, uint16_t port,
				     uint8_t protocol);
const struct pylb_backend *plan_backends(const struct pylb_plan *plan, const struct frontend *f);
const struct pylb_prefix *plan_sources(const struct pylb_plan *plan, const struct frontend *f);
bool plan_is_vip(const struct pylb_plan *plan, uint32_t address);
bool plan_has_address(const struct pylb_plan *plan, uint32_t address);

/**
 * plan_node() - What a plan says of the node itself
 * @plan:	Plan
 *
 * Return: it, as long as the plan lives
 */
static inline const struct pylb_node_config *plan_node(const struct pylb_plan *plan)
{
	return &plan->node;
}

/**
 * plan_peer_at() - The peer at an underlay address
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: the peer, NULL if it is none's
 */
static inline const struct peer *plan_peer_at(const struct pylb_plan *plan, uint32_t address)
{
	return peers_at(&plan->peers, address);
}

/**
 * plan_peer_behind() - The peer whose pods' subnet holds an address
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: the peer, NULL if there is none
 */
static inline const struct peer *plan_peer_behind(const struct pylb_plan *plan, uint32_t address)
{
	return peers_behind(&plan->peers, address);
}

/**
 * plan_in_pods() - In the subnet of this node's pods?
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: true if so
 */
static inline bool plan_in_pods(const struct pylb_plan *plan, uint32_t address)
{
	const struct pylb_node_config *node = plan_node(plan);

	return (address & node->pod_mask) == node->pod_cidr;
}

/**
 * plan_in_services() - In the service CIDR?
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: true if so
 */
static inline bool plan_in_services(const struct pylb_plan *plan, uint32_t address)
{
	const struct pylb_node_config *node = plan_node(plan);

	return (address & node->service_mask) == node->service_cidr;
}

/**
 * plan_is_own() - The node's own address: InternalIP, bridge, 127/8?
 * @plan:	Plan
 * @address:	Any address
 *
 * Return: true if so
 */
static inline bool plan_is_own(const struct pylb_plan *plan, uint32_t address)
{
	const struct pylb_node_config *node = plan_node(plan);

	return address == node->node_ip || address == node->bridge_ip ||
	       (address & 0xff000000) == 0x7f000000;
}

#endif
