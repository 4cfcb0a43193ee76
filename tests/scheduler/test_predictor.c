/* The step-latency predictor: it finds what steps cost, follows a change, and is not led astray. */
#include "scheduler/predictor.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>

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
    predictor_init(&predictor, SHARED_NONE);
    cr_assert_eq(predictor_predict(&predictor, &(struct step_load){.decode_rows = 9}), 0);
    teach(&predictor, &rng, 300, 1);
    cr_assert_lt(mean_error(&predictor, 1), 0.01);
    cr_assert_eq(predictor.steps, 300);
}

Test(predictor, follows_a_machine_that_becomes_slower_or_faster)
{
    static const double scales[] = {2, 0.5, 1.3};
    struct predictor predictor;
    struct rng rng = {8};
    predictor_init(&predictor, SHARED_NONE);
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
    predictor_init(&predictor, SHARED_NONE);
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
    static const double garbage[] = {NAN, INFINITY, -INFINITY, -1};
    struct predictor predictor, before;
    struct rng rng = {10};
    predictor_init(&predictor, SHARED_NONE);
    teach(&predictor, &rng, 100, 1);
    before = predictor;
    for (size_t i = 0; i < COUNT_OF(garbage); i++) {
        struct step_load load = some_load(&rng);
        predictor_observe(&predictor, &load, garbage[i]);
    }
    cr_assert_eq(predictor.steps, before.steps);
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        cr_assert_eq(predictor.weight[i], before.weight[i]);
}

/* One kind of step for hours: what it says nothing about must not drift away. */
Test(predictor, hours_of_the_same_step)
{
    struct predictor predictor;
    struct rng rng = {11};
    predictor_init(&predictor, SHARED_NONE);
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
