/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_probe.c as a program: cases on stdin, answers on stdout, each behind its length
 * in 4 bytes, until stdin ends.
 */
#include <stdio.h>
#include <stdlib.h>

#include "offload_probe.h"

#define MOST	(32u << 20)	/* bytes of a case or of an answer */

/* Leak detection needs ptrace, which a container may forbid. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int main(void)
{
	uint8_t *in = malloc(MOST), *out = malloc(MOST), length[4];

	if (!in || !out)
		return 1;
	while (fread(length, sizeof(length), 1, stdin) == 1) {
		size_t len = (size_t)length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 |
			     (size_t)length[3] << 24;
		size_t got;

		if (len > MOST || fread(in, 1, len, stdin) != len)
			return 1;
		got = probe(in, len, out, MOST);
		for (int i = 0; i < 4; i++)
			length[i] = (uint8_t)(got >> (8 * i));
		fwrite(length, sizeof(length), 1, stdout);
		fwrite(out, 1, got, stdout);
		fflush(stdout);
	}
	free(in);
	free(out);
	return 0;
}
