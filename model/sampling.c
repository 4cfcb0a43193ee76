#include "model/sampling.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A candidate: its weight before normalisation, and its id. */
struct candidate {
    float weight;
    int32_t id;
};

struct sampler {
    int32_t vocab;
    float *weights;               /* [vocab] exp((logit - max) / temperature) */
    float *plain;                 /* [vocab] the logits as they were, where both are needed */
    int32_t *counts;              /* [vocab] of the history's tokens; all 0 between draws */
    struct candidate *candidates; /* [vocab] a max-heap when top_k or top_p is on */
};

/* Four lanes: what baseline x86-64 has, and enough that a vocabulary of 49,152 costs about 60 us.
 */
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

struct sampler *sampler_create(int32_t vocab)
{
    struct sampler *sampler = must_alloc(sizeof *sampler);
    sampler->vocab = vocab;
    sampler->weights = must_alloc(((size_t)vocab + 4) * sizeof *sampler->weights);
    sampler->candidates = must_alloc((size_t)vocab * sizeof *sampler->candidates);
    sampler->plain = must_alloc((size_t)vocab * sizeof *sampler->plain);
    sampler->counts = must_alloc((size_t)vocab * sizeof *sampler->counts);
    return sampler;
}

void sampler_free(struct sampler *sampler)
{
    if (!sampler) return;
    free(sampler->weights);
    free(sampler->candidates);
    free(sampler->plain);
    free(sampler->counts);
    free(sampler);
}

/* exp(x) for x <= 0, relative error under 3e-7: 2^n * p(r), r = x - n ln 2 in [-ln2/2, ln2/2]. */
static inline f32x4 exp_nonpositive(f32x4 x)
{
    const float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    i32x4 tiny = x < -87.0f;
    x = (f32x4)(((i32x4)x & ~tiny) | ((i32x4)(f32x4){-87, -87, -87, -87} & tiny));
    i32x4 n = __builtin_convertvector(x * log2e - 0.5f, i32x4); /* rounds towards zero: x <= 0 */
    f32x4 whole = __builtin_convertvector(n, f32x4);
    f32x4 r = x - whole * ln2_high - whole * ln2_low;
    f32x4 p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    f32x4 result = p * (f32x4)((n + 127) << 23);
    return (f32x4)((i32x4)result & ~tiny);
}

static int32_t argmax(const float *logits, int32_t count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* The largest logit, and in `at` its lowest index. The value is found four lanes wide, then
 * located. */
static float largest(const float *logits, int32_t count, int32_t *at)
{
    int32_t i = 0;
    if (count >= 16) {
        f32x4 best[4];
        memcpy(best, logits, sizeof best);
        for (i = 16; i + 16 <= count; i += 16) {
            f32x4 next[4];
            memcpy(next, logits + i, sizeof next);
            for (int k = 0; k < 4; k++) {
                i32x4 more = next[k] > best[k];
                best[k] = (f32x4)(((i32x4)next[k] & more) | ((i32x4)best[k] & ~more));
            }
        }
        float value = best[0][0];
        for (int k = 0; k < 16; k++)
            if (best[k / 4][k % 4] > value) value = best[k / 4][k % 4];
        for (; i < count; i++)
            if (logits[i] > value) value = logits[i];
        for (i = 0; i < count; i++) {
            if (logits[i] == value) {
                *at = i;
                return value;
            }
        }
    }
    *at = argmax(logits, count); /* short, or NaN met: the plain definition */
    return logits[*at];
}

/* out[i] = exp((logits[i] - max) * scale); returns their sum, added in ascending order by lanes. */
static double exponentials(const float *logits, int32_t count, float max, float scale, float *out)
{
    double lanes[4] = {0};
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        f32x4 x;
        memcpy(&x, logits + i, sizeof x);
        f32x4 e = exp_nonpositive((x - max) * scale);
        if (out) memcpy(out + i, &e, sizeof e);
        for (int k = 0; k < 4; k++)
            lanes[k] += (double)e[k];
    }
    for (; i < count; i++) {
        float x = (logits[i] - max) * scale;
        float e = exp_nonpositive((f32x4){x, x, x, x})[0];
        if (out) out[i] = e;
        lanes[i % 4] += (double)e;
    }
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

double logits_logsumexp(const float *logits, int32_t count)
{
    int32_t at;
    float max = largest(logits, count, &at);
    return (double)max + log(exponentials(logits, count, max, 1.0f, NULL));
}

static bool heavier(struct candidate a, struct candidate b)
{
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}

static void sift_down(struct candidate *heap, int32_t count, int32_t at)
{
    struct candidate moved = heap[at];
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && heavier(heap[child + 1], heap[child])) child++;
        if (!heavier(heap[child], moved)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Moves the heaviest candidates to the array's end, heaviest last, until there are `keep` of them
 * or their weights reach `share` (a heapsort that stops early); returns how many. */
static int32_t take_heaviest(struct candidate *heap, int32_t count, int32_t keep, double share)
{
    for (int32_t i = count / 2 - 1; i >= 0; i--)
        sift_down(heap, count, i);
    int32_t left = count;
    double sum = 0;
    while (left > 0 && count - left < keep && sum < share) {
        struct candidate top = heap[0];
        heap[0] = heap[--left];
        sift_down(heap, left, 0);
        heap[left] = top;
        sum += (double)top.weight;
    }
    return count - left;
}

static double weight_of(const struct candidate *list, int32_t count)
{
    double total = 0;
    for (int32_t i = 0; i < count; i++)
        total += (double)list[i].weight;
    return total;
}

/* The candidate at which the running sum passes `unit` of the total. */
static int32_t pick(const struct candidate *list, int32_t count, double unit)
{
    double total = weight_of(list, count), sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += (double)list[i].weight;
        if (sum > unit * total) return list[i].id;
    }
    return list[count - 1].id;
}

/* `best` is the most likely token: what is left when no weight is a number. */
static int32_t draw_filtered(struct sampler *sampler, const struct sample_spec *spec, int32_t best,
                             double unit)
{
    struct candidate *list = sampler->candidates;
    int32_t count = 0;
    for (int32_t i = 0; i < sampler->vocab; i++) {
        float weight = sampler->weights[i]; /* the most likely token's is 1 */
        if (weight > 0 && weight >= spec->min_p) list[count++] = (struct candidate){weight, i};
    }
    if (count == 0) return best;
    if (spec->top_k > 0 && spec->top_k < count) {
        int32_t taken = take_heaviest(list, count, spec->top_k, INFINITY);
        list += count - taken;
        count = taken;
    }
    if (spec->top_p < 1) { /* a share of what top_k left */
        double share = (double)spec->top_p * weight_of(list, count);
        int32_t taken = take_heaviest(list, count, count, share);
        list += count - taken;
        count = taken;
    }
    return pick(list, count, unit);
}

/* Below this a temperature is greedy: its inverse would overflow the scaled logits (vLLM's bound).
 */
#define MIN_TEMPERATURE 1e-5f

/* --- what changes the logits */

static void withhold(float *logits, const struct sample_spec *spec, uint64_t index)
{
    if (index >= (uint64_t)max_i32(spec->withheld_until, 0)) return;
    for (int32_t i = 0; i < spec->withheld_count; i++)
        logits[spec->withheld[i]] = -INFINITY;
}

static bool repeats_cost(const struct sample_spec *spec)
{
    return spec->repetition_penalty != 0 && spec->repetition_penalty != 1;
}

/* Once for each different token: the first of its kind in a walk finds its count and clears it, so
 * that `counts` is all 0 again after. */
static void penalize_answer(struct sampler *sampler, float *logits, const struct sample_spec *spec,
                            const int32_t *answer, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        sampler->counts[answer[i]]++;
    for (int32_t i = 0; i < count; i++) {
        int32_t token = answer[i], seen = sampler->counts[token];
        if (seen == 0) continue;
        logits[token] -= (float)seen * spec->frequency_penalty + spec->presence_penalty;
        sampler->counts[token] = 0;
    }
}

static void penalize_repetition(struct sampler *sampler, float *logits, float penalty,
                                struct token_history history)
{
    for (int32_t r = 0; r < history.run_count; r++) {
        const struct token_run *run = &history.runs[r];
        for (int32_t i = 0; i < run->count; i++) {
            int32_t token = run->tokens[i];
            if (sampler->counts[token]++) continue;
            logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
        }
    }
    for (int32_t r = 0; r < history.run_count; r++)
        for (int32_t i = 0; i < history.runs[r].count; i++)
            sampler->counts[history.runs[r].tokens[i]] = 0;
}

static const int32_t *answer_of(struct token_history history)
{
    if (history.answer_count == 0) return NULL;
    const struct token_run *own = &history.runs[history.run_count - 1];
    return own->tokens + own->count - history.answer_count;
}

static void change_logits(struct sampler *sampler, float *logits, const struct sample_spec *spec,
                          struct token_history history, uint64_t index)
{
    withhold(logits, spec, index);
    for (int32_t i = 0; i < spec->bias_count; i++)
        logits[spec->biases[i].token] += spec->biases[i].bias;
    if (repeats_cost(spec)) penalize_repetition(sampler, logits, spec->repetition_penalty, history);
    if (spec->frequency_penalty != 0 || spec->presence_penalty != 0)
        penalize_answer(sampler, logits, spec, answer_of(history), history.answer_count);
}

/* --- log probabilities */

/* Puts a candidate in its place among the likeliest so far, at most `top` of them. */
static void insert_top(struct token_score *score, int32_t top, int32_t token, float logit)
{
    int32_t at = score->top_count < top ? score->top_count++ : top - 1;
    for (; at > 0 && score->top[at - 1].logprob < logit; at--)
        score->top[at] = score->top[at - 1];
    score->top[at] = (struct token_logprob){token, logit};
}

static void find_top(struct token_score *score, const float *logits, int32_t vocab, int32_t top)
{
    score->top_count = 0;
    for (int32_t i = 0; i < vocab; i++)
        if (score->top_count < top || (top && logits[i] > score->top[top - 1].logprob))
            insert_top(score, top, i, logits[i]);
}

static float logprob_of(float logit, float max, double log_sum)
{
    return (float)((double)logit - (double)max - log_sum);
}

/* What the plain softmax needs to know, taken before the logits change. */
struct softmax {
    float max;
    double log_sum;
};

static struct softmax softmax_of(const float *logits, int32_t vocab)
{
    int32_t at;
    float max = largest(logits, vocab, &at);
    return (struct softmax){max, log(exponentials(logits, vocab, max, 1.0f, NULL))};
}

static void score_top(struct token_score *score, const float *logits, int32_t vocab, int32_t top,
                      struct softmax softmax)
{
    find_top(score, logits, vocab, min_i32(top, vocab));
    for (int32_t i = 0; i < score->top_count; i++)
        score->top[i].logprob = logprob_of(score->top[i].logprob, softmax.max, softmax.log_sum);
}

struct token_score sampler_score(const float *logits, int32_t vocab, int32_t token, int32_t top)
{
    struct softmax softmax = softmax_of(logits, vocab);
    struct token_score score = {.token = token,
                                .logprob = logprob_of(logits[token], softmax.max, softmax.log_sum)};
    score_top(&score, logits, vocab, top, softmax);
    return score;
}

/* --- the draw */

static int32_t draw(struct sampler *sampler, const float *logits, const struct sample_spec *spec,
                    uint64_t index)
{
    int32_t best;
    float max = largest(logits, sampler->vocab, &best);
    if (spec->temperature < MIN_TEMPERATURE) return best;
    exponentials(logits, sampler->vocab, max, 1.0f / spec->temperature, sampler->weights);
    return draw_filtered(sampler, spec, best, unit_from_bits(rng_at(spec->seed, index)));
}

static bool changes_logits(const struct sample_spec *spec, uint64_t index)
{
    return spec->bias_count || repeats_cost(spec) || spec->frequency_penalty != 0 ||
           spec->presence_penalty != 0 ||
           (spec->withheld_count && index < (uint64_t)max_i32(spec->withheld_until, 0));
}

struct token_score sampler_draw(struct sampler *sampler, float *logits,
                                const struct sample_spec *spec, struct token_history history,
                                uint64_t index)
{
    struct token_score result = {0};
    struct softmax softmax = {0};
    int32_t vocab = sampler->vocab;
    bool scored = spec->want_logprob || spec->top_logprobs;
    const float *plain = logits;
    if (scored) {
        softmax = softmax_of(logits, vocab);
        score_top(&result, logits, vocab, spec->top_logprobs, softmax);
    }
    if (changes_logits(spec, index)) {
        if (scored) plain = memcpy(sampler->plain, logits, (size_t)vocab * sizeof *logits);
        change_logits(sampler, logits, spec, history, index);
    }
    result.token = draw(sampler, logits, spec, index);
    if (scored) result.logprob = logprob_of(plain[result.token], softmax.max, softmax.log_sum);
    return result;
}
