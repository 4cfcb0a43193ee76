/* kvcache/: which block of the KV cache belongs to whom. Numbers only: the bytes are the
 * executor's.
 *
 *   view.h         what a branch attends to: spans over blocks (what a step plan shows the
 * executor) block_pool.h   the blocks, by number: free or held, with their holders counted
 *   block_table.h  the blocks one sequence holds, in order, and its span over them
 *
 * Single-threaded: all of it belongs to the engine's thread.
 */
#ifndef KVCACHE_KVCACHE_H
#define KVCACHE_KVCACHE_H

#include "kvcache/block_pool.h"
#include "kvcache/block_table.h"
#include "kvcache/view.h"

#endif
