/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large areas of memory.
 *
 * Theory of Operation
 * ===================
 *
 * Tables are mapped once, as large as they may ever become, and memory is given to them
 * as they fill: MAP_NORESERVE.  They are read at random, so they ask for huge pages;
 * without these, every record that is not in the cache costs a walk of the page tables
 * besides.
 */
#define _DEFAULT_SOURCE
#include "pages.h"

#include <sys/mman.h>

/**
 * pages_map() - Take an area
 * @size:	Its bytes
 *
 * Return: zeroed memory that begins at a page, NULL when there is none
 */
void *pages_map(size_t size)
{
	void *area = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	/* A wish: where there are no huge pages small ones do. */
	madvise(area, size, MADV_HUGEPAGE);
	return area;
}

/**
 * pages_unmap() - Give an area back
 * @area:	pages_map(), or NULL
 * @size:	Its bytes
 */
void pages_unmap(void *area, size_t size)
{
	if (area)
		munmap(area, size);
}
