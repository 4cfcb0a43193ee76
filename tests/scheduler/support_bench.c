#include "support_bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>

const struct executor_capacity roomy = {.depth = 1,
                                        .block_count = 256,
                                        .max_rows = 16,
                                        .max_tokens = 128,
                                        .max_context = 1024,
                                        .vocab = VOCAB};

struct bench *bench_open(struct executor_capacity capacity, struct scheduler_options options,
                         struct simulated_options faults)
{
    struct bench *bench = must_alloc(sizeof *bench);
    bench->now_us = 1;
    faults.capacity = capacity;
    faults.now_us = &bench->now_us;
    bench->sim = simulated_create(&faults);
    struct error err = {0};
    cr_assert_eq(scheduler_create(&options, simulated_executor(bench->sim),
                                  clock_virtual(&bench->now_us), &bench->s, &err),
                 ST_OK, "%s", err.text);
    return bench;
}

struct bench *bench_default(int32_t depth)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = depth;
    return bench_open(capacity, scheduler_options_default(), (struct simulated_options){0});
}

void bench_close(struct bench *bench)
{
    scheduler_check(bench->s);
    cr_assert(block_pool_conserves(bench->s->pool));
    scheduler_free(bench->s);
    simulated_free(bench->sim);
    free(bench);
}

bool tick(struct bench *bench)
{
    bool busy = scheduler_tick(bench->s);
    scheduler_check(bench->s);
    for (int32_t block = 0; block < bench->s->capacity.block_count; block++)
        if (block_pool_holders(bench->s->pool, block) == 0 &&
            !prefix_tree_holds(bench->s->pool, block))
            simulated_poison(bench->sim, block);
    return busy;
}

void run_out(struct bench *bench)
{
    int ticks = 0;
    while (tick(bench))
        cr_assert_lt(++ticks, 100000, "it never ends");
    cr_assert_eq(block_pool_counts(bench->s->pool).held, 0);
}

struct client *add(struct bench *bench, struct request_params params)
{
    struct error err = {0};
    struct client *client = client_create(&params, -1);
    cr_assert_eq(client_add(client, bench->s, &err), ST_OK, "%s", err.text);
    return client;
}
