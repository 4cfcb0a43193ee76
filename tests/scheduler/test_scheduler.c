/* The scheduler against the simulated executor: one promise a test. test_scheduler_random.c mixes
 * them. */
#include "support_client.h"

#include "scheduler/core.h"

#include <criterion/criterion.h>

#define VOCAB 97

struct bench {
    struct simulated *sim;
    struct scheduler *s;
    int64_t now_us;
};

static const struct executor_capacity roomy = {.depth = 1,
                                               .block_count = 256,
                                               .max_rows = 16,
                                               .max_tokens = 128,
                                               .max_context = 1024,
                                               .vocab = VOCAB};

static struct bench *bench_open(struct executor_capacity capacity, struct scheduler_options options,
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

static struct bench *bench_default(int32_t depth)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = depth;
    return bench_open(capacity, scheduler_options_default(), (struct simulated_options){0});
}

static void bench_close(struct bench *bench)
{
    scheduler_check(bench->s);
    cr_assert(block_pool_conserves(bench->s->pool));
    scheduler_free(bench->s);
    simulated_free(bench->sim);
    free(bench);
}

static bool tick(struct bench *bench)
{
    bool busy = scheduler_tick(bench->s);
    scheduler_check(bench->s);
    for (int32_t block = 0; block < bench->s->capacity.block_count; block++)
        if (block_pool_holders(bench->s->pool, block) == 0) simulated_poison(bench->sim, block);
    return busy;
}

static void run_out(struct bench *bench)
{
    int ticks = 0;
    while (tick(bench))
        cr_assert_lt(++ticks, 100000, "it never ends");
    cr_assert_eq(block_pool_counts(bench->s->pool).held, 0);
}

static int32_t prompt_ids[1024];

static struct request_params ask(int32_t prompt_count, int32_t max_tokens)
{
    for (int32_t i = 0; i < (int32_t)COUNT_OF(prompt_ids); i++)
        prompt_ids[i] = (i * 31 + 7) % VOCAB;
    return (struct request_params){
        .prompt = prompt_ids, .prompt_count = prompt_count, .n = 1, .max_tokens = max_tokens};
}

static struct client *add(struct bench *bench, struct request_params params)
{
    struct error err = {0};
    struct client *client = client_create(&params, -1);
    cr_assert_eq(client_add(client, bench->s, &err), ST_OK, "%s", err.text);
    return client;
}

static void expect_right(struct client *client)
{
    const char *mistake = client_mistake(client, VOCAB, prompt_ids, client->params.stop_ids);
    cr_assert_null(mistake, "%s", mistake);
    client_free(client);
}

Test(scheduler, one_request_is_answered)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_default(depth);
        struct client *client = add(bench, ask(40, 30));
        run_out(bench);
        cr_assert_eq(client->streams[0].count, 30);
        cr_assert_eq(client->streams[0].reason, FINISH_LENGTH);
        cr_assert_eq(simulated_counts(bench->sim).tokens, 40 + 29);
        cr_assert_eq(simulated_counts(bench->sim).most_in_flight, depth);
        expect_right(client);
        bench_close(bench);
    }
}
