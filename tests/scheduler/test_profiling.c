/* Profiling steps: every plan keeps the executor's contract (the simulated one stops the test
 * otherwise), a failing executor is told, and the predictor learns what steps take. */
#include "scheduler/profiling.h"
#include "support_policies.h"
#include "support_simulated_executor.h"

#include <criterion/criterion.h>
#include <math.h>

static struct profiling *open_profiling(struct simulated *sim, int64_t *now_us, int32_t max_rows,
                                        int32_t chunk, uint64_t seed)
{
    struct profiling *profiling;
    struct error err = {0};
    struct profiling_options options = {.executor = simulated_executor(sim),
                                        .clock = clock_virtual(now_us),
                                        .shared = SHARED_BLOCKS,
                                        .max_rows = max_rows,
                                        .prefill_chunk = chunk,
                                        .seed = seed};
    cr_assert_eq(profiling_create(&options, &profiling, &err), ST_OK, "%s", err.text);
    return profiling;
}

/* The simulated executor takes 1000 us a step and 10 us a token. */
Test(profiling, finds_what_the_executor_takes)
{
    int64_t now_us = 0;
    struct simulated_options options = {.capacity = {.depth = 2,
                                                     .block_count = 400,
                                                     .max_rows = 32,
                                                     .max_tokens = 300,
                                                     .max_context = 2048,
                                                     .vocab = 50},
                                        .now_us = &now_us};
    struct simulated *sim = simulated_create(&options);
    struct profiling *profiling = open_profiling(sim, &now_us, 32, 256, 1);
    struct error err = {0};
    double single_us;
    cr_assert_eq(profiling_single_row(profiling, 200000, &single_us, &err), ST_OK);
    cr_assert_eq(single_us, 1010);
    struct predictor predictor;
    struct step_prior prior = some_prior(single_us);
    predictor_init(&predictor, SHARED_BLOCKS, &prior);
    for (int i = 0; i < 200; i++)
        cr_assert_eq(profiling_step(profiling, &predictor, 10000, &err), ST_OK);
    cr_assert_eq(predictor.steps, 200);
    for (int32_t rows = 1; rows <= 32; rows++)
        for (int32_t tokens = 0; tokens <= 256; tokens += 64) {
            struct step_load load = {.decode_rows = rows,
                                     .prefill_tokens = tokens,
                                     .context_read = rows * 50,
                                     .prefill_attention = tokens * 100.0};
            double off = predictor_predict(&predictor, &load) / (1000 + 10.0 * (rows + tokens));
            cr_assert(off > 0.95 && off < 1.1, "%d rows, %d tokens: %g", rows, tokens, off);
        }
    profiling_free(profiling);
    simulated_free(sim);
}

/* Whatever the executor's size. */
Test(profiling, keeps_the_contract_of_any_executor)
{
    struct rng rng = {5};
    for (int i = 0; i < 300; i++) {
        int64_t now_us = 0;
        struct error err = {0};
        struct simulated_options options = {
            .capacity = {.depth = 1 + (int32_t)rng_below(&rng, 2),
                         .block_count = 2 + (int32_t)rng_below(&rng, 40),
                         .max_rows = 1 + (int32_t)rng_below(&rng, 12),
                         .max_tokens = 1 + (int32_t)rng_below(&rng, 60),
                         .max_context = 2 + (int32_t)rng_below(&rng, 90),
                         .vocab = 1 + (int32_t)rng_below(&rng, 50)},
            .now_us = &now_us};
        struct simulated *sim = simulated_create(&options);
        struct profiling *profiling =
            open_profiling(sim, &now_us, 1 + (int32_t)rng_below(&rng, 20),
                           1 + (int32_t)rng_below(&rng, 80), rng_next(&rng));
        double single_us;
        cr_assert_eq(profiling_single_row(profiling, 5000, &single_us, &err), ST_OK);
        struct predictor predictor;
        struct step_prior prior = some_prior(single_us);
        predictor_init(&predictor, SHARED_BLOCKS, &prior);
        for (int step = 0; step < 40; step++)
            cr_assert_eq(profiling_step(profiling, &predictor, 1500, &err), ST_OK);
        profiling_free(profiling);
        simulated_free(sim);
    }
}

/* No step is tried that the predictor expects to be long: not even one of a slow machine. */
Test(profiling, steps_are_as_short_as_is_asked)
{
    int64_t now_us = 0;
    struct simulated_options options = {.capacity = {.depth = 1,
                                                     .block_count = 400,
                                                     .max_rows = 32,
                                                     .max_tokens = 600,
                                                     .max_context = 2048,
                                                     .vocab = 50},
                                        .now_us = &now_us};
    struct simulated *sim = simulated_create(&options);
    struct profiling *profiling = open_profiling(sim, &now_us, 32, 512, 2);
    struct predictor predictor;
    struct step_prior prior = {1000, 10, 1, 0.01, 0.001};
    struct error err = {0};
    predictor_init(&predictor, SHARED_BLOCKS, &prior);
    int64_t longest = 0;
    for (int i = 0; i < 300; i++) {
        int64_t since_us = now_us;
        cr_assert_eq(profiling_step(profiling, &predictor, 3000, &err), ST_OK);
        longest = max_i64(longest, now_us - since_us);
    }
    cr_assert_leq(longest, 3300);
    cr_assert_geq(longest, 2000);
    profiling_free(profiling);
    simulated_free(sim);
}

Test(profiling, says_that_the_executor_failed)
{
    int64_t now_us = 0;
    struct simulated_options options = {.capacity = {.depth = 1,
                                                     .block_count = 40,
                                                     .max_rows = 4,
                                                     .max_tokens = 60,
                                                     .max_context = 200,
                                                     .vocab = 50},
                                        .seed = 3,
                                        .submit_failures = 0.2,
                                        .collect_failures = 0.2,
                                        .now_us = &now_us};
    struct simulated *sim = simulated_create(&options);
    struct profiling *profiling = open_profiling(sim, &now_us, 4, 32, 3);
    struct predictor predictor;
    struct step_prior prior = some_prior(1000);
    int64_t failed = 0, learned = 0;
    predictor_init(&predictor, SHARED_BLOCKS, &prior);
    for (int i = 0; i < 200; i++) {
        struct error err = {0};
        if (profiling_step(profiling, &predictor, 10000, &err) == ST_OK) {
            learned++;
            continue;
        }
        cr_assert_neq(err.text[0], '\0');
        failed++;
    }
    cr_assert_gt(failed, 20);
    cr_assert_eq(failed, simulated_counts(sim).failures);
    cr_assert_eq(predictor.steps, learned);
    profiling_free(profiling);
    simulated_free(sim);
}

Test(profiling, refuses_an_executor_without_room)
{
    struct simulated_options options = {.capacity = {.depth = 1,
                                                     .block_count = 1,
                                                     .max_rows = 1,
                                                     .max_tokens = 8,
                                                     .max_context = 16,
                                                     .vocab = 9}};
    struct simulated *sim = simulated_create(&options);
    struct profiling *profiling;
    struct error err = {0};
    struct profiling_options how = {
        .executor = simulated_executor(sim), .max_rows = 1, .prefill_chunk = 8};
    cr_assert_eq(profiling_create(&how, &profiling, &err), ST_INVALID);
    cr_assert_neq(err.text[0], '\0');
    simulated_free(sim);
}
