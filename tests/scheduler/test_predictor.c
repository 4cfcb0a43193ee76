/* The step-latency predictor: it finds what steps cost, follows a change, and is not led astray. */
#include "scheduler/predictor.h"
#include "support_policies.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* Microseconds of a made-up machine, whose every part is `scale` times as slow. */
static double truth(const struct step_load *load, double scale)
{
    return scale * (15000 + 110.0 * load->decode_rows + 0.07 * (double)load->context_read +
                    95.0 * load->prefill_tokens + 0.005 * load->prefill_attention);
}

static struct step_load some_load(struct rng *rng)
{
    int32_t rows = 1 + (int32_t)rng_below(rng, 150), tokens = (int32_t)rng_below(rng, 512);
    if (rng_unit(rng) < 0.5) tokens = 0;
    return (struct step_load){.decode_rows = rows,
                              .prefill_tokens = tokens,
                              .context_read = rows * (int64_t)(300 + rng_below(rng, 2000)),
                              .prefill_attention = tokens * 2000 * rng_unit(rng)};
}

/* The prior is of another machine, of which a single row takes as long. */
static void start(struct predictor *predictor)
{
    struct step_prior prior = some_prior(15000);
    predictor_init(predictor, SHARED_NONE, &prior);
}

static void teach(struct predictor *predictor, struct rng *rng, int32_t steps, double scale)
{
    for (int32_t i = 0; i < steps; i++) {
        struct step_load load = some_load(rng);
        predictor_observe(predictor, &load, truth(&load, scale) * exp(0.04 * rng_normal(rng)));
    }
}

static double mean_error(const struct predictor *predictor, double scale)
{
    struct rng rng = {99};
    double sum = 0;
    for (int i = 0; i < 500; i++) {
        struct step_load load = some_load(&rng);
        sum += fabs(predictor_predict(predictor, &load) / truth(&load, scale) - 1);
    }
    return sum / 500;
}

Test(predictor, finds_what_each_part_costs)
{
    struct predictor predictor;
    struct rng rng = {7};
    start(&predictor);
    teach(&predictor, &rng, 300, 1);
    cr_assert_lt(mean_error(&predictor, 1), 0.01);
    cr_assert_eq(predictor.steps, 300);
}

Test(predictor, follows_a_machine_that_becomes_slower_or_faster)
{
    static const double scales[] = {2, 0.5, 1.3};
    struct predictor predictor;
    struct rng rng = {8};
    start(&predictor);
    teach(&predictor, &rng, 500, 1);
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        teach(&predictor, &rng, 2500, scales[i]);
        cr_assert_lt(mean_error(&predictor, scales[i]), 0.03, "%g times: %g", scales[i],
                     mean_error(&predictor, scales[i]));
    }
}

Test(predictor, a_step_that_stood_still_moves_it_little)
{
    struct predictor predictor;
    struct rng rng = {9};
    start(&predictor);
    teach(&predictor, &rng, 500, 1);
    for (int i = 0; i < 5; i++) {
        struct step_load load = some_load(&rng);
        predictor_observe(&predictor, &load, 5e6);
        teach(&predictor, &rng, 20, 1);
    }
    cr_assert_lt(mean_error(&predictor, 1), 0.03, "%g", mean_error(&predictor, 1));
}

Test(predictor, garbage_is_not_learned)
{
    static const double garbage[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e12};
    struct predictor predictor, before;
    struct rng rng = {10};
    start(&predictor);
    teach(&predictor, &rng, 100, 1);
    before = predictor;
    for (size_t i = 0; i < COUNT_OF(garbage); i++) {
        struct step_load load = some_load(&rng);
        predictor_observe(&predictor, &load, garbage[i]);
    }
    cr_assert_eq(predictor.steps, before.steps);
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++)
        cr_assert_eq(predictor.weight[i], before.weight[i]);
}

/* One kind of step for hours: what it says nothing about must not drift away. */
Test(predictor, hours_of_the_same_step)
{
    struct predictor predictor;
    struct rng rng = {11};
    start(&predictor);
    teach(&predictor, &rng, 500, 1);
    struct step_load same = {.decode_rows = 16, .context_read = 16000};
    for (int i = 0; i < 200000; i++)
        predictor_observe(&predictor, &same, truth(&same, 1) * exp(0.04 * rng_normal(&rng)));
    cr_assert_float_eq(predictor_predict(&predictor, &same), truth(&same, 1),
                       0.02 * truth(&same, 1));
    struct step_load other = {.decode_rows = 100, .context_read = 150000, .prefill_tokens = 256};
    double off = predictor_predict(&predictor, &other) / truth(&other, 1);
    cr_assert(off > 0.5 && off < 2, "%g of a step it has not seen for long", off);
}

/* --- what it promises of every prediction */

static double predict(const struct predictor *predictor, int32_t rows, int32_t tokens,
                      int64_t context, double attention)
{
    return predictor_predict(predictor, &(struct step_load){.decode_rows = rows,
                                                            .prefill_tokens = tokens,
                                                            .context_read = context,
                                                            .prefill_attention = attention});
}

static void promises(const struct predictor *predictor, uint64_t seed)
{
    struct rng rng = {seed};
    for (int i = 0; i < 2000; i++) {
        struct step_load load = some_load(&rng);
        int32_t rows = load.decode_rows, tokens = load.prefill_tokens;
        if (i % 5 == 0) rows *= 40;
        if (i % 7 == 0) tokens *= 50;
        int64_t context = load.context_read;
        double attention = load.prefill_attention;
        double us = predict(predictor, rows, tokens, context, attention);
        cr_assert(isfinite(us) && us > 0, "%g us", us);
        cr_assert_gt(predict(predictor, rows + 1, tokens, context, attention), us);
        cr_assert_geq(predict(predictor, rows, tokens + 1, context, attention), us);
        cr_assert_gt(predict(predictor, rows, tokens + 1, context, attention + 1), us);
        cr_assert_gt(predict(predictor, rows, tokens, context + 1, attention), us);
    }
}

Test(predictor, nothing_known_is_the_prior_or_slower)
{
    struct predictor predictor;
    struct step_prior prior = {3000, 50, 10, 0.1, 0.01};
    predictor_init(&predictor, SHARED_NONE, &prior);
    promises(&predictor, 1);
    cr_assert_geq(predict(&predictor, 1, 0, 0, 0), 3060);
    cr_assert_leq(predict(&predictor, 1, 0, 0, 0), 1.5 * 3060);
    cr_assert_geq(predict(&predictor, 40, 500, 9000, 70000), 3000 + 540 * 50 + 400 + 900 + 700);
}

/* Eight steps of one row, on a machine that has the prior's proportions, about. */
Test(predictor, few_steps_leave_it_on_the_slow_side)
{
    struct predictor predictor;
    struct rng rng = {12};
    struct step_prior guess = {15000, 80, 30, 0.07, 0.005};
    struct step_prior prior = step_prior_scaled(&guess, 4 * 15110);
    predictor_init(&predictor, SHARED_NONE, &prior);
    for (int i = 0; i < 8; i++) {
        struct step_load one = {.decode_rows = 1, .context_read = 100};
        predictor_observe(&predictor, &one, truth(&one, 4) * exp(0.04 * rng_normal(&rng)));
    }
    promises(&predictor, 2);
    for (int32_t rows = 2; rows <= 256; rows *= 2) {
        struct step_load load = {.decode_rows = rows, .context_read = 100 * rows};
        double off = predictor_predict(&predictor, &load) / truth(&load, 4);
        cr_assert(off > 1 && off < 1.3, "%d rows: %g", rows, off);
    }
}

/* Steps that become faster with every row, and others of any length. */
Test(predictor, promises_hold_whatever_it_is_taught)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct predictor predictor;
        struct rng rng = {seed};
        start(&predictor);
        for (int i = 0; i < 1000; i++) {
            struct step_load load = some_load(&rng);
            double us = seed % 2 ? 1e6 / (load.decode_rows + load.prefill_tokens)
                                 : exp(700 * (2 * rng_unit(&rng) - 1));
            predictor_observe(&predictor, &load, us);
            if (i % 100 == 99) promises(&predictor, seed + (uint64_t)i);
        }
    }
}

/* --- kept */

Test(predictor, goes_on_where_it_was_kept)
{
    static double numbers[PREDICTOR_NUMBERS];
    struct predictor predictor, again;
    struct rng rng = {13}, same;
    start(&predictor);
    teach(&predictor, &rng, 200, 1.5);
    predictor_save(&predictor, numbers);
    start(&again);
    cr_assert(predictor_restore(&again, numbers));
    same = rng;
    teach(&predictor, &rng, 50, 1.5);
    teach(&again, &same, 50, 1.5);
    struct rng loads = {14};
    for (int i = 0; i < 100; i++) {
        struct step_load load = some_load(&loads);
        cr_assert_eq(predictor_predict(&again, &load), predictor_predict(&predictor, &load));
    }
}

Test(predictor, what_no_predictor_kept_is_refused)
{
    static double numbers[PREDICTOR_NUMBERS], broken[PREDICTOR_NUMBERS];
    static const double wrong[] = {NAN, INFINITY, -INFINITY, -1e30, 1e30};
    struct predictor predictor, again;
    struct rng rng = {15};
    start(&predictor);
    teach(&predictor, &rng, 200, 1);
    predictor_save(&predictor, numbers);
    start(&again);
    for (int at = 0; at < PREDICTOR_NUMBERS; at++)
        for (size_t i = 0; i < COUNT_OF(wrong); i++) {
            memcpy(broken, numbers, sizeof broken);
            broken[at] = wrong[i];
            cr_assert(!predictor_restore(&again, broken), "number %d as %g", at, wrong[i]);
        }
    cr_assert_eq(again.steps, 0);
}
