/* Finished searches on disk, so that a sweep that was stopped goes on where it stood.
 *
 * One file a search, DIRECTORY/HASH.json, named by everything its result depends on: the program's
 * own bytes, the profile, the requests, the setting and the seed. The file holds that text too, and
 * one that does not match is as good as none. A cache that cannot be read or written costs time and
 * never a result.
 */
#ifndef TRACES_SIMULATE_CELL_CACHE_H
#define TRACES_SIMULATE_CELL_CACHE_H

#include "traces/simulate/search.h"

struct cell_cache;

/* NULL directory: ~/.cache/espalier/simulate (or under XDG_CACHE_HOME). NULL: there is none to be
 * had, said once on standard error. */
struct cell_cache *cell_cache_open(const char *directory);
void cell_cache_free(struct cell_cache *cache);

/* From any thread; `cache` may be NULL. What is found is concluded (search_conclude); release it.
 */
bool cell_cache_get(const struct cell_cache *cache, const struct setting *setting,
                    const struct search_options *options, struct search *search);
void cell_cache_put(const struct cell_cache *cache, const struct setting *setting,
                    const struct search_options *options, const struct search *search);

#endif
