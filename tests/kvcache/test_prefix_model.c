/* The tree against straightforward caches: 10,000 random requests with a check after each, and the
 * prefixes of a recorded workload. */
#include "base/base.h"
#include "kvcache/kvcache.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct block_hasher hasher = {3, 4};

/* --- a reference: names in the order of their last use. It knows no tree. */

struct reference {
    int32_t *older, *newer; /* [names], by name */
    bool *present;
    int32_t oldest, newest, count, capacity;
};

static struct reference reference_make(int32_t names, int32_t capacity)
{
    struct reference r = {.oldest = -1, .newest = -1, .capacity = capacity};
    r.older = must_alloc((size_t)names * sizeof *r.older);
    r.newer = must_alloc((size_t)names * sizeof *r.newer);
    r.present = must_alloc((size_t)names);
    return r;
}

static void reference_free(struct reference *r)
{
    free(r->older);
    free(r->newer);
    free(r->present);
}

static void reference_remove(struct reference *r, int32_t name)
{
    int32_t older = r->older[name], newer = r->newer[name];
    *(older >= 0 ? &r->newer[older] : &r->oldest) = newer;
    *(newer >= 0 ? &r->older[newer] : &r->newest) = older;
    r->present[name] = false;
    r->count--;
}

static void reference_append(struct reference *r, int32_t name)
{
    r->older[name] = r->newest;
    r->newer[name] = -1;
    *(r->newest >= 0 ? &r->newer[r->newest] : &r->oldest) = name;
    r->newest = name;
    r->present[name] = true;
    r->count++;
}

static void reference_use(struct reference *r, int32_t name)
{
    if (r->present[name])
        reference_remove(r, name);
    else if (r->count == r->capacity)
        reference_remove(r, r->oldest);
    reference_append(r, name);
}

/* Names found from the start on. */
static int32_t reference_hits(const struct reference *r, const int32_t *names, int32_t count)
{
    int32_t hits = 0;
    while (hits < count && r->present[names[hits]])
        hits++;
    return hits;
}

/* The cache that one would write first: every block is used in the order of the prompt. */
static int32_t plain_request(struct reference *r, const int32_t *names, int32_t count)
{
    int32_t hits = reference_hits(r, names, count);
    for (int32_t i = 0; i < count; i++)
        reference_use(r, names[i]);
    return hits;
}

/* One that keeps beginnings: the last block is used first. What has no room is left out. */
static int32_t backward_request(struct reference *r, const int32_t *names, int32_t count)
{
    int32_t hits = reference_hits(r, names, count), kept = min_i32(count, r->capacity);
    for (int32_t i = 0; i < hits; i++)
        reference_remove(r, names[i]); /* not to go while this request needs it */
    while (r->count + kept > r->capacity)
        reference_remove(r, r->oldest);
    for (int32_t i = kept - 1; i >= 0; i--)
        reference_append(r, names[i]);
    return hits;
}

/* --- the same request through the tree: found, or taken and inserted; then given back */

static int32_t tree_request(struct block_pool *pool, const int32_t *names, int32_t count)
{
    int32_t *blocks = must_alloc((size_t)count * sizeof *blocks);
    struct block_key key = block_key_root(&hasher, NULL, 0);
    int32_t hits = 0, held = 0;
    for (; held < count; held++) {
        int32_t tokens[KV_BLOCK_SLOTS] = {names[held]};
        int32_t parent = held ? blocks[held - 1] : -1, position = held * KV_BLOCK_SLOTS;
        key = block_key_next(&hasher, key, position, tokens);
        int32_t block = prefix_tree_find(pool, key, parent, position, tokens);
        if (block >= 0) {
            cr_assert_eq(hits, held, "block %d is found behind one that is not", held);
            block_pool_share(pool, block);
            hits++;
        } else {
            block = block_pool_take(pool);
            if (block < 0) break;
            cr_assert_eq(prefix_tree_insert(pool, block, key, parent, position, tokens), block);
        }
        blocks[held] = block;
    }
    while (held > 0)
        block_pool_drop(pool, blocks[--held]);
    free(blocks);
    return hits;
}

/* --- random requests */

enum { WORDS = 3, DEEPEST = 5, NAMES = 364 /* 3^0 + .. + 3^5 */, POOL = 40, REQUESTS = 10000 };

/* A walk from the root of a full ternary tree: a name stands for the whole way to it. */
static int32_t random_walk(struct rng *rng, int32_t names[DEEPEST])
{
    int32_t count = 1 + (int32_t)rng_below(rng, DEEPEST), name = 0;
    for (int32_t i = 0; i < count; i++)
        names[i] = name = WORDS * name + 1 + (int32_t)rng_below(rng, WORDS);
    return count;
}

Test(prefix_model, ten_thousand_random_requests_hit_what_the_reference_hits)
{
    struct rng rng = {5};
    struct block_pool *pool = block_pool_create(POOL);
    struct reference reference = reference_make(NAMES, POOL);
    int64_t hits = 0;
    for (int32_t i = 0; i < REQUESTS; i++) {
        int32_t names[DEEPEST], count = random_walk(&rng, names);
        int32_t expected = backward_request(&reference, names, count);
        int32_t found = tree_request(pool, names, count);
        cr_assert_eq(found, expected, "request %d: %d hits, not %d", i, found, expected);
        cr_assert_eq(block_pool_counts(pool).cached, reference.count);
        block_pool_check(pool);
        hits += found;
    }
    cr_assert_gt(hits, REQUESTS / 2);
    cr_assert_gt(block_pool_counts(pool).evictions, REQUESTS / 2);
    reference_free(&reference);
    block_pool_free(pool);
}

/* A take that fails in the middle of a request leaves a shorter chain and nothing broken. */
Test(prefix_model, failed_takes_leave_a_sound_tree)
{
    struct rng rng = {6};
    struct block_pool *pool = block_pool_create(POOL);
    for (int32_t i = 0; i < 1000; i++) {
        int32_t names[DEEPEST], count = random_walk(&rng, names);
        block_pool_fail_after(pool, 1 + (int64_t)rng_below(&rng, 3));
        tree_request(pool, names, count);
        block_pool_fail_after(pool, 0);
        block_pool_check(pool);
        cr_assert_eq(block_pool_counts(pool).held, 0);
    }
    block_pool_free(pool);
}

/* A request longer than the pool keeps its beginning, and finds it again. */
Test(prefix_model, a_request_that_fills_the_pool)
{
    struct block_pool *pool = block_pool_create(4);
    const int32_t names[6] = {1, 2, 3, 4, 5, 6};
    cr_assert_eq(tree_request(pool, names, 6), 0);
    block_pool_check(pool);
    cr_assert_eq(block_pool_counts(pool).cached, 4);
    cr_assert_eq(tree_request(pool, names, 6), 4);
    block_pool_check(pool);
    block_pool_free(pool);
}

/* --- the recorded workload: Mooncake's conversation trace, whose hash_ids name blocks of a prompt
 * (one of its blocks is one of ours here, whatever the number of tokens in it) */

struct trace {
    int32_t *names;   /* all requests', one after another */
    int32_t *lengths; /* [requests] */
    int32_t requests, name_count, total;
    size_t name_room, length_room;
};

static void make_room(int32_t **values, size_t *room, int32_t count)
{
    if ((size_t)count < *room) return;
    *room = *room ? 2 * *room : 1024;
    *values = must_realloc(*values, *room * sizeof **values);
}

static FILE *open_trace(void)
{
    const char *shared = getenv("ESPALIER_SHARED");
    char path[4096];
    snprintf(path, sizeof path, "%s/data/traces/mooncake_conversation.jsonl",
             shared ? shared : SOURCE_DIR "/../shared");
    return fopen(path, "r");
}

static void read_line(struct trace *trace, const char *line)
{
    const char *at = strstr(line, "\"hash_ids\": [");
    cr_assert(at, "a line without hash_ids: %.60s", line);
    at = strchr(at, '[');
    int32_t first = trace->total;
    while (*at != ']') {
        char *end;
        long name = strtol(at + 1, &end, 10);
        cr_assert(end > at + 1 && name >= 0 && name < INT32_MAX && (*end == ',' || *end == ']'));
        make_room(&trace->names, &trace->name_room, trace->total);
        trace->names[trace->total++] = (int32_t)name;
        trace->name_count = max_i32(trace->name_count, (int32_t)name + 1);
        at = end;
    }
    make_room(&trace->lengths, &trace->length_room, trace->requests);
    trace->lengths[trace->requests++] = trace->total - first;
}

static struct trace read_trace(FILE *file)
{
    struct trace trace = {0};
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0)
        read_line(&trace, line);
    free(line);
    fclose(file);
    return trace;
}

static void expect_hit_rate(const struct trace *trace, int32_t capacity)
{
    struct block_pool *pool = block_pool_create(capacity);
    struct reference plain = reference_make(trace->name_count, capacity);
    struct reference backward = reference_make(trace->name_count, capacity);
    int64_t tree_hits = 0, plain_hits = 0, backward_hits = 0;
    const int32_t *names = trace->names;
    for (int32_t i = 0; i < trace->requests; names += trace->lengths[i++]) {
        tree_hits += tree_request(pool, names, trace->lengths[i]);
        plain_hits += plain_request(&plain, names, trace->lengths[i]);
        backward_hits += backward_request(&backward, names, trace->lengths[i]);
    }
    block_pool_check(pool);
    double all = trace->total;
    log_info("%d blocks: hit rate %.4f, plain LRU %.4f, LRU from the end %.4f", capacity,
             (double)tree_hits / all, (double)plain_hits / all, (double)backward_hits / all);
    cr_expect_gt(tree_hits, 0);
    cr_expect_geq(tree_hits, plain_hits, "%d blocks: plain LRU", capacity);
    cr_expect_geq(tree_hits, backward_hits, "%d blocks: LRU from the end", capacity);
    reference_free(&plain);
    reference_free(&backward);
    block_pool_free(pool);
}

Test(prefix_model, hit_rate_of_a_recorded_workload)
{
    FILE *file = open_trace();
    if (!file) cr_skip_test("../shared/data/traces/mooncake_conversation.jsonl is not there");
    struct trace trace = read_trace(file);
    cr_assert_gt(trace.requests, 1000);
    static const int32_t capacities[] = {100, 1000, 5000, 20000, 50000, 200000};
    for (size_t i = 0; i < COUNT_OF(capacities); i++)
        expect_hit_rate(&trace, capacities[i]);
    free(trace.names);
    free(trace.lengths);
}
