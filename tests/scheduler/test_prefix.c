/* What a request finds of those before it: computed tokens are counted by the executor, blocks by
 * the pool, answers against the simulated executor's own. */
#include "support_bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct bench *open_blocks(int32_t depth, int32_t blocks)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = depth;
    capacity.block_count = blocks;
    return bench_open(capacity, scheduler_options_default(), (struct simulated_options){0});
}

static int32_t ids[1024];

static struct request_params ask(int32_t prompt_count, int32_t max_tokens)
{
    return (struct request_params){
        .prompt = ids, .prompt_count = prompt_count, .n = 1, .max_tokens = max_tokens};
}

static void fill_prompt(void)
{
    for (int32_t i = 0; i < (int32_t)COUNT_OF(ids); i++)
        ids[i] = (i * 31 + 7) % VOCAB;
}

/* Its answer is right, and `cached` of its prompt were found. */
static void expect(struct client *client, int32_t cached)
{
    const char *mistake = client_mistake(client, VOCAB, ids, NULL);
    cr_assert_null(mistake, "%s", mistake);
    cr_assert_eq(client->stats.cached_tokens, cached, "%d cached, expected %d",
                 client->stats.cached_tokens, cached);
    client_free(client);
}

static int64_t computed(const struct bench *bench)
{
    return simulated_counts(bench->sim).tokens;
}

TestSuite(prefix, .init = fill_prompt);

Test(prefix, the_second_request_computes_only_what_is_new)
{
    /* The last token is always computed: of 64 tokens three blocks are found, of 65 four. */
    static const int32_t cases[][2] = {{64, 48}, {65, 64}, {79, 64}, {16, 0}, {17, 16}, {5, 0}};
    for (int32_t depth = 1; depth <= 2; depth++)
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            struct bench *bench = open_blocks(depth, 64);
            struct client *first = add(bench, ask(cases[i][0], 1));
            run_out(bench);
            expect(first, 0);
            int64_t before = computed(bench);
            cr_assert_eq(before, cases[i][0]);
            struct client *second = add(bench, ask(cases[i][0], 1));
            run_out(bench);
            expect(second, cases[i][1]);
            cr_assert_eq(computed(bench) - before, cases[i][0] - cases[i][1]);
            bench_close(bench);
        }
}

Test(prefix, the_next_turn_of_a_chat_finds_the_answer_too)
{
    struct bench *bench = open_blocks(1, 64);
    struct sample_spec greedy = {0};
    struct client *first = add(bench, ask(40, 30));
    run_out(bench);
    expect(first, 0);
    simulated_answer(VOCAB, ids, 40, &greedy, 30, ids + 40);
    /* 70 tokens, of which the last sampled one was never computed: four blocks are complete. */
    struct client *next = add(bench, ask(90, 10));
    run_out(bench);
    expect(next, 64);
    bench_close(bench);
}

Test(prefix, a_salt_is_a_world_of_its_own)
{
    struct bench *bench = open_blocks(1, 64);
    struct request_params a = ask(64, 4), b = ask(64, 4);
    a.cache_salt = "a", a.cache_salt_length = 1;
    b.cache_salt = "b", b.cache_salt_length = 1;
    struct request_params order[] = {a, b, ask(64, 4), a, b, ask(64, 4)};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        struct client *client = add(bench, order[i]);
        run_out(bench);
        expect(client, i < 3 ? 0 : 48);
    }
    bench_close(bench);
}

Test(prefix, a_prompt_that_is_scored_is_computed)
{
    struct bench *bench = open_blocks(1, 64);
    for (int i = 0; i < 2; i++) {
        struct request_params params = ask(64, 4);
        params.score_prompt = true;
        int64_t before = computed(bench);
        struct client *client = add(bench, params);
        run_out(bench);
        expect(client, 0);
        cr_assert_eq(computed(bench) - before, 64 + 3);
    }
    bench_close(bench);
}

/* n answers at once: one computes the prompt, the others wait and compute the rest of a block. */
Test(prefix, n_answers_compute_the_prompt_once)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_blocks(depth, 256);
        struct request_params params = ask(250, 8);
        params.n = 8;
        params.sample = (struct sample_spec){.temperature = 1, .top_p = 1, .seed = 5};
        struct client *client = add(bench, params);
        run_out(bench);
        expect(client, 0);
        int64_t decoded = 8 * (8 - 1), rest = 250 % 16;
        cr_assert_leq(computed(bench), 250 + 7 * rest + decoded);
        bench_close(bench);
    }
}

Test(prefix, questions_on_one_document_together_compute_it_once)
{
    struct bench *bench = open_blocks(1, 256);
    struct client *clients[8];
    for (int i = 0; i < 8; i++)
        clients[i] = add(bench, ask(200 + i, 4));
    run_out(bench);
    cr_assert_leq(computed(bench), 208 + 7 * 16 + 8 * 3);
    for (int i = 0; i < 8; i++)
        expect(clients[i], i == 0 ? 0 : 192);
    bench_close(bench);
}

Test(prefix, the_least_recently_used_goes_first)
{
    struct bench *bench = open_blocks(1, 8);
    struct client *a = add(bench, ask(64, 1)); /* four blocks */
    run_out(bench);
    expect(a, 0);
    for (int32_t i = 0; i < 64; i++)
        ids[i] = (ids[i] + 1) % VOCAB;
    struct client *b = add(bench, ask(90, 1)); /* five of its own, six with its end */
    run_out(bench);
    expect(b, 0);
    fill_prompt();
    a = add(bench, ask(64, 1)); /* the end of it had to go, its beginning is there */
    run_out(bench);
    expect(a, 32);
    bench_close(bench);
}

/* What preemption took is found again where nobody needed the room. */
Test(prefix, after_preemption_little_is_recomputed)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_blocks(depth, 8);
        struct client *clients[3];
        for (int i = 0; i < 3; i++)
            clients[i] = add(bench, ask(10, 100));
        run_out(bench);
        cr_assert_gt(clients[2]->stats.preemptions, 0);
        for (int i = 0; i < 3; i++)
            expect(clients[i], 0);
        bench_close(bench);
    }
}

/* With two steps in flight a row may have computed a token that was then refused: its slot holds
 * what nobody can name, and must not be left as if it were the token 0. */
Test(prefix, a_token_that_was_refused_leaves_nothing)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = 2;
    struct bench *bench = bench_open(capacity, scheduler_options_default(),
                                     (struct simulated_options){.bad_tokens = 1});
    struct client *client = add(bench, ask(15, 4));
    run_out(bench);
    cr_assert_eq(client->streams[0].reason, FINISH_ERROR);
    cr_assert_eq(simulated_counts(bench->sim).tokens, 16, "the refused token was not computed");
    cr_assert_eq(block_pool_counts(bench->s->pool).cached, 0);
    client_free(client);
    bench_close(bench);
}
