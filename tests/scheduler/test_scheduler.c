/* The scheduler against the simulated executor: one promise a test. test_scheduler_random.c mixes
 * them. */
#include "support_bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static int32_t prompt_ids[1024];
static int32_t stop_ids[4];
static char salts[64][2];

/* Each with a salt of its own: what requests find of each other is test_prefix.c's. */
static struct request_params ask(int32_t prompt_count, int32_t max_tokens)
{
    static int32_t asked;
    asked++;
    salts[asked % (int32_t)COUNT_OF(salts)][0] = (char)asked;
    salts[asked % (int32_t)COUNT_OF(salts)][1] = (char)(asked >> 8);
    for (int32_t i = 0; i < (int32_t)COUNT_OF(prompt_ids); i++)
        prompt_ids[i] = (i * 31 + 7) % VOCAB;
    return (struct request_params){.prompt = prompt_ids,
                                   .prompt_count = prompt_count,
                                   .n = 1,
                                   .max_tokens = max_tokens,
                                   .stop_ids = stop_ids,
                                   .cache_salt = salts[asked % (int32_t)COUNT_OF(salts)],
                                   .cache_salt_length = sizeof salts[0]};
}

static void expect_right(struct client *client)
{
    const char *mistake = client_mistake(client, VOCAB, prompt_ids, stop_ids);
    cr_assert_null(mistake, "%s", mistake);
    client_free(client);
}

/* The `index`-th token that `params` gets when nothing stops it. */
static int32_t token_at(const struct request_params *params, int32_t index)
{
    int32_t tokens[256];
    simulated_answer(VOCAB, prompt_ids, params->prompt_count, &params->sample, index + 1, tokens);
    return tokens[index];
}

static struct scheduler_counters counters_of(const struct bench *bench)
{
    struct scheduler_counters counters;
    scheduler_counters(bench->s, &counters);
    return counters;
}

static void expect_refused(struct bench *bench, struct request_params params, enum status status,
                           const char *words)
{
    struct error err = {0};
    uint64_t id;
    struct client *client = client_create(&params, -1);
    cr_assert_eq(scheduler_add(bench->s, &client->params, &id, &err), status);
    cr_assert(strstr(err.text, words), "\"%s\" does not say \"%s\"", err.text, words);
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
        cr_assert_eq(client->stats.steps, 30); /* the prompt's gives the first token */
        cr_assert_eq(simulated_counts(bench->sim).tokens, 40 + 29);
        cr_assert_eq(simulated_counts(bench->sim).most_in_flight, depth);
        expect_right(client);
        bench_close(bench);
    }
}

Test(scheduler, an_idle_tick_says_so)
{
    struct bench *bench = bench_default(2);
    cr_assert_not(tick(bench));
    struct client *client = add(bench, ask(3, 2));
    run_out(bench);
    cr_assert_not(tick(bench));
    expect_right(client);
    bench_close(bench);
}

Test(scheduler, prompt_comes_in_chunks_beside_decoding)
{
    struct scheduler_options options = scheduler_options_default();
    options.prefill_chunk = 16;
    struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
    struct client *small = add(bench, ask(4, 60));
    tick(bench);
    cr_assert_eq(small->streams[0].count, 1);
    struct client *large = add(bench, ask(100, 5));
    for (int step = 1; step <= 7; step++) { /* 100 tokens are 7 chunks of 16 */
        cr_assert_eq(large->streams[0].count, 0);
        tick(bench);
        cr_assert_eq(small->streams[0].count, 1 + step, "decoding goes on at every step");
        cr_assert_eq(counters_of(bench).step_tokens, step < 7 ? 17 : 5);
    }
    cr_assert_eq(large->streams[0].count, 1);
    run_out(bench);
    expect_right(small);
    expect_right(large);
    bench_close(bench);
}

Test(scheduler, one_chunk_serves_several_prompts)
{
    struct bench *bench = bench_default(1);
    struct client *clients[4];
    for (int i = 0; i < 4; i++)
        clients[i] = add(bench, ask(20 + i, 2));
    tick(bench);
    cr_assert_eq(counters_of(bench).step_rows, 4);
    cr_assert_eq(counters_of(bench).step_tokens, 20 + 21 + 22 + 23);
    run_out(bench);
    cr_assert_eq(counters_of(bench).prompt_tokens, 20 + 21 + 22 + 23);
    for (int i = 0; i < 4; i++)
        expect_right(clients[i]);
    bench_close(bench);
}

Test(scheduler, rows_and_tokens_stay_in_their_limits)
{
    struct executor_capacity capacity = roomy;
    capacity.max_tokens = 6;
    struct scheduler_options options = scheduler_options_default();
    options.max_rows = 4;
    struct bench *bench = bench_open(capacity, options, (struct simulated_options){0});
    struct client *clients[9];
    for (int i = 0; i < 9; i++)
        clients[i] = add(bench, ask(5 + 7 * i, 20));
    run_out(bench);
    cr_assert_eq(simulated_counts(bench->sim).most_rows, 4);
    cr_assert_eq(simulated_counts(bench->sim).most_tokens, 6);
    for (int i = 0; i < 9; i++)
        expect_right(clients[i]);
    bench_close(bench);
}

Test(scheduler, eos_ends_and_is_reported)
{
    struct bench *bench = bench_default(2);
    struct request_params params = ask(12, 50);
    stop_ids[0] = token_at(&params, 9);
    params.stop_count = params.eos_count = 1;
    struct client *client = add(bench, params);
    run_out(bench);
    cr_assert_leq(client->streams[0].count, 10);
    cr_assert_eq(client->streams[0].tokens[client->streams[0].count - 1], stop_ids[0]);
    cr_assert_eq(client->streams[0].reason, FINISH_STOP);
    expect_right(client);
    bench_close(bench);
}

Test(scheduler, ignore_eos_and_min_tokens_put_it_off)
{
    struct bench *bench = bench_default(1);
    struct request_params params = ask(12, 50);
    stop_ids[0] = token_at(&params, 0);
    params.stop_count = params.eos_count = 1;
    params.ignore_eos = true;
    struct client *ignoring = add(bench, params);
    params.ignore_eos = false;
    params.min_tokens = 1;
    struct client *later = add(bench, params);
    run_out(bench);
    cr_assert_eq(ignoring->streams[0].count, 50);
    cr_assert_gt(later->streams[0].count, 1);
    expect_right(ignoring);
    expect_right(later);
    bench_close(bench);
}

Test(scheduler, a_verdict_stops_and_the_next_rows_token_is_dropped)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_default(depth);
        struct request_params params = ask(12, 50);
        struct error err;
        struct client *client = client_create(&params, token_at(&params, 5));
        cr_assert_eq(client_add(client, bench->s, &err), ST_OK);
        run_out(bench);
        cr_assert_eq(client->streams[0].reason, FINISH_STOP);
        int64_t computed = simulated_counts(bench->sim).tokens;
        cr_assert_eq(computed, 12 + client->streams[0].count - 1 + (depth - 1));
        expect_right(client);
        bench_close(bench);
    }
}

Test(scheduler, counts_the_time_in_the_executor)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_default(depth);
        struct client *long_answer = add(bench, ask(12, 50));
        struct client *long_prompt = add(bench, ask(30, 20));
        bench->now_us += 5000; /* not in the executor */
        run_out(bench);
        struct scheduler_counters counters;
        scheduler_counters(bench->s, &counters);
        struct simulated_counts counts = simulated_counts(bench->sim);
        cr_assert_eq(counters.executor_us, 1000 * counts.steps + 10 * counts.tokens);
        expect_right(long_answer);
        expect_right(long_prompt);
        bench_close(bench);
    }
}

Test(scheduler, sequences_of_a_request_draw_by_the_seed_rule)
{
    struct bench *bench = bench_default(1);
    struct request_params params = ask(10, 20);
    params.sample = (struct sample_spec){.temperature = 1, .seed = 77, .want_logprob = true};
    params.n = 4;
    struct client *four = add(bench, params);
    params.n = 1;
    struct client *one = add(bench, params);
    run_out(bench);
    bool differ = memcmp(four->streams[0].tokens, four->streams[1].tokens, 20 * 4) != 0;
    cr_assert(differ, "two sequences of one request drew the same");
    cr_assert_eq(four->stats.output_tokens, 80);
    cr_assert_eq(four->stats.prompt_tokens, 10);
    expect_right(four);
    expect_right(one);
    bench_close(bench);
}

Test(scheduler, cancelling_takes_effect_in_the_next_tick)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_default(depth);
        struct request_params params = ask(10, 100);
        params.n = 3;
        struct client *client = add(bench, params), *other = add(bench, ask(8, 12));
        for (int i = 0; i < 6; i++)
            tick(bench);
        int32_t before = client->streams[0].count;
        cr_assert_gt(before, 0);
        scheduler_cancel(bench->s, client->id);
        cr_assert_not(client->done);
        tick(bench);
        cr_assert(client->done);
        cr_assert_eq(client->streams[2].reason, FINISH_ABORT);
        cr_assert_eq(client->streams[0].count, before);
        scheduler_cancel(bench->s, client->id); /* it is gone: ignored */
        run_out(bench);
        expect_right(client);
        expect_right(other);
        bench_close(bench);
    }
}

Test(scheduler, what_waits_can_be_cancelled)
{
    struct scheduler_options options = scheduler_options_default();
    options.max_rows = 1;
    struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
    struct client *clients[5];
    for (int i = 0; i < 5; i++)
        clients[i] = add(bench, ask(10, 10));
    tick(bench);
    scheduler_cancel(bench->s, clients[2]->id);
    tick(bench);
    cr_assert(clients[2]->done);
    cr_assert_eq(clients[2]->stats.scheduled_us, 0);
    cr_assert_eq(counters_of(bench).waiting, 3);
    run_out(bench);
    for (int i = 0; i < 5; i++)
        expect_right(clients[i]);
    bench_close(bench);
}

/* A pool in which three sequences start and only one can finish beside another. */
static struct bench *bench_tight(int32_t depth)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = depth;
    capacity.block_count = 8;
    return bench_open(capacity, scheduler_options_default(), (struct simulated_options){0});
}

Test(scheduler, preemption_recomputes_and_repeats_nothing)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_tight(depth);
        struct client *clients[3];
        for (int i = 0; i < 3; i++)
            clients[i] = add(bench, ask(10, 100));
        run_out(bench);
        cr_assert_eq(clients[0]->stats.preemptions, 0, "the first in line is never a victim");
        cr_assert_gt(clients[2]->stats.preemptions, 0);
        cr_assert_lt(clients[0]->stats.finish_us, clients[1]->stats.finish_us);
        cr_assert_lt(clients[1]->stats.finish_us, clients[2]->stats.finish_us);
        struct scheduler_counters counters = counters_of(bench);
        cr_assert_eq(counters.prompt_tokens, 30);
        cr_assert_eq(counters.generated_tokens, 300);
        /* All that the executor computed is a first time or a recorded again. */
        cr_assert_eq(simulated_counts(bench->sim).tokens, 30 + 3 * 99 + counters.recomputed_tokens);
        for (int i = 0; i < 3; i++)
            expect_right(clients[i]);
        bench_close(bench);
    }
}

Test(scheduler, the_least_urgent_is_preempted)
{
    struct bench *bench = bench_tight(1);
    struct request_params params = ask(10, 100);
    params.priority = 5;
    struct client *patient = add(bench, params);
    tick(bench);
    params = ask(10, 100);
    params.priority = 0;
    struct client *urgent = add(bench, params);
    run_out(bench);
    cr_assert_gt(patient->stats.preemptions, 0);
    cr_assert_eq(urgent->stats.preemptions, 0);
    cr_assert_lt(urgent->stats.finish_us, patient->stats.finish_us);
    expect_right(patient);
    expect_right(urgent);
    bench_close(bench);
}

Test(scheduler, the_urgent_are_admitted_first)
{
    struct scheduler_options options = scheduler_options_default();
    options.max_rows = 1;
    struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
    static const int32_t priority[] = {3, 1, 2, 1, -4};
    static const int32_t place[] = {4, 1, 3, 2, 0};
    struct client *clients[5], *in_order[5];
    for (int i = 0; i < 5; i++) {
        struct request_params params = ask(10, 3);
        params.priority = priority[i];
        in_order[place[i]] = clients[i] = add(bench, params);
    }
    run_out(bench);
    for (int i = 1; i < 5; i++)
        cr_assert_lt(in_order[i - 1]->stats.scheduled_us, in_order[i]->stats.scheduled_us);
    for (int i = 0; i < 5; i++)
        expect_right(clients[i]);
    bench_close(bench);
}

Test(scheduler, small_requests_do_not_starve_a_big_one)
{
    struct bench *bench = bench_tight(1);
    struct client *clients[40], *big = NULL;
    for (int i = 0; i < 40; i++) {
        if (i == 3) big = add(bench, ask(110, 5)); /* seven of eight blocks */
        clients[i] = add(bench, ask(20, 10));
        tick(bench);
    }
    run_out(bench);
    for (int i = 0; i < 40; i++) {
        bool before = clients[i]->stats.scheduled_us < big->stats.scheduled_us;
        cr_assert_eq(before, i < 3, "small request %d is admitted %s the big one", i,
                     before ? "before" : "after");
        expect_right(clients[i]);
    }
    expect_right(big);
    bench_close(bench);
}

Test(scheduler, refuses_what_could_never_run)
{
    struct bench *bench = bench_default(1);
    cr_assert_eq(scheduler_max_length(bench->s, 4), 1024);
    expect_refused(bench, ask(1000, 25), ST_INVALID, "maximum context length is 1024 tokens");
    expect_refused(bench, ask(1, INT32_MAX), ST_INVALID, "maximum context length is 1024 tokens");
    expect_refused(bench, ask(0, 5), ST_INVALID, "prompt is empty");
    expect_refused(bench, ask(5, -1), ST_INVALID, "max_tokens is -1");
    struct request_params params = ask(5, 5);
    params.n = 0;
    expect_refused(bench, params, ST_INVALID, "n is 0");
    params.n = 257;
    expect_refused(bench, params, ST_INVALID, "1 to 256");
    params = ask(5, 5);
    prompt_ids[3] = VOCAB;
    expect_refused(bench, params, ST_INVALID, "Prompt token 3 is 97");
    struct client *longest = add(bench, ask(1000, 24));
    run_out(bench);
    expect_right(longest);
    bench_close(bench);
}

Test(scheduler, refuses_what_the_pool_could_never_hold)
{
    struct bench *bench = bench_tight(1);
    cr_assert_eq(scheduler_max_length(bench->s, 1), 128);
    cr_assert_eq(scheduler_max_length(bench->s, 2), 112);
    expect_refused(bench, ask(100, 29), ST_INVALID, "maximum context length is 128 tokens");
    expect_refused(bench, ask(100, 29), ST_INVALID, "8 blocks of 16");
    struct client *longest = add(bench, ask(100, 28));
    run_out(bench);
    expect_right(longest);
    bench_close(bench);
}

Test(scheduler, a_request_of_n_takes_n_places_in_the_queue)
{
    struct scheduler_options options = scheduler_options_default();
    options.max_queue = 4;
    options.max_rows = 1;
    struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
    struct request_params params = ask(10, 5);
    params.n = 3;
    struct client *three = add(bench, params);
    params.n = 2;
    expect_refused(bench, params, ST_FULL, "3 sequences wait, at most 4");
    struct client *one = add(bench, ask(10, 5));
    tick(bench); /* one of them runs now */
    struct client *another = add(bench, ask(10, 5));
    expect_refused(bench, ask(10, 5), ST_FULL, "queue is full");
    run_out(bench);
    expect_right(three);
    expect_right(one);
    expect_right(another);
    bench_close(bench);
}

Test(scheduler, a_failed_step_ends_its_requests_and_nothing_else)
{
    log_set_level(LOG_ERROR);
    for (int32_t depth = 1; depth <= 2; depth++) {
        for (int kind = 0; kind < 3; kind++) {
            struct executor_capacity capacity = roomy;
            capacity.depth = depth;
            capacity.max_rows = 2;
            double share = 0.04;
            struct simulated_options faults = {.seed = 5 + (uint64_t)kind};
            if (kind == 0) faults.submit_failures = share;
            if (kind == 1) faults.collect_failures = share;
            if (kind == 2) faults.bad_tokens = share;
            struct bench *bench = bench_open(capacity, scheduler_options_default(), faults);
            struct client *clients[30];
            int failed = 0;
            for (int i = 0; i < 30; i++)
                clients[i] = add(bench, ask(5 + i, 8));
            run_out(bench);
            for (int i = 0; i < 30; i++) {
                failed += clients[i]->stats.reason == FINISH_ERROR;
                expect_right(clients[i]);
            }
            cr_assert(failed > 0 && failed < 30, "%d of 30 failed", failed);
            bench_close(bench);
        }
    }
}

Test(scheduler, a_failed_step_ends_the_sequences_that_wait_too)
{
    log_set_level(LOG_ERROR);
    struct scheduler_options options = scheduler_options_default();
    options.max_rows = 1;
    struct bench *bench =
        bench_open(roomy, options, (struct simulated_options){.collect_failures = 1.0});
    struct request_params params = ask(10, 5);
    params.n = 3;
    struct client *client = add(bench, params);
    run_out(bench);
    cr_assert_eq(counters_of(bench).failed_steps, 1);
    cr_assert_eq(counters_of(bench).finished[FINISH_ERROR], 3);
    expect_right(client);
    bench_close(bench);
}

/* Four blocks: the second would fit beside the first and be preempted when that one grows. */
Test(scheduler, admission_leaves_room_for_those_that_run)
{
    struct executor_capacity capacity = roomy;
    capacity.block_count = 4;
    struct bench *bench =
        bench_open(capacity, scheduler_options_default(), (struct simulated_options){0});
    struct client *first = add(bench, ask(30, 10)), *second = add(bench, ask(20, 10));
    run_out(bench);
    cr_assert_eq(second->stats.preemptions, 0);
    cr_assert_geq(second->stats.scheduled_us, first->stats.finish_us);
    expect_right(first);
    expect_right(second);
    bench_close(bench);
}

/* The n-th request for a block fails, in turn: the answers are the same, the law holds, and nothing
 * is stuck. */
Test(scheduler, fault_ladder_over_blocks)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        for (int64_t n = 1; n <= 40; n++) {
            struct bench *bench = bench_tight(depth);
            struct client *clients[3];
            for (int i = 0; i < 3; i++)
                clients[i] = add(bench, ask(12 + i, 60));
            block_pool_fail_after(bench->s->pool, n);
            run_out(bench);
            for (int i = 0; i < 3; i++)
                expect_right(clients[i]);
            bench_close(bench);
        }
    }
}

Test(scheduler, fault_ladder_over_memory)
{
    struct bench *bench = bench_default(1);
    struct request_params params = ask(12, 10);
    params.n = 3;
    struct client *client = client_create(&params, -1);
    enum status status;
    int64_t n = 0;
    do {
        struct error err = {0};
        alloc_fail_after(++n);
        status = client_add(client, bench->s, &err);
        scheduler_check(bench->s);
        cr_assert(status == ST_OK || status == ST_NO_MEMORY);
    } while (status);
    alloc_fail_after(0);
    /* The request, its list of branches; the trunk and the answers with their context of three
     * lists; two for each sequence. */
    cr_assert_eq(n, 2 + 1 + (1 + 4) + 2 * (1 + 3) + 1);
    run_out(bench);
    expect_right(client);
    bench_close(bench);
}

Test(scheduler, is_not_made_without_memory)
{
    struct simulated_options sim_options = {.capacity = roomy};
    sim_options.capacity.depth = 2;
    struct simulated *sim = simulated_create(&sim_options);
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *s = NULL;
    int64_t n = 0;
    enum status status;
    do {
        struct error err = {0};
        alloc_fail_after(++n);
        status = scheduler_create(&options, simulated_executor(sim), clock_monotonic(), &s, &err);
        cr_assert(status == ST_OK || status == ST_NO_MEMORY);
    } while (status);
    alloc_fail_after(0);
    cr_assert_gt(n, 10);
    scheduler_free(s);
    simulated_free(sim);
}

Test(scheduler, options_out_of_range_are_refused)
{
    struct simulated_options sim_options = {.capacity = roomy};
    struct simulated *sim = simulated_create(&sim_options);
    static const struct scheduler_options wrong[] = {
        {.max_rows = -1, .prefill_chunk = 1, .max_queue = 1},
        {.max_rows = 1, .prefill_chunk = 0, .max_queue = 1},
        {.max_rows = 1, .prefill_chunk = 1, .max_queue = 0},
    };
    static const char *const words[] = {"max-rows is -1", "prefill-chunk is 0", "max-queue is 0"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct scheduler *s;
        struct error err = {0};
        cr_assert_eq(
            scheduler_create(&wrong[i], simulated_executor(sim), clock_monotonic(), &s, &err),
            ST_INVALID);
        cr_assert(strstr(err.text, words[i]), "%s", err.text);
    }
    simulated_free(sim);
}

Test(scheduler, going_away_ends_everything)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_tight(depth);
        struct client *clients[6];
        for (int i = 0; i < 6; i++)
            clients[i] = add(bench, ask(20, 60));
        for (int i = 0; i < 9; i++)
            tick(bench);
        bench_close(bench);
        for (int i = 0; i < 6; i++) {
            cr_assert_eq(clients[i]->stats.reason, FINISH_ABORT);
            expect_right(clients[i]);
        }
    }
}

/* Once requests are in, ticks make no allocation at all: every one of them would fail here. */
Test(scheduler, ticks_allocate_nothing)
{
    struct bench *bench = bench_tight(2);
    struct client *clients[6];
    for (int i = 0; i < 6; i++)
        clients[i] = add(bench, ask(20, 60));
    alloc_fail_after(1);
    int ticks = 0;
    while (scheduler_tick(bench->s))
        ticks++;
    cr_assert_null(try_alloc(1, 1), "a tick used the allocation that was to fail");
    cr_assert_gt(ticks, 60);
    for (int i = 0; i < 6; i++)
        expect_right(clients[i]);
    bench_close(bench);
}
