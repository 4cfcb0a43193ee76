/* Sampling against a plain reference: sort everything, filter, normalise. */
#include "model/sampling.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB 997

static float logits[VOCAB];
static const struct token_history no_history;

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
    cr_assert_eq(sampler_draw(sampler, logits, &spec, no_history, 0).token, 5);
    logits[996] = 51;
    cr_assert_eq(sampler_draw(sampler, logits, &spec, no_history, 0).token, 996);
    sampler_free(sampler);
}

Test(sampling, logprob_is_of_the_plain_softmax)
{
    struct sampler *sampler = sampler_create(VOCAB);
    struct sample_spec spec = {.temperature = 0.5f, .top_p = 0.9f, .want_logprob = true, .seed = 3};
    for (uint64_t seed = 1; seed < 20; seed++) {
        fill(seed, 3);
        struct token_score drawn = sampler_draw(sampler, logits, &spec, no_history, seed);
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
            int32_t token = sampler_draw(sampler, logits, &spec, no_history, i).token;
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
    float small[8] = {0, 1, 2, 3, -1, 0.5f, 2.5f, -40};
    struct sample_spec spec = {.temperature = 0.8f, .top_p = 1, .seed = 11};
    enum { DRAWS = 40000 };
    double total = 0, counts[8] = {0};
    for (int i = 0; i < 8; i++)
        total += exp((double)small[i] / 0.8);
    for (uint64_t i = 0; i < DRAWS; i++)
        counts[sampler_draw(sampler, small, &spec, no_history, i).token]++;
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
        int32_t token = sampler_draw(a, logits, &spec, no_history, i).token;
        struct sample_spec other = {.temperature = 2, .top_p = 1, .seed = i};
        fill(i, 5);
        sampler_draw(b, logits, &other, no_history, 99 - i); /* something beside it */
        fill(9, 1);
        cr_assert_eq(sampler_draw(b, logits, &spec, no_history, i).token, token);
        other = spec;
        other.seed = 6;
        differences += sampler_draw(b, logits, &other, no_history, i).token != token;
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
    cr_assert_eq(sampler_draw(sampler, logits, &spec, no_history, 0).token, 123);
    spec.temperature = 1;
    for (int32_t i = 0; i < VOCAB; i++)
        logits[i] = i % 2 ? NAN : -INFINITY;
    int32_t token = sampler_draw(sampler, logits, &spec, no_history, 0).token;
    cr_assert(token >= 0 && token < VOCAB);
    sampler_free(sampler);
}

/* --- what changes the logits, against the formulas written out plainly */

struct change {
    struct sample_spec spec;
    int32_t tokens[64], count, prompt_count;
    struct logit_bias biases[3];
    int32_t withheld[4];
};

static int32_t times_in(const int32_t *tokens, int32_t count, int32_t token)
{
    int32_t times = 0;
    for (int32_t i = 0; i < count; i++)
        times += tokens[i] == token;
    return times;
}

static float changed_logit(const struct change *c, int32_t token, uint64_t index)
{
    float logit = logits[token];
    const struct sample_spec *spec = &c->spec;
    if (index < (uint64_t)spec->withheld_until &&
        times_in(c->withheld, spec->withheld_count, token))
        return -INFINITY;
    for (int32_t i = 0; i < spec->bias_count; i++)
        if (c->biases[i].token == token) logit += c->biases[i].bias;
    float r = spec->repetition_penalty;
    if (r != 0 && times_in(c->tokens, c->count, token)) logit = logit > 0 ? logit / r : logit * r;
    int32_t answered = times_in(c->tokens + c->prompt_count, c->count - c->prompt_count, token);
    if (answered) logit -= (float)answered * spec->frequency_penalty + spec->presence_penalty;
    return logit;
}

static void make_change(struct change *c, struct rng *rng)
{
    *c = (struct change){.count = (int32_t)rng_below(rng, 64)};
    c->prompt_count = (int32_t)rng_below(rng, (uint64_t)c->count + 1);
    for (int32_t i = 0; i < c->count; i++) /* the likeliest tokens, so that penalties decide */
        c->tokens[i] = (int32_t)rng_below(rng, 12);
    for (int i = 0; i < 3; i++)
        c->biases[i] = (struct logit_bias){(int32_t)rng_below(rng, 20) * 2 + i * 100,
                                           (float)rng_normal(rng) * 4};
    for (int i = 0; i < 4; i++)
        c->withheld[i] = (int32_t)rng_below(rng, 12);
    bool repetition = rng_below(rng, 2), answer = rng_below(rng, 2);
    c->spec = (struct sample_spec){.top_p = 1,
                                   .repetition_penalty = repetition ? 1.5f : 0,
                                   .presence_penalty = answer ? 0.75f : 0,
                                   .frequency_penalty = answer ? 0.5f : 0,
                                   .biases = c->biases,
                                   .bias_count = (int32_t)rng_below(rng, 4),
                                   .withheld = c->withheld,
                                   .withheld_count = (int32_t)rng_below(rng, 5),
                                   .withheld_until = (int32_t)rng_below(rng, 3),
                                   .want_logprob = true,
                                   .top_logprobs = (int32_t)rng_below(rng, 6)};
}

Test(sampling, penalties_biases_and_withheld_tokens)
{
    struct sampler *sampler = sampler_create(VOCAB);
    struct rng rng = {77};
    static float scratch[VOCAB];
    for (int round = 0; round < 2000; round++) {
        struct change c;
        uint64_t index = rng_below(&rng, 3);
        make_change(&c, &rng);
        fill((uint64_t)round, 2);
        for (int i = 0; i < 12; i++)
            logits[i] += 5;
        int32_t best = 0;
        for (int32_t i = 1; i < VOCAB; i++)
            if (changed_logit(&c, i, index) > changed_logit(&c, best, index)) best = i;
        memcpy(scratch, logits, sizeof scratch);
        /* cut anywhere before the answer */
        int32_t cut = (int32_t)rng_below(&rng, (uint64_t)c.prompt_count + 1);
        struct token_run runs[] = {{c.tokens, cut}, {c.tokens + cut, c.count - cut}};
        struct token_history history = {runs, 2, c.count - c.prompt_count};
        struct token_score drawn = sampler_draw(sampler, scratch, &c.spec, history, index);
        cr_assert_eq(drawn.token, best, "round %d: token %d, not %d", round, drawn.token, best);
        cr_assert_float_eq(drawn.logprob, (double)logits[best] - logits_logsumexp(logits, VOCAB),
                           1e-5);
        cr_assert_eq(drawn.top_count, c.spec.top_logprobs);
    }
    sampler_free(sampler);
}

Test(sampling, the_likeliest_come_first_and_lower_ids_before_equals)
{
    int32_t order[VOCAB];
    for (uint64_t seed = 0; seed < 50; seed++) {
        fill(seed, 3);
        logits[40] = logits[41] = logits[900] = 9; /* equals at the top */
        for (int32_t i = 0; i < VOCAB; i++)
            order[i] = i;
        qsort(order, VOCAB, sizeof *order, by_logit);
        int32_t top = (int32_t)(seed % (MAX_TOP_LOGPROBS + 1)), token = (int32_t)seed * 13;
        struct token_score score = sampler_score(logits, VOCAB, token, top);
        double sum = logits_logsumexp(logits, VOCAB);
        cr_assert_eq(score.token, token);
        cr_assert_float_eq(score.logprob, (double)logits[token] - sum, 1e-5);
        cr_assert_eq(score.top_count, top);
        for (int32_t i = 0; i < top; i++) {
            cr_assert_eq(score.top[i].token, order[i]);
            cr_assert_float_eq(score.top[i].logprob, (double)logits[order[i]] - sum, 1e-5);
        }
        struct token_score same = sampler_score(logits, VOCAB, order[0], 1);
        cr_assert_eq(same.logprob, same.top[0].logprob, "the same token has two log probabilities");
    }
    struct token_score few = sampler_score(logits, 3, 1, 5);
    cr_assert_eq(few.top_count, 3, "a vocabulary of 3 has no more than 3");
}
