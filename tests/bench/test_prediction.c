/* How well recorded steps could have been predicted. */
#include "bench/prediction.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define STEPS 3000

/* Steps of 1 to 8 rows on a machine that is exactly linear but for its noise. */
static void fill(struct step_sample *samples, double noise)
{
    struct rng rng = {4};
    for (int i = 0; i < STEPS; i++) {
        int32_t rows = 1 + (int32_t)rng_below(&rng, 8);
        int32_t tokens = rng_unit(&rng) < 0.2 ? (int32_t)rng_below(&rng, 200) : 0;
        struct step_load load = {.decode_rows = rows,
                                 .prefill_tokens = tokens,
                                 .context_read = rows * (int64_t)(100 + rng_below(&rng, 300)),
                                 .prefill_attention = tokens * 100.0};
        double us = 2500 + 300.0 * (rows + tokens) + 0.1 * (double)load.context_read;
        samples[i] = (struct step_sample){load, us * exp(noise * rng_normal(&rng))};
    }
}

Test(prediction, is_about_as_good_as_the_best_constants)
{
    static const double noises[] = {0.05, 0.1, 0.2};
    struct step_sample *samples = must_alloc(STEPS * sizeof *samples);
    for (size_t i = 0; i < COUNT_OF(noises); i++) {
        fill(samples, noises[i]);
        struct step_prior prior = {3000, 150, 50, 0.2, 0.01};
        struct prediction_errors errors = prediction_compare(samples, STEPS, &prior);
        cr_assert_gt(errors.compared, STEPS / 3);
        cr_assert(errors.constants > 0.7 * noises[i] && errors.constants < 0.9 * noises[i], "%g",
                  errors.constants);
        cr_assert_leq(errors.learned, 1.1 * errors.constants, "%g of %g", errors.learned,
                      errors.constants);
        cr_assert_leq(errors.learned_all, 1.2 * errors.constants);
    }
    free(samples);
}

Test(prediction, no_steps_have_no_errors)
{
    struct step_prior prior = {1, 1, 1, 1, 1};
    struct prediction_errors errors = prediction_compare(NULL, 0, &prior);
    cr_assert_eq(errors.compared, 0);
    cr_assert_eq(errors.learned, 0);
}
