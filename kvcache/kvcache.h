/* kvcache/: which block of the KV cache belongs to whom. Numbers only: the bytes are the
 * executor's.
 *
 *   view.h         what a branch attends to: spans over blocks (what a plan shows the executor)
 *   block_pool.h   the blocks, by number: free, held (with their holders counted) or cached
 *   block_key.h    the name of a block's content
 *   prefix_tree.h  which block holds which content: what is computed once is found again
 *   block_table.h  the blocks one sequence holds, in order, and its span over them
 *
 * Single-threaded: all of it belongs to the engine's thread.
 */
#ifndef KVCACHE_KVCACHE_H
#define KVCACHE_KVCACHE_H

#include "kvcache/block_key.h"
#include "kvcache/block_pool.h"
#include "kvcache/block_table.h"
#include "kvcache/prefix_tree.h"
#include "kvcache/view.h"

#endif
