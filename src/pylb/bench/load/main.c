/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: load MODE [--address A] [--port P] [--seconds S] ...
 */
#include "load.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/**
 * struct mode - A mode by its name
 * @name:	As on the command line
 * @run:	What it does
 */
struct mode {
	const char *name;
	int (*run)(const struct options *options);
};

static const struct mode modes[] = {
	{ "tcp-sink", tcp_sink },     { "tcp-send", tcp_send },
	{ "tcp-accept", tcp_accept }, { "tcp-connect", tcp_connect },
	{ "tcp-echo", tcp_echo },     { "tcp-rtt", tcp_rtt },
	{ "hash-sink", hash_sink },   { "hash-send", hash_send },
	{ "udp-sink", udp_sink },     { "udp-send", udp_send },
	{ "udp-echo", udp_echo },     { "udp-rtt", udp_rtt },
	{ "udp-open", udp_open },
};

/**
 * number() - A number of the command line
 * @name:	Its option, for the error
 * @text:	What was given
 * @least:	Smallest that is allowed
 * @most:	Largest that is allowed
 *
 * Return: its value; ends the program when it is none
 */
static double number(const char *name, const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most)) {
		fprintf(stderr, "load: %s: expected a number from %g to %g, got %s\n", name, least,
			most, text);
		exit(2);
	}
	return value;
}

/**
 * run_on() - Have the program, and every thread that it starts, run on some CPUs only
 * @text:	Their numbers, with commas between
 */
static void run_on(const char *text)
{
	cpu_set_t set;
	char *end;
	long cpu;

	CPU_ZERO(&set);
	for (;; text = end + 1) {
		cpu = strtol(text, &end, 10);
		if (end == text || cpu < 0 || cpu >= CPU_SETSIZE || (*end && *end != ',')) {
			fprintf(stderr, "load: --cpus: expected numbers with commas between\n");
			exit(2);
		}
		CPU_SET((size_t)cpu, &set);
		if (!*end)
			break;
	}
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

/**
 * set_option() - Take in one option
 * @options:	Where
 * @name:	With its dashes
 * @text:	Value
 */
static void set_option(struct options *options, const char *name, const char *text)
{
	struct in_addr address;

	if (!strcmp(name, "--address")) {
		if (inet_pton(AF_INET, text, &address) != 1) {
			fprintf(stderr, "load: --address: expected an IPv4 address, got %s\n", text);
			exit(2);
		}
		options->address = ntohl(address.s_addr);
	} else if (!strcmp(name, "--port")) {
		options->port = (uint16_t)number(name, text, 1, 65535);
	} else if (!strcmp(name, "--seconds")) {
		options->seconds = number(name, text, 0.01, 3600);
	} else if (!strcmp(name, "--streams")) {
		options->streams = (unsigned int)number(name, text, 1, 1024);
	} else if (!strcmp(name, "--flows")) {
		options->flows = (unsigned int)number(name, text, 1, 4096);
	} else if (!strcmp(name, "--addresses")) {
		options->addresses = (unsigned int)number(name, text, 1, 1 << 20);
	} else if (!strcmp(name, "--ports")) {
		options->ports = (unsigned int)number(name, text, 1, 1024);
	} else if (!strcmp(name, "--rate")) {
		options->rate = number(name, text, 0, 1e8);
	} else if (!strcmp(name, "--size")) {
		options->size = (size_t)number(name, text, 8, 1400);
	} else if (!strcmp(name, "--count")) {
		options->count = (uint64_t)number(name, text, 0, 1e15);
	} else if (!strcmp(name, "--cpus")) {
		run_on(text);
	} else if (!strcmp(name, "--check")) {
		options->check = number(name, text, 0, 1) != 0;
	} else {
		fprintf(stderr, "load: unknown option %s\n", name);
		exit(2);
	}
}

/**
 * main() - Run the mode that the command line names
 * @argc:	Number of arguments
 * @argv:	load MODE [--OPTION VALUE]...
 *
 * Return: 0 done, 1 failed, 2 asked wrongly
 */
int main(int argc, char **argv)
{
	struct options options = {
		.seconds = 1, .streams = 1, .flows = 1, .addresses = 1, .ports = 1, .size = 64,
	};
	size_t i;
	int j;

	/* Whoever started it reads what it prints: without them it has no purpose. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (j = 2; j + 1 < argc; j += 2)
		set_option(&options, argv[j], argv[j + 1]);
	for (i = 0; argc > 1 && j == argc && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			return modes[i].run(&options);
	fprintf(stderr, "usage: load MODE [--OPTION VALUE]...\nmodes:");
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		fprintf(stderr, " %s", modes[i].name);
	fprintf(stderr, "\n");
	return 2;
}
