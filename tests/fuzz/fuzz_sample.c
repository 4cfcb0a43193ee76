/* Sampling: whatever the logits (a hostile model's are no numbers) and the settings that a request
 * may have, a token of the vocabulary comes out, no withheld one while others are left, and greedy
 * means the largest logit.
 *
 * Input: 12 bytes of settings, then 4 bytes a logit. */
#include "tests/fuzz/support_input.h"
#include "model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_VOCAB 70
#define MAX_LIST  6

/* One of a few values, the edges of what a request may ask for among them. */
static float choose(struct input *input, const float *values, size_t count)
{
    return values[input_byte(input) % count];
}

static struct sample_spec read_spec(struct input *input)
{
    static const float temperatures[] = {0, 1e-30f, 1e-5f, 0.7f, 1, 100},
                       shares[] = {1e-30f, 0.5f, 0.999f, 1}, penalties[] = {-2, 0, 1.5f, 2},
                       repetitions[] = {1e-40f, 0.5f, 1, 1.3f, 100};
    struct sample_spec spec = {.temperature = choose(input, temperatures, COUNT_OF(temperatures)),
                               .top_p = choose(input, shares, COUNT_OF(shares)),
                               .min_p = choose(input, shares, COUNT_OF(shares)),
                               .presence_penalty = choose(input, penalties, COUNT_OF(penalties)),
                               .frequency_penalty = choose(input, penalties, COUNT_OF(penalties)),
                               .repetition_penalty =
                                   choose(input, repetitions, COUNT_OF(repetitions))};
    spec.top_k = input_byte(input) - 1;
    spec.seed = input_byte(input);
    spec.want_logprob = spec.seed & 1;
    spec.top_logprobs = spec.seed & 2 ? input_byte(input) % (MAX_TOP_LOGPROBS + 1) : 0;
    spec.withheld_until = input_byte(input) & 3;
    return spec;
}

static void check_score(const struct token_score *score, const struct sample_spec *spec,
                        int32_t vocab)
{
    invariant(score->token >= 0 && score->token < vocab, "token %d", score->token);
    invariant(score->top_count >= 0 && score->top_count <= spec->top_logprobs, "%d alternatives",
              score->top_count);
    for (int32_t i = 0; i < score->top_count; i++) {
        invariant(score->top[i].token >= 0 && score->top[i].token < vocab, "alternative %d", i);
        invariant(i == 0 || !(score->top[i].logprob > score->top[i - 1].logprob),
                  "alternatives out of order");
    }
}

static bool in_list(const int32_t *list, int32_t count, int32_t token)
{
    for (int32_t i = 0; i < count; i++)
        if (list[i] == token) return true;
    return false;
}

/* All logits were numbers, and that of some token which is not withheld still is. */
static bool others_left(const float *before, const float *after, int32_t vocab,
                        const struct sample_spec *spec)
{
    bool left = false;
    for (int32_t i = 0; i < vocab; i++) {
        if (!isfinite(before[i])) return false;
        left |= isfinite(after[i]) && !in_list(spec->withheld, spec->withheld_count, i);
    }
    return left;
}

static void check(float *logits, int32_t vocab, const struct sample_spec *spec,
                  struct token_history history)
{
    struct sampler *sampler = sampler_create(vocab);
    float before[MAX_VOCAB], again[MAX_VOCAB];
    memcpy(before, logits, (size_t)vocab * sizeof *logits);
    memcpy(again, logits, (size_t)vocab * sizeof *logits);
    struct token_score score = sampler_draw(sampler, logits, spec, history, 1);
    check_score(&score, spec, vocab);
    struct token_score second = sampler_draw(sampler, again, spec, history, 1);
    invariant(second.token == score.token, "the same draw gave %d and %d", score.token,
              second.token);
    if (spec->withheld_until > 1 && others_left(before, logits, vocab, spec))
        invariant(!in_list(spec->withheld, spec->withheld_count, score.token), "%d is withheld",
                  score.token);
    score = sampler_score(before, vocab, vocab - 1, spec->top_logprobs);
    check_score(&score, spec, vocab);
    sampler_free(sampler);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct sample_spec spec = read_spec(&input);
    float logits[MAX_VOCAB];
    int32_t tokens[MAX_LIST], vocab = (int32_t)(input.left / sizeof *logits);
    struct logit_bias biases[MAX_LIST];
    if (vocab > MAX_VOCAB) vocab = MAX_VOCAB;
    if (vocab < 1) return 0;
    memcpy(logits, input.text, (size_t)vocab * sizeof *logits);
    for (int32_t i = 0; i < MAX_LIST; i++) {
        tokens[i] = (uint8_t)input.text[(size_t)i % input.left] % vocab;
        biases[i] = (struct logit_bias){tokens[i], i & 1 ? 100.0f : -100.0f};
    }
    int32_t count = (int32_t)(spec.seed >> 2 & 7) % (MAX_LIST + 1);
    spec.biases = biases;
    spec.bias_count = count;
    spec.withheld = tokens;
    spec.withheld_count = spec.seed & 32 ? count : 0;
    int32_t cut = (int32_t)(spec.seed & 3); /* 0: the first run is empty */
    const struct token_run runs[] = {{tokens, cut}, {tokens + cut, MAX_LIST - cut}};
    check(logits, vocab, &spec, (struct token_history){runs, COUNT_OF(runs), count});
    return 0;
}
