/* When a first token would come, and who is refused for it: the arithmetic on states made by hand,
 * and the scheduler's and the engine's own states. */
#include "support_bench.h"
#include "support_policies.h"

#include "scheduler/engine.h"
#include "scheduler/known_blocks.h"
#include "scheduler/predictor.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct ttft_work none;

static struct ttft_work prompt(int64_t tokens)
{
    return (struct ttft_work){
        .tokens = tokens, .blocks = blocks_for_slots((int32_t)tokens), .requests = 1};
}

/* --- the line */

Test(ttft, what_is_of_higher_priority_stands_before)
{
    struct ttft_line line = {0};
    struct ttft_work work = prompt(100);
    const int32_t priorities[] = {3, -1, 3, 0};
    for (size_t i = 0; i < COUNT_OF(priorities); i++)
        ttft_line_add(&line, priorities[i], &work);
    cr_assert_eq(line.count, 3);
    cr_assert_eq(ttft_line_before(&line, -2).tokens, 0);
    cr_assert_eq(ttft_line_before(&line, -1).tokens, 100);
    cr_assert_eq(ttft_line_before(&line, 2).tokens, 200);
    struct ttft_work all = ttft_line_before(&line, 3);
    cr_assert_eq(all.tokens, 400);
    cr_assert_eq(all.requests, 4);
    cr_assert_eq(all.blocks, 4 * 7);
    struct ttft_line twice = line;
    ttft_line_add_all(&twice, &line);
    cr_assert_eq(ttft_line_before(&twice, 0).tokens, 400);
}

/* Of many priorities it never says that more stands before a request than does, and of the lowest
 * one that all does. */
Test(ttft, more_priorities_than_levels_make_less_stand_before)
{
    struct rng rng = {7};
    for (int round = 0; round < 200; round++) {
        struct ttft_line line = {0};
        int32_t priorities[30];
        for (size_t i = 0; i < COUNT_OF(priorities); i++) {
            struct ttft_work work = prompt(16);
            priorities[i] = (int32_t)rng_below(&rng, 1 + (uint64_t)round / 4);
            ttft_line_add(&line, priorities[i], &work);
        }
        cr_assert_leq(line.count, TTFT_LEVELS);
        for (int32_t priority = 0; priority <= 50; priority++) {
            int32_t right = 0;
            for (size_t i = 0; i < COUNT_OF(priorities); i++)
                right += priorities[i] <= priority;
            int32_t found = ttft_line_before(&line, priority).requests;
            cr_assert_leq(found, right);
            if (round < 4 * TTFT_LEVELS) cr_assert_eq(found, right);
        }
        cr_assert_eq(ttft_line_before(&line, 50).requests, COUNT_OF(priorities));
    }
}

/* --- the prediction */

static const struct ttft_outlook busy = {.at_us = 1000000,
                                         .chunk = 100,
                                         .step_us = 10000,
                                         .token_us = 100,
                                         .attention_us = 0.001,
                                         .running = 10,
                                         .places = 6,
                                         .blocks_free = 1000};

Test(ttft, prompts_are_computed_a_chunk_a_step)
{
    struct ttft_work own = prompt(50), before = prompt(250);
    cr_assert_float_eq(ttft_predict(&busy, 1000000, &none, &own), 10000 + 5000, 1e-6);
    cr_assert_float_eq(ttft_predict(&busy, 1000000, &before, &own), 30000 + 30000, 1e-6);
    before.attention = 1e6;
    cr_assert_float_eq(ttft_predict(&busy, 1000000, &before, &own), 61000, 1e-6);
}

Test(ttft, a_step_that_runs_already_is_shorter_by_what_is_over)
{
    struct ttft_work own = prompt(50), before = prompt(250);
    cr_assert_float_eq(ttft_predict(&busy, 1007000, &before, &own), 53000, 1e-6);
    cr_assert_float_eq(ttft_predict(&busy, 9000000, &before, &own), 40000, 1e-6, "a step at most");
    cr_assert_float_eq(ttft_predict(&busy, 9000000, &none, &own), 15000, 1e-6, "never its own");
    struct ttft_outlook idle = busy;
    idle.running = 0;
    cr_assert_float_eq(ttft_predict(&idle, 9000000, &before, &own), 60000, 1e-6);
    cr_assert_eq(ttft_predict(&idle, 9000000, &none, &own), 0, "nobody is there");
}

Test(ttft, places_come_when_requests_end)
{
    struct ttft_outlook full = busy;
    struct ttft_work own = prompt(50), before = {.requests = 14};
    full.residence_us = 1e6;
    before.requests = 5;
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 15000, 1e-6);
    before.requests = 14; /* 15 wait for 6 places: 9 of 10 must end, a tenth of a second each */
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 1e5 * (9 - 3) + 15000, 1e-6);
    full.residence_us = 0;
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 15000, 1e-6, "not known");
    full.residence_us = 1e6;
    full.running = 0;
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 15000, 1e-6, "nobody runs");
}

Test(ttft, blocks_come_when_requests_end)
{
    struct ttft_outlook full = busy;
    struct ttft_work own = prompt(50), before = {.requests = 3, .blocks = 1000 + 160 - 4};
    full.residence_us = 1e6;
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 15000, 1e-6, "not known");
    full.admitted_blocks = 10;
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 1e5 * (16 - 4) + 15000, 1e-6);
    full.blocks_free = -40; /* fewer than those that run may ask for */
    before.blocks = 50 - 4 + 400;
    cr_assert_float_eq(ttft_predict(&full, 1000000, &before, &own), 1e5 * (49 - 7) + 15000, 1e-6);
}

Test(ttft, nothing_known_predicts_nothing)
{
    struct ttft_outlook nothing = {0};
    struct ttft_work much = prompt(1 << 30);
    cr_assert_eq(ttft_predict(&nothing, 5, &much, &much), 0);
}

Test(ttft, refuses_beyond_the_limit_alone)
{
    struct ttft_verdict verdict = {0};
    cr_assert(ttft_in_time(1e12, 0, &verdict), "no limit");
    cr_assert(ttft_in_time(2e6, 2000000, &verdict));
    cr_assert(ttft_in_time(NAN, 2000000, &verdict));
    cr_assert_eq(verdict.retry_s, 0);
    cr_assert_not(ttft_in_time(2000001, 2000000, &verdict));
    cr_assert_eq(verdict.limit_us, 2000000);
    cr_assert_eq(verdict.retry_s, 1);
    cr_assert_not(ttft_in_time(5.2e6, 2000000, &verdict));
    cr_assert_eq(verdict.retry_s, 4, "%d", verdict.retry_s);
    cr_assert_not(ttft_in_time(1e300, 2000000, &verdict));
    cr_assert_eq(verdict.retry_s, 60);
    struct error err = {0};
    verdict.predicted_us = 5.2e6;
    cr_assert_eq(ttft_fail(&verdict, &err), ST_LATE);
    cr_assert(strstr(err.text, "5.2 s") && strstr(err.text, "2 s"), "%s", err.text);
}

Test(ttft, admission_has_two_names)
{
    enum admission admission = ADMISSION_QUEUE;
    struct error err = {0};
    cr_assert_eq(admission_parse("refuse", &admission, &err), ST_OK);
    cr_assert_eq(admission, ADMISSION_REFUSE);
    cr_assert_eq(admission_parse("queue", &admission, &err), ST_OK);
    cr_assert_eq(admission, ADMISSION_QUEUE);
    cr_assert_eq(admission_parse("Refuse", &admission, &err), ST_USAGE);
    cr_assert(strstr(err.text, "'Refuse'") && strstr(err.text, "queue or refuse"), "%s", err.text);
}

/* --- known blocks */

Test(known_blocks, what_was_added_is_found_to_its_last_complete_block)
{
    struct block_hasher hasher = {1, 2};
    struct block_key root = block_key_root(&hasher, NULL, 0),
                     other = block_key_root(&hasher, "x", 1);
    struct known_blocks *known = known_blocks_create(32);
    int32_t tokens[100];
    for (int32_t i = 0; i < 100; i++)
        tokens[i] = i * 7 % 50;
    cr_assert_eq(known_blocks_find(known, &hasher, root, tokens, 100), 0);
    known_blocks_add_prompt(known, &hasher, root, tokens, 70);
    cr_assert_eq(known_blocks_find(known, &hasher, root, tokens, 100), 64);
    cr_assert_eq(known_blocks_find(known, &hasher, root, tokens, 63), 48);
    cr_assert_eq(known_blocks_find(known, &hasher, other, tokens, 100), 0, "another salt");
    tokens[20]++;
    cr_assert_eq(known_blocks_find(known, &hasher, root, tokens, 100), 16);
    known_blocks_free(known);
}

Test(known_blocks, forgets_names_and_stays_within_its_memory)
{
    struct block_hasher hasher = {1, 2};
    struct block_key root = block_key_root(&hasher, NULL, 0);
    struct known_blocks *known = known_blocks_create(1); /* 64 places */
    enum { COUNT = 4096 };
    int32_t *tokens = must_alloc(COUNT * sizeof *tokens);
    for (int32_t i = 0; i < COUNT; i++)
        tokens[i] = i;
    known_blocks_add_prompt(known, &hasher, root, tokens, COUNT);
    cr_assert_eq(known_blocks_find(known, &hasher, root, tokens, COUNT), COUNT,
                 "the last one is there");
    cr_assert_lt(known_blocks_find(known, &hasher, root, tokens, 64), 64, "early ones are not");
    free(tokens);
    known_blocks_free(known);
}

/* --- the scheduler */

/* A step takes a millisecond, and a hundredth of one for each token of a prompt; as the simulated
 * executor's clock runs. */
static double predict(const void *self, const struct step_load *load)
{
    (void)self;
    return 1000 + 10.0 * (load->prefill_tokens + load->decode_rows);
}

static const struct step_predictor exact = {.predict = predict, .shared = SHARED_BLOCKS};

static struct scheduler_options refusing(void)
{
    struct scheduler_options options = scheduler_options_default();
    options.prefill_chunk = 32;
    options.predictor = exact;
    options.admission = ADMISSION_REFUSE;
    return options;
}

static struct request_params ask(const int32_t *tokens, int32_t count, int64_t ttft_us)
{
    return (struct request_params){.prompt = tokens,
                                   .prompt_count = count,
                                   .n = 1,
                                   .max_tokens = 4,
                                   .slo = {.ttft_us = ttft_us}};
}

/* 128 tokens that no other `text` has. */
static const int32_t *text(int32_t number)
{
    static int32_t tokens[128];
    for (int32_t i = 0; i < 128; i++)
        tokens[i] = (int32_t)(rng_at((uint64_t)number, (uint64_t)i) % VOCAB);
    return tokens;
}

static enum status try_add(struct bench *bench, struct request_params params, struct error *err)
{
    uint64_t id = 0;
    struct client *client = client_create(&params, -1);
    enum status status = scheduler_add(bench->s, &client->params, &id, err);
    client_free(client);
    return status;
}

Test(admission, refuses_who_would_be_late_and_nobody_else)
{
    struct bench *bench = bench_open(roomy, refusing(), (struct simulated_options){0});
    struct scheduler_counters counters;
    struct error err = {0};
    struct client *clients[5];
    /* 128 tokens are 4 steps of 1.32 ms: each stands behind those before it. */
    for (int32_t i = 0; i < 5; i++)
        clients[i] = add(bench, ask(text(i), 128, i == 0 ? 1 : (i + 1) * 5280)); /* alone: taken */
    cr_assert_eq(try_add(bench, ask(text(9), 128, 6 * 5280 - 1), &err), ST_LATE);
    cr_assert(strstr(err.text, "0.03168 s"), "%s", err.text);
    scheduler_counters(bench->s, &counters);
    cr_assert_eq(counters.waiting, 5, "a request that is refused leaves nothing");
    scheduler_check(bench->s);
    struct client *patient = add(bench, ask(text(7), 128, 0)); /* no limit: never refused */
    run_out(bench);
    for (int32_t i = 1; i < 5; i++) {
        const struct request_stats *stats = &clients[i]->stats;
        cr_assert_leq(stats->first_token_us - stats->arrival_us, (i + 1) * 5280 + 5 * 1320);
        client_free(clients[i]);
    }
    client_free(clients[0]);
    client_free(patient);
    struct client *later = add(bench, ask(text(9), 128, 6 * 5280 - 1)); /* there is room again */
    run_out(bench);
    client_free(later);
    bench_close(bench);
}

Test(admission, queues_everybody_unless_asked_to_refuse)
{
    struct scheduler_options queues = refusing(), blind = refusing();
    queues.admission = ADMISSION_QUEUE;
    blind.predictor = (struct step_predictor){0};
    const struct scheduler_options options[] = {queues, blind};
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        struct bench *bench = bench_open(roomy, options[i], (struct simulated_options){0});
        struct client *client = add(bench, ask(text(0), 128, 1));
        run_out(bench);
        client_free(client);
        bench_close(bench);
    }
}

Test(admission, who_comes_first_by_priority_is_judged_by_those_before_it)
{
    struct bench *bench = bench_open(roomy, refusing(), (struct simulated_options){0});
    struct error err = {0};
    struct client *clients[4];
    for (int32_t i = 0; i < 4; i++)
        clients[i] = add(bench, ask(text(i), 128, 0));
    struct request_params urgent = ask(text(8), 128, 5280);
    cr_assert_eq(try_add(bench, urgent, &err), ST_LATE);
    urgent.priority = -1;
    struct client *client = add(bench, urgent);
    run_out(bench);
    /* Those behind it have a token each in its four steps: it takes a fifth. */
    cr_assert_leq(client->stats.first_token_us - client->stats.arrival_us, 5 * 1320);
    for (int32_t i = 0; i < 4; i++)
        client_free(clients[i]);
    client_free(client);
    bench_close(bench);
}

Test(admission, a_prompt_that_is_known_costs_what_is_left_of_it)
{
    struct bench *bench = bench_open(roomy, refusing(), (struct simulated_options){0});
    struct error err = {0};
    struct client *first = add(bench, ask(text(0), 128, 0));
    /* The first is computed for both; of the second, one step is its own. */
    cr_assert_eq(try_add(bench, ask(text(0), 128, 5280), &err), ST_LATE);
    struct client *second = add(bench, ask(text(0), 128, 5280 + 1320));
    run_out(bench);
    struct client *other = add(bench, ask(text(5), 32, 0));
    struct request_params scored = ask(text(0), 128, 6599);
    scored.score_prompt = true; /* all of it is computed: with the other's 5 steps */
    cr_assert_eq(try_add(bench, scored, &err), ST_LATE);
    struct client *third = add(bench, ask(text(0), 128, 2330)); /* 2, of 33 tokens */
    run_out(bench);
    cr_assert_gt(third->stats.cached_tokens, 96);
    client_free(other);
    client_free(first);
    client_free(second);
    client_free(third);
    bench_close(bench);
}

/* Both places are taken for about 100 steps, and 13 wait for them: whoever comes when it is known
 * how long requests stay is the 14th to wait. */
Test(admission, waits_for_places_count)
{
    struct scheduler_options options = refusing();
    options.max_rows = 2;
    struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
    struct error err = {0};
    struct client *clients[16];
    struct request_params params = ask(text(0), 20, 0);
    params.max_tokens = 100;
    clients[0] = add(bench, params);
    run_out(bench); /* now the mean time to the end is known: 100 steps and more */
    for (int32_t i = 1; i < 16; i++) {
        params.prompt = text(i);
        clients[i] = add(bench, params);
    }
    tick(bench);
    params.prompt = text(20);
    params.max_tokens = 1;
    params.slo.ttft_us = 200000; /* 14 must end, two at a time: 14 - 3.7 of them take 0.5 s */
    cr_assert_eq(try_add(bench, params, &err), ST_LATE);
    params.slo.ttft_us = 600000;
    struct client *client = add(bench, params);
    run_out(bench);
    int64_t waited_us = client->stats.first_token_us - client->stats.arrival_us;
    cr_assert(waited_us > 500000 && waited_us < 1000000, "%lld", (long long)waited_us);
    client_free(client);
    for (int32_t i = 0; i < 16; i++)
        client_free(clients[i]);
    bench_close(bench);
}

Test(admission, what_a_request_has_waited_counts_and_who_has_no_token_is_not_judged)
{
    struct bench *bench = bench_open(roomy, refusing(), (struct simulated_options){0});
    struct error err = {0};
    bench->now_us = 1000000;
    struct request_params long_ago = ask(text(5), 32, 100);
    long_ago.arrival_us = 1;
    struct client *other = add(bench, long_ago);            /* late already, but it is alone */
    struct request_params params = ask(text(0), 128, 7000); /* 6600 with the other's */
    params.arrival_us = 1000000 - 401;
    cr_assert_eq(try_add(bench, params, &err), ST_LATE);
    params.arrival_us = 1000000 - 400;
    struct client *client = add(bench, params);
    params.max_tokens = 0;
    params.slo.ttft_us = 1;
    struct client *scored = add(bench, params);
    run_out(bench);
    client_free(other);
    client_free(scored);
    client_free(client);
    bench_close(bench);
}

/* It was told that a step of one row takes a second; whoever comes to an idle scheduler is taken,
 * and it learns. */
Test(admission, a_predictor_that_is_wrong_cannot_refuse_everybody_for_ever)
{
    struct scheduler_options options = refusing();
    struct predictor predictor;
    struct step_prior prior = some_prior(1e6);
    predictor_init(&predictor, SHARED_BLOCKS, &prior);
    options.predictor = predictor_door(&predictor);
    struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
    struct error err = {0};
    int32_t taken = 0, tries = 0, refused = 0;
    for (; taken < 20 && tries < 2000; tries++) {
        struct client *first = add(bench, ask(text(2 * tries), 128, 100000));
        struct request_params params = ask(text(2 * tries + 1), 128, 100000);
        struct client *second = client_create(&params, -1);
        enum status status = client_add(second, bench->s, &err);
        cr_assert(status == ST_OK || (status == ST_LATE && tries < 1999));
        refused += status == ST_LATE;
        taken = status ? 0 : taken + 1;
        run_out(bench);
        client_free(first);
        client_free(second);
    }
    cr_assert_gt(refused, 0, "it was not wrong");
    cr_assert_eq(taken, 20, "of those that came second, %d were taken in a row", taken);
    bench_close(bench);
}
