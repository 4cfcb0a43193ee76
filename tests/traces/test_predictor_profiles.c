/* The predictor on steps of the profiles: how far it is off, noise and all. */
#include "scheduler/predictor.h"
#include "traces/simulate/profile.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>

#define FIRST 300 /* steps before the first that counts */
#define STEPS 3000

/* Mean of |predicted / measured - 1|, each step predicted before it is learned from. */
static double error_on(const struct profile *profile, uint64_t seed)
{
    struct predictor predictor;
    struct rng rng = {seed};
    double sum = 0;
    struct step_prior prior = profile_prior(profile);
    predictor_init(&predictor, profile_shared_prefix(profile), &prior);
    for (int i = 0; i < STEPS; i++) {
        int32_t rows = 1 + (int32_t)rng_below(&rng, 150), tokens = (int32_t)rng_below(&rng, 512);
        if (rng_unit(&rng) < 0.5) tokens = 0;
        struct step_load load = {.decode_rows = rows,
                                 .prefill_tokens = tokens,
                                 .context_read = rows * (int64_t)(300 + rng_below(&rng, 2000)),
                                 .prefill_attention = tokens * 2000 * rng_unit(&rng)};
        double us = profile_step_us(profile, &load) * profile_draw_noise(profile, &rng);
        if (i >= FIRST) sum += fabs(predictor_predict(&predictor, &load) / us - 1);
        predictor_observe(&predictor, &load, us);
    }
    return sum / (STEPS - FIRST);
}

/* 3.2 % is the noise itself: nobody can be off by less. */
Test(predictor_profiles, four_percent_at_most_on_each_of_them)
{
    size_t count;
    const char *const *names = profile_builtin_names(&count);
    for (size_t i = 0; i < count; i++) {
        struct error err = {0};
        struct profile *profile;
        cr_assert_eq(profile_find(names[i], &profile, &err), ST_OK, "%s", err.text);
        for (uint64_t seed = 1; seed <= 3; seed++) {
            double error = error_on(profile, seed);
            cr_assert_leq(error, 0.04, "%s: %g", names[i], error);
        }
        profile_free(profile);
    }
}
