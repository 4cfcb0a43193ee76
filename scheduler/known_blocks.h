/* What of a prompt will be found in the prefix tree, told from any thread.
 *
 * The tree belongs to the engine's thread; this is a table of the names (kvcache/block_key.h) that
 * were put there or will be, because a request with that prompt was accepted. It forgets the older
 * of two names that fall into one place, and keeps those whose blocks were evicted since: a guess,
 * good enough to predict what a prompt costs (ttft.h), never to skip it.
 */
#ifndef SCHEDULER_KNOWN_BLOCKS_H
#define SCHEDULER_KNOWN_BLOCKS_H

#include "kvcache/block_key.h"

struct known_blocks;

struct known_blocks *known_blocks_create(int32_t blocks); /* of the pool. NULL: out of memory */
void known_blocks_free(struct known_blocks *known);

void known_blocks_add(struct known_blocks *known, struct block_key key);

/* Of the `count` tokens behind the root, how many at the beginning are known: complete blocks. */
int32_t known_blocks_find(const struct known_blocks *known, const struct block_hasher *hasher,
                          struct block_key root, const int32_t *tokens, int32_t count);
/* All complete blocks of them. */
void known_blocks_add_prompt(struct known_blocks *known, const struct block_hasher *hasher,
                             struct block_key root, const int32_t *tokens, int32_t count);

#endif
