/* espalier bench --tree: the prefix tree, full to the last of its blocks.
 *
 * Documents of CHAIN blocks fill a pool one after another; then they are looked up in random order,
 * block by block, as the scheduler does at a request's admission; then as many new ones displace
 * them. A look-up or an insert is the whole of what a block costs: its key (a hash over its
 * tokens), finding or entering it, and the pool's arrows (hold, give back, evict). One thread, as
 * in the engine. There is no floor but the memory's: a node is 1.5 cache lines somewhere in 100 MB.
 */
#include "bench/measure.h"
#include "base/progress.h"
#include "kvcache/kvcache.h"

#include <stdio.h>
#include <stdlib.h>

#define CHAIN 256 /* blocks of a document: 4,096 tokens */

struct tree_bench {
    struct block_pool *pool;
    struct block_hasher hasher;
    struct block_key root;
    int32_t chains, total; /* total = chains * CHAIN */
    int32_t *tokens;       /* [total][KV_BLOCK_SLOTS] of the documents in work */
    int32_t held[CHAIN];
};

static const int32_t *tokens_of(const struct tree_bench *b, int32_t chain, int32_t i)
{
    return b->tokens + ((int64_t)chain * CHAIN + i) * KV_BLOCK_SLOTS;
}

static void write_documents(struct tree_bench *b, uint64_t seed)
{
    struct rng rng = {seed};
    for (int64_t i = 0; i < (int64_t)b->total * KV_BLOCK_SLOTS; i++)
        b->tokens[i] = (int32_t)rng_below(&rng, 49152);
}

/* Deepest first, as the tree wants it. */
static void give_back(struct tree_bench *b, int32_t count)
{
    for (int32_t i = count; i-- > 0;)
        block_pool_drop(b->pool, b->held[i]);
}

static int32_t insert_chain(struct tree_bench *b, int32_t chain)
{
    struct block_key key = b->root;
    for (int32_t i = 0, parent = -1; i < CHAIN; i++) {
        const int32_t *tokens = tokens_of(b, chain, i);
        int32_t position = i * KV_BLOCK_SLOTS, block = block_pool_take(b->pool);
        key = block_key_next(&b->hasher, key, position, tokens);
        parent = prefix_tree_insert(b->pool, block, key, parent, position, tokens);
        invariant(parent == block, "block %d is in the tree already, as %d", block, parent);
        b->held[i] = block;
    }
    give_back(b, CHAIN);
    return CHAIN;
}

/* Returns how many blocks of the document are in the tree, from its beginning. */
static int32_t find_chain(struct tree_bench *b, int32_t chain)
{
    struct block_key key = b->root;
    int32_t found = 0;
    for (int32_t parent = -1; found < CHAIN; found++) {
        const int32_t *tokens = tokens_of(b, chain, found);
        int32_t position = found * KV_BLOCK_SLOTS;
        key = block_key_next(&b->hasher, key, position, tokens);
        parent = prefix_tree_find(b->pool, key, parent, position, tokens);
        if (parent < 0) break;
        block_pool_share(b->pool, parent);
        b->held[found] = parent;
    }
    give_back(b, found);
    return found;
}

/* A look-up that finds nothing: the first block of every document. */
static int32_t miss_chain(struct tree_bench *b, int32_t chain)
{
    for (int32_t i = 0; i < CHAIN; i++) {
        const int32_t *tokens = tokens_of(b, chain, i);
        struct block_key key = block_key_next(&b->hasher, b->root, 0, tokens);
        int32_t found = prefix_tree_find(b->pool, key, -1, 0, tokens);
        invariant(found < 0, "a block that nobody entered is found as %d", found);
    }
    return CHAIN;
}

/* A random order of [0, count). Caller frees. */
static int32_t *shuffled(int32_t count, uint64_t seed)
{
    struct rng rng = {seed};
    int32_t *order = must_alloc((size_t)count * sizeof *order);
    for (int32_t i = 0; i < count; i++) {
        int32_t j = (int32_t)rng_below(&rng, (uint64_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

/* Blocks a second of `work` over every document in a random order. */
static double rate(struct tree_bench *b, int32_t (*work)(struct tree_bench *b, int32_t chain))
{
    struct clock clock = clock_monotonic();
    int32_t *order = shuffled(b->chains, 7);
    int64_t done = 0, start = clock_now(&clock);
    for (int32_t i = 0; i < b->chains; i++)
        done += work(b, order[i]);
    int64_t us = clock_now(&clock) - start;
    free(order);
    invariant(done == b->total, "%lld of %d blocks", (long long)done, b->total);
    return 1e6 * (double)done / (double)(us > 0 ? us : 1);
}

static json_t *measure(struct tree_bench *b)
{
    struct progress bar;
    progress_begin(&bar, "measuring", 4);
    write_documents(b, 1);
    double inserts = rate(b, insert_chain);
    progress_update(&bar, 1);
    double hits = rate(b, find_chain);
    progress_update(&bar, 2);
    write_documents(b, 2);
    double misses = rate(b, miss_chain);
    progress_update(&bar, 3);
    double displacing = rate(b, insert_chain);
    progress_end(&bar);
    struct block_counts counts = block_pool_counts(b->pool);
    invariant(counts.evictions == b->total, "%lld evictions for %d blocks",
              (long long)counts.evictions, b->total);
    return json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f}", "command", "bench --tree",
                     "version", ESPALIER_VERSION, "blocks", b->total, "document_blocks", CHAIN,
                     "inserts_per_s", inserts, "hits_per_s", hits, "misses_per_s", misses,
                     "displacing_inserts_per_s", displacing);
}

enum status measure_tree(const struct bench_options *o, json_t **out, struct error *err)
{
    struct tree_bench b = {.hasher = {1, 2}};
    b.chains = (int32_t)((o->blocks + CHAIN - 1) / CHAIN);
    b.total = b.chains * CHAIN;
    b.root = block_key_root(&b.hasher, "", 0);
    b.tokens = try_alloc((size_t)b.total * KV_BLOCK_SLOTS, sizeof *b.tokens);
    b.pool = block_pool_create(b.total);
    enum status status = ST_OK;
    if (b.tokens && b.pool)
        *out = measure(&b);
    else
        status = fail(err, ST_NO_MEMORY, "no memory for a tree of %d blocks", b.total);
    block_pool_free(b.pool);
    free(b.tokens);
    return status;
}

static void print_rate(const char *name, const json_t *doc, const char *key)
{
    double per_s = json_number_value(json_object_get(doc, key));
    printf("%-28s %10.2f %10.0f\n", name, per_s / 1e6, 1e9 / per_s);
}

void print_tree(const json_t *doc)
{
    printf("prefix tree of %lld blocks, documents of %lld, keys and holds included, one thread\n",
           json_integer_value(json_object_get(doc, "blocks")),
           json_integer_value(json_object_get(doc, "document_blocks")));
    printf("\n%-28s %10s %10s\n", "", "million/s", "ns each");
    print_rate("inserts into free blocks", doc, "inserts_per_s");
    print_rate("look-ups that find", doc, "hits_per_s");
    print_rate("look-ups that do not", doc, "misses_per_s");
    print_rate("inserts that displace", doc, "displacing_inserts_per_s");
}
