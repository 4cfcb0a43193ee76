#include "model/score_text.h"
#include "base/progress.h"
#include "model/sampling.h"

#include <math.h>
#include <stdlib.h>

double text_perplexity(const struct text_score *s)
{
    return exp(s->sum / (double)s->tokens);
}

double text_perplexity_stderr(const struct text_score *s)
{
    if (s->tokens < 2) return 0;
    double n = (double)s->tokens, mean = s->sum / n;
    double variance = s->sum_squares / n - mean * mean;
    return variance > 0 ? sqrt(variance / (n - 1)) * text_perplexity(s) : 0;
}

/* The step's arrays for one window on blocks 0, 1, 2, ... */
struct window_plan {
    int32_t positions[SCORE_STEP_TOKENS], logit_rows[SCORE_STEP_TOKENS];
    int64_t slots[SCORE_STEP_TOKENS];
    int32_t *blocks;
};

static void score_step(struct model *model, struct window_plan *plan, const int32_t *tokens,
                       int32_t begin, int32_t end, int32_t window, float *logits,
                       struct text_score *score)
{
    struct attention_span span = {plan->blocks, 0, end};
    struct attention_sequence sequence = {
        .rows = end - begin, .context = begin + 1, .spans = &span, .span_count = 1};
    struct step_input input = {.rows = end - begin,
                               .tokens = tokens + begin,
                               .positions = plan->positions,
                               .slots = plan->slots,
                               .sequences = &sequence,
                               .sequence_count = 1,
                               .logit_rows = plan->logit_rows};
    for (int32_t i = 0; i < input.rows; i++) {
        plan->positions[i] = begin + i;
        plan->slots[i] = begin + i;
        if (begin + i >= window / 2 && begin + i < window - 1)
            plan->logit_rows[input.logit_count++] = i;
    }
    model_forward(model, &input);
    int32_t vocab = model_config(model)->vocab;
    for (int32_t i = 0; i < input.logit_count; i++) {
        model_logits(model, i, logits);
        int32_t next = tokens[begin + plan->logit_rows[i] + 1];
        double nll = logits_logsumexp(logits, vocab) - (double)logits[next];
        score->sum += nll;
        score->sum_squares += nll * nll;
        score->tokens++;
    }
}

void score_text_windows(struct model *model, int32_t *tokens, int32_t window, int32_t windows,
                        bool progress, struct text_score *score)
{
    struct window_plan *plan = must_alloc(sizeof *plan);
    int32_t block_count = (window + BLOCK_SLOTS - 1) / BLOCK_SLOTS;
    float *logits = must_alloc((size_t)model_config(model)->vocab * sizeof *logits);
    struct progress bar = {0};
    plan->blocks = must_alloc((size_t)block_count * sizeof *plan->blocks);
    for (int32_t i = 0; i < block_count; i++)
        plan->blocks[i] = i;
    if (progress) progress_begin(&bar, "windows", windows);
    for (int32_t w = 0; w < windows; w++) {
        int32_t *ids = tokens + (int64_t)w * window;
        if (tokenizer_adds_bos(model_tokenizer(model)))
            ids[0] = tokenizer_bos(model_tokenizer(model));
        for (int32_t at = 0; at < window; at += SCORE_STEP_TOKENS)
            score_step(model, plan, ids, at, min_i32(at + SCORE_STEP_TOKENS, window), window,
                       logits, score);
        score->windows++;
        if (progress) progress_update(&bar, w + 1);
    }
    if (progress) progress_end(&bar);
    free(logits);
    free(plan->blocks);
    free(plan);
}
