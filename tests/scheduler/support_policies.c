#include "support_policies.h"
#include "support_random.h"
#include "support_watched_taper.h"

#include <math.h>
#include <stdlib.h>

static double always(const void *self, const struct step_load *load)
{
    (void)load;
    return *(const double *)self;
}

static struct step_predictor constant(double *us)
{
    return (struct step_predictor){.predict = always, .self = us, .shared = SHARED_SIBLINGS};
}

const char *random_policy(struct rng *rng, struct scheduler_options *options,
                          struct predictor *predictor)
{
    static const char *const policies[] = {"eager", "eager", "off",   "cap:1",
                                           "cap:2", "cap:3", "taper", "taper-paper"};
    static double useless[] = {0, INFINITY, NAN, -1e9, 1e300};
    struct rng own = {rng_next(rng)};
    const char *name = policies[between(&own, 0, (int32_t)COUNT_OF(policies) - 1)];
    if (getenv("ESPALIER_POLICY")) name = getenv("ESPALIER_POLICY");
    struct error err = {0};
    invariant(policy_parse(name, &options->policy, &err) == ST_OK, "%s", err.text);
    if (!policy_needs_predictor(&options->policy)) return name;
    if (options->policy.ops == &policy_taper) options->policy = watched_taper();
    options->every_gap = chance(&own, 0.5);
    struct step_prior prior = some_prior(1000);
    predictor_init(predictor, (enum shared_prefix)between(&own, SHARED_NONE, SHARED_BLOCKS),
                   &prior);
    options->predictor = predictor_door(predictor);
    if (chance(&own, 0.3))
        options->predictor = constant(&useless[between(&own, 0, (int32_t)COUNT_OF(useless) - 1)]);
    return name;
}

struct request_slo random_slo(uint64_t seed, int64_t index)
{
    static const int64_t ttft_us[] = {0, 0, 1, 20000, 2000000},
                         tpot_us[] = {0, 1, 1100, 1500, 5000};
    struct rng own = {rng_at(seed, (uint64_t)index)};
    return (struct request_slo){ttft_us[between(&own, 0, (int32_t)COUNT_OF(ttft_us) - 1)],
                                tpot_us[between(&own, 0, (int32_t)COUNT_OF(tpot_us) - 1)]};
}

struct step_prior some_prior(double single_row_us)
{
    static const struct step_prior prior = {20e3, 70, 20, 0.08, 0.005};
    return step_prior_scaled(&prior, single_row_us);
}
