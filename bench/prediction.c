#include "bench/prediction.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>

#define EXACT_TOKENS  16
#define TOKENS_WITHIN 1.1
#define SLOTS_WITHIN  1.3

struct group_key {
    int32_t rows, tokens, context;
};

static int32_t bucket(double value, double within)
{
    return (int32_t)floor(log(fmax(1, value)) / log(within));
}

static struct group_key key_of(const struct step_load *load)
{
    int32_t tokens = load->prefill_tokens;
    if (tokens > EXACT_TOKENS) tokens = EXACT_TOKENS + bucket(tokens, TOKENS_WITHIN);
    return (struct group_key){load->decode_rows, tokens,
                              bucket((double)load->context_read, SLOTS_WITHIN)};
}

struct keyed {
    struct group_key key;
    double us, predicted_us; /* 0: it is in the first third */
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->key.rows != y->key.rows) return x->key.rows < y->key.rows ? -1 : 1;
    if (x->key.tokens != y->key.tokens) return x->key.tokens < y->key.tokens ? -1 : 1;
    if (x->key.context != y->key.context) return x->key.context < y->key.context ? -1 : 1;
    return (x->us > y->us) - (x->us < y->us);
}

static bool same_key(const struct group_key *a, const struct group_key *b)
{
    return a->rows == b->rows && a->tokens == b->tokens && a->context == b->context;
}

/* Each step is predicted before it is learned from. */
static void predict_all(const struct step_sample *samples, int64_t count,
                        const struct step_prior *prior, struct keyed *steps)
{
    double least_us = samples[0].us;
    for (int64_t i = 1; i < count; i++)
        least_us = fmin(least_us, samples[i].us);
    struct step_prior scaled = step_prior_scaled(prior, least_us);
    struct predictor *predictor = must_alloc(sizeof *predictor);
    predictor_init(predictor, SHARED_NONE, &scaled); /* the loads are measured already */
    for (int64_t i = 0; i < count; i++) {
        const struct step_load *load = &samples[i].load;
        steps[i] = (struct keyed){key_of(load), samples[i].us, 0};
        if (i >= count / 3) steps[i].predicted_us = predictor_predict(predictor, load);
        predictor_observe(predictor, load, samples[i].us);
    }
    free(predictor);
}

struct prediction_errors prediction_compare(const struct step_sample *samples, int64_t count,
                                            const struct step_prior *prior)
{
    struct prediction_errors errors = {0};
    struct keyed *steps = must_alloc((size_t)count * sizeof *steps);
    if (count > 0) predict_all(samples, count, prior, steps);
    qsort(steps, (size_t)count, sizeof *steps, by_key);
    int64_t predicted = 0;
    for (int64_t first = 0, end; first < count; first = end) {
        for (end = first; end < count && same_key(&steps[end].key, &steps[first].key);)
            end++;
        double median = steps[first + (end - first) / 2].us;
        for (int64_t i = first; i < end; i++) {
            if (steps[i].predicted_us == 0) continue;
            double off = fabs(steps[i].predicted_us / steps[i].us - 1);
            errors.learned_all += off;
            predicted++;
            if (end - first < CONSTANT_STEPS) continue;
            errors.compared++;
            errors.learned += off;
            errors.constants += fabs(median / steps[i].us - 1);
        }
    }
    errors.learned_all /= (double)max_i64(1, predicted);
    errors.learned /= (double)max_i64(1, errors.compared);
    errors.constants /= (double)max_i64(1, errors.compared);
    free(steps);
    return errors;
}
