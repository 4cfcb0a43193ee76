#include "support_policies.h"
#include "support_random.h"

#include <math.h>

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
    const char *name = policies[between(rng, 0, (int32_t)COUNT_OF(policies) - 1)];
    struct error err = {0};
    invariant(policy_parse(name, &options->policy, &err) == ST_OK, "%s", err.text);
    if (!policy_needs_predictor(&options->policy)) return name;
    predictor_init(predictor, (enum shared_prefix)between(rng, SHARED_NONE, SHARED_BLOCKS));
    options->predictor = predictor_door(predictor);
    if (chance(rng, 0.3))
        options->predictor = constant(&useless[between(rng, 0, (int32_t)COUNT_OF(useless) - 1)]);
    return name;
}

struct request_slo random_slo(struct rng *rng)
{
    static const int64_t ttft_us[] = {0, 0, 1, 20000, 2000000},
                         tpot_us[] = {0, 1, 1100, 1500, 5000};
    return (struct request_slo){ttft_us[between(rng, 0, (int32_t)COUNT_OF(ttft_us) - 1)],
                                tpot_us[between(rng, 0, (int32_t)COUNT_OF(tpot_us) - 1)]};
}
