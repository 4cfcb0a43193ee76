/* Fitting a profile: steps made from known coefficients give them back. */
#include "bench/profile_fit.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define SAMPLES 3000

/* 2 ms fixed, 20 us a token, 100 us a decode row, 0.05 us a slot, 0.002 us a token and slot. */
static double known_us(const struct step_load *load)
{
    return 2000 + 20.0 * (load->decode_rows + load->prefill_tokens) + 100.0 * load->decode_rows +
           0.05 * (double)load->context_read + 0.002 * load->prefill_attention;
}

static void make(struct step_sample *samples, double noise, double disturbed)
{
    struct rng rng = {7};
    for (int i = 0; i < SAMPLES; i++) {
        struct step_load load = {.decode_rows = (int32_t)rng_below(&rng, 33),
                                 .prefill_tokens =
                                     rng_unit(&rng) < 0.5 ? 0 : (int32_t)rng_below(&rng, 513)};
        if (load.decode_rows + load.prefill_tokens == 0) load.decode_rows = 1;
        load.context_read = load.decode_rows * (int64_t)rng_below(&rng, 4000);
        load.prefill_attention = load.prefill_tokens * (double)rng_below(&rng, 4000);
        double us = known_us(&load) * exp(noise * rng_normal(&rng));
        if (rng_unit(&rng) < disturbed) us *= 8;
        samples[i] = (struct step_sample){load, us};
    }
}

static void check_near(double found, double expected, double share, const char *what)
{
    cr_assert(fabs(found - expected) <= share * expected, "%s is %g, expected %g", what, found,
              expected);
}

Test(profile_fit, finds_what_the_steps_were_made_from)
{
    static struct step_sample samples[SAMPLES];
    struct profile_fit fit;
    struct error err = {0};
    make(samples, 0, 0);
    cr_assert_eq(profile_fit(samples, SAMPLES, &fit, &err), ST_OK, "%s", err.text);
    check_near(fit.row_us, 100, 0.02, "row_us");
    check_near(fit.context_us, 0.05, 0.02, "context_us");
    check_near(fit.prefill_context_us, 0.002, 0.02, "prefill_context_us");
    cr_assert_lt(fit.median_error, 0.005);
    cr_assert_eq(fit.node_count, 11, "nodes up to 1024 for 545 tokens, not %d", fit.node_count);
    for (int i = 0; i < 200; i++)
        check_near(profile_fit_us(&fit, &samples[i].load), known_us(&samples[i].load), 0.02,
                   "a step");
}

Test(profile_fit, leaves_disturbed_steps_out_and_tells_the_noise)
{
    static struct step_sample samples[SAMPLES];
    struct profile_fit fit;
    make(samples, 0.05, 0.03);
    cr_assert_eq(profile_fit(samples, SAMPLES, &fit, NULL), ST_OK);
    check_near(fit.noise, 0.05, 0.15, "noise");
    cr_assert_geq(fit.left_out, SAMPLES * 2 / 100);
    cr_assert_leq(fit.left_out, SAMPLES * 5 / 100);
    for (int i = 0; i < 200; i++)
        check_near(profile_fit_us(&fit, &samples[i].load), known_us(&samples[i].load), 0.05,
                   "a step");
}

/* Nothing may be negative: a step that gets shorter with more work is the noise's doing. */
Test(profile_fit, has_no_negative_coefficient)
{
    static struct step_sample samples[SAMPLES];
    struct profile_fit fit;
    struct rng rng = {3};
    make(samples, 0, 0);
    for (int i = 0; i < SAMPLES; i++)
        samples[i].us = 1000 * exp(0.3 * rng_normal(&rng)); /* whatever the load */
    cr_assert_eq(profile_fit(samples, SAMPLES, &fit, NULL), ST_OK);
    cr_assert_geq(fit.row_us, 0);
    cr_assert_geq(fit.context_us, 0);
    cr_assert_geq(fit.prefill_context_us, 0);
    for (int32_t i = 0; i < fit.node_count; i++)
        cr_assert_geq(fit.node_us[i], i > 0 ? fit.node_us[i - 1] : 0);
}

Test(profile_fit, wants_steps)
{
    static struct step_sample samples[SAMPLES];
    struct profile_fit fit;
    struct error err = {0};
    make(samples, 0, 0);
    cr_assert_eq(profile_fit(samples, 99, &fit, &err), ST_INVALID);
    cr_assert(strstr(err.text, "99 steps"), "%s", err.text);
    samples[4].us = 0;
    cr_assert_eq(profile_fit(samples, SAMPLES, &fit, &err), ST_INVALID);
    cr_assert(strstr(err.text, "step 4"), "%s", err.text);
}

/* Only steps of 20 to 32 rows or of 500 to 512 prompt tokens: a single row takes no less than
 * nothing and no more than twenty, and gemm never falls in between, so that a step of any size
 * costs something. */
Test(profile_fit, is_sound_where_no_step_was)
{
    static struct step_sample samples[SAMPLES];
    struct profile_fit fit;
    struct step_load one = {.decode_rows = 1};
    struct rng rng = {7};
    for (int i = 0; i < SAMPLES; i++) {
        struct step_load *load = &samples[i].load;
        *load = (struct step_load){0};
        if (i % 2)
            load->decode_rows = 20 + i / 2 % 13;
        else
            load->prefill_tokens = 500 + i / 2 % 13;
        samples[i].us = known_us(load) * exp(0.02 * rng_normal(&rng));
    }
    cr_assert_eq(profile_fit(samples, SAMPLES, &fit, NULL), ST_OK);
    double us = profile_fit_us(&fit, &one);
    cr_assert(us > 1000 && us < 4500, "one row: %g us", us);
    for (int32_t i = 1; i < fit.node_count; i++)
        cr_assert_geq(fit.node_us[i], fit.node_us[i - 1], "node %g", fit.nodes[i]);
    cr_assert_gt(fit.node_us[5], 900, "32 tokens cost %g us", fit.node_us[5]);
}
