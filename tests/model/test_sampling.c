/* Sampling against a plain reference: sort everything, filter, normalise. */
#include "model/sampling.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define VOCAB 997

static float logits[VOCAB];

static void fill(uint64_t seed, float spread)
{
    struct rng rng = {seed};
    for (int32_t i = 0; i < VOCAB; i++)
        logits[i] = spread * (float)rng_normal(&rng);
}

static int by_logit(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return logits[x] != logits[y] ? (logits[x] < logits[y]) - (logits[x] > logits[y]) : x - y;
}

/* The set of tokens the filters leave, in descending order; returns its size. `slack` moves the
 * borders outwards (or inwards when negative), so that rounding at a border is no failure. */
static int32_t allowed_set(const struct sample_spec *spec, double slack, int32_t *ids)
{
    double weights[VOCAB], total = 0, sum = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < VOCAB; i++)
        ids[i] = i;
    qsort(ids, VOCAB, sizeof *ids, by_logit);
    for (int32_t i = 0; i < VOCAB; i++)
        weights[i] =
            exp(((double)logits[ids[i]] - (double)logits[ids[0]]) / (double)spec->temperature);
    while (count < VOCAB && weights[count] >= (double)spec->min_p * (1 - slack))
        count++;
    if (spec->top_k > 0 && count > spec->top_k) count = spec->top_k;
    for (int32_t i = 0; i < count; i++)
        total += weights[i];
    int32_t kept = 0;
    while (kept < count) {
        sum += weights[kept++];
        if (sum >= (double)spec->top_p * total * (1 + slack)) break;
    }
    return kept;
}

static bool contains(const int32_t *ids, int32_t count, int32_t id)
{
    for (int32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

Test(sampling, greedy_takes_the_lowest_id_of_the_best)
{
    struct sampler *sampler = sampler_create(VOCAB);
    struct sample_spec spec = {.top_p = 1};
    fill(1, 1);
    logits[5] = logits[700] = logits[996] = 50;
    cr_assert_eq(sampler_draw(sampler, logits, &spec, 0).token, 5);
    logits[996] = 51;
    cr_assert_eq(sampler_draw(sampler, logits, &spec, 0).token, 996);
    sampler_free(sampler);
}

Test(sampling, logprob_is_of_the_plain_softmax)
{
    struct sampler *sampler = sampler_create(VOCAB);
    struct sample_spec spec = {.temperature = 0.5f, .top_p = 0.9f, .want_logprob = true, .seed = 3};
    for (uint64_t seed = 1; seed < 20; seed++) {
        fill(seed, 3);
        struct row_result drawn = sampler_draw(sampler, logits, &spec, seed);
        double sum = 0;
        for (int32_t i = 0; i < VOCAB; i++)
            sum += exp((double)logits[i]);
        cr_assert_float_eq(drawn.logprob, (double)logits[drawn.token] - log(sum), 1e-5);
        cr_assert_float_eq(logits_logsumexp(logits, VOCAB), log(sum), 1e-5);
    }
    sampler_free(sampler);
}

Test(sampling, filters_leave_the_set_they_should)
{
    static const struct sample_spec specs[] = {
        {.temperature = 1, .top_p = 1, .top_k = 1},
        {.temperature = 1, .top_p = 1, .top_k = 7},
        {.temperature = 0.7f, .top_p = 0.5f},
        {.temperature = 1.5f, .top_p = 0.95f, .top_k = 50},
        {.temperature = 1, .top_p = 1, .min_p = 0.2f},
        {.temperature = 1, .top_p = 0.8f, .min_p = 0.05f, .top_k = 30},
        {.temperature = 1, .top_p = 1e-6f},
        {.temperature = 1, .top_p = 1, .min_p = 1},
        {.temperature = 1, .top_p = 0.999f, .top_k = 100000},
    };
    struct sampler *sampler = sampler_create(VOCAB);
    static int32_t outer[VOCAB], inner[VOCAB];
    for (size_t s = 0; s < COUNT_OF(specs); s++) {
        struct sample_spec spec = specs[s];
        static bool seen[VOCAB];
        fill(100 + s, 2);
        int32_t outer_count = allowed_set(&spec, 1e-5, outer);
        int32_t inner_count = allowed_set(&spec, -1e-5, inner);
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < 4000; i++) {
            spec.seed = s;
            int32_t token = sampler_draw(sampler, logits, &spec, i).token;
            cr_assert(contains(outer, outer_count, token), "spec %zu let token %d through", s,
                      token);
            seen[token] = true;
        }
        for (int32_t i = 0; i < inner_count && i < 5; i++)
            cr_assert(seen[inner[i]], "spec %zu never drew the %d-th best token", s, i);
    }
    sampler_free(sampler);
}

Test(sampling, frequencies_follow_the_distribution)
{
    struct sampler *sampler = sampler_create(8);
    const float small[8] = {0, 1, 2, 3, -1, 0.5f, 2.5f, -40};
    struct sample_spec spec = {.temperature = 0.8f, .top_p = 1, .seed = 11};
    enum { DRAWS = 40000 };
    double total = 0, counts[8] = {0};
    for (int i = 0; i < 8; i++)
        total += exp((double)small[i] / 0.8);
    for (uint64_t i = 0; i < DRAWS; i++)
        counts[sampler_draw(sampler, small, &spec, i).token]++;
    for (int i = 0; i < 8; i++) {
        double p = exp((double)small[i] / 0.8) / total;
        double sigma = sqrt(p * (1 - p) / DRAWS) + 1e-9;
        cr_assert_lt(fabs(counts[i] / DRAWS - p), 4.5 * sigma, "token %d: %.4f of %.4f", i,
                     counts[i] / DRAWS, p);
    }
    sampler_free(sampler);
}

Test(sampling, seed_and_index_decide_and_nothing_else)
{
    struct sampler *a = sampler_create(VOCAB), *b = sampler_create(VOCAB);
    struct sample_spec spec = {.temperature = 1, .top_p = 0.95f, .seed = 5};
    int differences = 0;
    for (uint64_t i = 0; i < 50; i++) {
        fill(9, 1);
        int32_t token = sampler_draw(a, logits, &spec, i).token;
        struct sample_spec other = {.temperature = 2, .top_p = 1, .seed = i};
        fill(i, 5);
        sampler_draw(b, logits, &other, 99 - i); /* something beside it */
        fill(9, 1);
        cr_assert_eq(sampler_draw(b, logits, &spec, i).token, token);
        other = spec;
        other.seed = 6;
        differences += sampler_draw(b, logits, &other, i).token != token;
    }
    cr_assert_gt(differences, 30);
    sampler_free(a);
    sampler_free(b);
}

Test(sampling, a_tiny_temperature_is_greedy_and_broken_logits_give_some_token)
{
    struct sampler *sampler = sampler_create(VOCAB);
    struct sample_spec spec = {.temperature = 1e-30f, .top_p = 1};
    fill(4, 1);
    logits[123] = 40;
    cr_assert_eq(sampler_draw(sampler, logits, &spec, 0).token, 123);
    spec.temperature = 1;
    for (int32_t i = 0; i < VOCAB; i++)
        logits[i] = i % 2 ? NAN : -INFINITY;
    int32_t token = sampler_draw(sampler, logits, &spec, 0).token;
    cr_assert(token >= 0 && token < VOCAB);
    sampler_free(sampler);
}
