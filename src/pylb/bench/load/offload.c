/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Have a device's UDP super-packets cut in software as they are sent.
 *
 * A sender that uses UDP_SEGMENT pays for one system call and one pass through
 * the stack for many datagrams, so that it is not the bottleneck.  But a veth
 * pair would carry the super-packet whole to the receiver, and everything between
 * would be measured on one packet instead of many.  With tx-udp-segmentation off
 * on the sender's own device the kernel cuts it there (skb_gso_segment() in
 * validate_xmit_skb()), and the network sees every datagram by itself.
 */
#include "load.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char FEATURE[] = "tx-udp-segmentation";

/**
 * ethtool() - One SIOCETHTOOL call
 * @descriptor:	Any socket of the namespace
 * @device:	Name of the device
 * @data:	Request, and answer
 *
 * Return: success
 */
static bool ethtool(int descriptor, const char *device, void *data)
{
	struct ifreq request = { 0 };

	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	request.ifr_data = data;
	return ioctl(descriptor, SIOCETHTOOL, &request) == 0;
}

/**
 * feature_count() - How many feature bits this kernel has
 * @descriptor:	Any socket of the namespace
 * @device:	Name of the device
 *
 * Return: number of them, 0 when the kernel does not say
 */
static uint32_t feature_count(int descriptor, const char *device)
{
	struct ethtool_sset_info *info = calloc(1, sizeof(*info) + sizeof(info->data[0]));
	uint32_t count = 0;

	if (!info)
		return 0;
	info->cmd = ETHTOOL_GSSET_INFO;
	info->sset_mask = 1ULL << ETH_SS_FEATURES;
	if (ethtool(descriptor, device, info) && info->sset_mask)
		count = info->data[0];
	free(info);
	return count;
}

/**
 * feature_bit() - The number of the feature
 * @descriptor:	Any socket of the namespace
 * @device:	Name of the device
 * @count:	How many features there are
 *
 * Return: its bit, @count when there is none
 */
static uint32_t feature_bit(int descriptor, const char *device, uint32_t count)
{
	struct ethtool_gstrings *names;
	uint32_t bit = count;

	names = calloc(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
	if (!names)
		return count;
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = count;
	if (ethtool(descriptor, device, names))
		for (bit = 0; bit < count; bit++)
			if (!strncmp((char *)names->data + (size_t)bit * ETH_GSTRING_LEN, FEATURE,
				     ETH_GSTRING_LEN))
				break;
	free(names);
	return bit;
}

/**
 * segment_in_software() - Turn tx-udp-segmentation of a device off
 * @device:	Name of the device, of the calling process's network namespace
 *
 * Return: true when super-packets are cut before they leave it
 */
bool segment_in_software(const char *device)
{
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_sfeatures *change;
	uint32_t count, bit, blocks;
	bool done = false;

	if (descriptor < 0)
		return false;
	count = feature_count(descriptor, device);
	bit = count ? feature_bit(descriptor, device, count) : 0;
	if (bit < count) {
		blocks = (count + 31) / 32;
		change = calloc(1, sizeof(*change) + blocks * sizeof(change->features[0]));
		if (change) {
			change->cmd = ETHTOOL_SFEATURES;
			change->size = blocks;
			change->features[bit / 32].valid = 1U << bit % 32;
			done = ethtool(descriptor, device, change);
			free(change);
		}
	}
	close(descriptor);
	return done;
}
