/* The sweep: which chunk it takes as a policy's best. */
#include "traces/simulate/sweep.h"

#include "base/base.h"

#include <criterion/criterion.h>

static struct sweep_options options_of(const struct source *source, const struct profile *profile,
                                       int32_t seeds)
{
    struct sweep_options options = {.base = {.source = source,
                                             .profile = profile,
                                             .slo = {2000000, 50000},
                                             .kind = SLO_GAPS,
                                             .target = 0.95,
                                             .warm_us = 4000000,
                                             .seed = 7},
                                    .policy_names = {"eager"},
                                    .policy_count = 1,
                                    .seeds = seeds,
                                    .goodput = true,
                                    .brief = true,
                                    .jobs = 2};
    cr_assert_eq(policy_parse("eager", &options.policies[0], NULL), ST_OK);
    return options;
}

static double rate_of(const struct sweep_options *options, int32_t *chunk)
{
    struct sweep *sweep;
    struct error err = {0};
    cr_assert_eq(sweep_run(options, &sweep, &err), ST_OK, "%s", err.text);
    double rate = sweep->policies[0].search.value;
    *chunk = sweep->policies[0].setting.chunk;
    sweep_free(sweep);
    return rate;
}

/* Here two seeds and four do not agree on it. */
Test(sweep, the_best_chunk_is_that_of_all_seeds, .timeout = 300)
{
    static const int32_t chunks[] = {128, 256, 384, 512};
    struct source *source;
    struct profile *profile;
    struct error err = {0};
    struct source_options from = {
        .preset = "W10", .duration_s = 20, .slo = {2000000, 50000}, .seed = 7};
    double most = 0;
    int32_t best = 0, found, found_by_two;
    cr_assert_eq(source_open(&from, &source, &err), ST_OK, "%s", err.text);
    cr_assert_eq(profile_find("study-h200", &profile, &err), ST_OK, "%s", err.text);
    struct sweep_options options = options_of(source, profile, 4);
    for (size_t c = 0; c < COUNT_OF(chunks); c++) {
        options.chunk = chunks[c];
        double rate = rate_of(&options, &found);
        cr_assert_eq(found, chunks[c]);
        if (rate <= most) continue;
        most = rate;
        best = chunks[c];
    }
    options.chunk_rule = CHUNK_BEST;
    cr_assert_float_eq(rate_of(&options, &found), most, 1e-12);
    cr_assert_eq(found, best, "%d instead of %d", found, best);
    options.seeds = 2;
    rate_of(&options, &found_by_two);
    cr_assert_neq(found_by_two, best, "this case shows nothing: two seeds find it, too");
    source_free(source);
    profile_free(profile);
}
