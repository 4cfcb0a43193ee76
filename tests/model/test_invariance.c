/* The same request gives the same bits alone, among 31 others, with 1, 2 or 3 threads, with any
 * prefill chunk, and after a preemption: tokens and log probabilities (of the answer, and of the
 * prompt where it is scored) are compared exactly, for every weight and KV type, through the
 * scheduler that serves. */
#include "model/model.h"
#include "scheduler/scheduler.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS   32
#define MAX_PROMPT 150
#define MAX_OUTPUT 24

struct answer {
    int32_t tokens[MAX_OUTPUT];
    float logprobs[MAX_OUTPUT];
    float scores[MAX_PROMPT], best[MAX_PROMPT]; /* of the prompt's own tokens, where wanted */
    int32_t count, scored, preemptions;
    bool done;
};

struct setting {
    enum weight_format weights;
    enum dtype kv_type;
    int threads;
    int32_t chunk, kv_blocks, max_rows;
};

struct prompt {
    int32_t ids[MAX_PROMPT], count;
    float temperature, penalty;
    bool scored;
};

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct answer *answer = context;
    (void)index, (void)ends;
    answer->tokens[answer->count] = sampled->token;
    answer->logprobs[answer->count++] = sampled->logprob;
    return TOKEN_KEEP;
}

static void on_score(void *context, int32_t index, int32_t position,
                     const struct token_score *score)
{
    struct answer *answer = context;
    (void)index;
    cr_assert_eq(position, answer->scored + 1);
    answer->scores[answer->scored] = score->logprob;
    answer->best[answer->scored++] = score->top[0].logprob;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    (void)context, (void)index;
    cr_assert_eq(ending->reason, FINISH_LENGTH);
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct answer *answer = context;
    answer->preemptions = stats->preemptions;
    answer->done = true;
}

static void make_prompts(struct prompt prompts[REQUESTS], int32_t vocab)
{
    struct rng rng = {20240607};
    for (int i = 0; i < REQUESTS; i++) {
        prompts[i].count = 1 + (int32_t)rng_below(&rng, MAX_PROMPT);
        prompts[i].temperature = i % 3 ? 0.9f : 0;
        prompts[i].penalty = i % 4 == 1 ? 0.5f : 0;
        prompts[i].scored = i % 2;
        for (int32_t k = 0; k < prompts[i].count; k++)
            prompts[i].ids[k] = (int32_t)rng_below(&rng, (uint64_t)vocab);
    }
}

static struct model *load(const struct setting *s)
{
    struct model_options options = model_options_default();
    struct model *model = NULL;
    struct error err = {0};
    options.path = "synthetic:tiny";
    options.weights = s->weights;
    options.kv_type = s->kv_type;
    options.threads = s->threads;
    options.max_rows = s->max_rows;
    options.max_tokens = s->chunk + s->max_rows;
    options.kv_blocks = s->kv_blocks;
    cr_assert_eq(model_load(&options, &model, &err), ST_OK, "%s", err.text);
    return model;
}

/* Runs prompts [first, first + count) together; answers[i] belongs to prompt first + i. */
static void run(const struct setting *s, int first, int count, struct answer *answers)
{
    static struct prompt prompts[REQUESTS];
    struct model *model = load(s);
    struct error err = {0};
    struct scheduler *scheduler;
    struct scheduler_options options = scheduler_options_default();
    make_prompts(prompts, model_config(model)->vocab);
    options.prefill_chunk = s->chunk;
    options.max_queue = REQUESTS;
    cr_assert_eq(
        scheduler_create(&options, model_executor(model), clock_monotonic(), &scheduler, &err),
        ST_OK, "%s", err.text);
    for (int i = 0; i < count; i++) {
        const struct prompt *prompt = &prompts[first + i];
        struct request_params params = {
            .prompt = prompt->ids,
            .prompt_count = prompt->count,
            .n = 1,
            .max_tokens = MAX_OUTPUT,
            .ignore_eos = true,
            .sample = {.temperature = prompt->temperature,
                       .top_p = 0.95f,
                       .top_k = 40,
                       .seed = 7 + (uint64_t)(first + i),
                       .repetition_penalty = 1 + prompt->penalty,
                       .frequency_penalty = prompt->penalty,
                       .want_logprob = true,
                       .top_logprobs = 2},
            .score_prompt = prompt->scored,
            .events = {&answers[i], on_score, on_token, on_finish, NULL, on_done}};
        uint64_t id;
        answers[i] = (struct answer){0};
        cr_assert_eq(scheduler_add(scheduler, &params, &id, &err), ST_OK, "%s", err.text);
    }
    while (scheduler_tick(scheduler))
        scheduler_check(scheduler);
    scheduler_free(scheduler);
    model_free(model);
}

static void check_same(const struct answer *a, const struct answer *b, int request,
                       const char *what)
{
    cr_assert(a->done && b->done);
    cr_assert_eq(a->count, MAX_OUTPUT);
    cr_assert_arr_eq(a->tokens, b->tokens, sizeof a->tokens, "request %d: other tokens %s", request,
                     what);
    cr_assert_arr_eq(a->logprobs, b->logprobs, sizeof a->logprobs,
                     "request %d: other log probability bits %s", request, what);
    cr_assert_eq(a->scored, b->scored, "request %d: %d and %d of the prompt scored %s", request,
                 a->scored, b->scored, what);
    size_t bytes = (size_t)a->scored * sizeof a->scores[0];
    cr_assert_arr_eq(a->scores, b->scores, bytes, "request %d: other prompt scores %s", request,
                     what);
    cr_assert_arr_eq(a->best, b->best, bytes, "request %d: other alternatives %s", request, what);
}

static void check_variants(enum weight_format weights, enum dtype kv_type)
{
    static struct answer alone[REQUESTS], other[REQUESTS];
    const struct setting base = {weights, kv_type, 1, 512, 512, 32};
    const struct {
        const char *what;
        int threads;
        int32_t chunk, kv_blocks, max_rows;
        bool preempts;
    } variants[] = {
        {"among 31 others", 1, 512, 512, 32, false},
        {"with 2 threads", 2, 512, 512, 32, false},
        {"with 3 threads and chunks of 16", 3, 16, 512, 32, false},
        {"with chunks of 64", 2, 64, 512, 32, false},
        {"with 5 rows a step", 2, 64, 512, 5, false},
        {"after preemptions", 2, 64, 24, 32, true},
    };
    for (int i = 0; i < REQUESTS; i++)
        run(&base, i, 1, &alone[i]);
    for (size_t v = 0; v < COUNT_OF(variants); v++) {
        struct setting s = {weights,
                            kv_type,
                            variants[v].threads,
                            variants[v].chunk,
                            variants[v].kv_blocks,
                            variants[v].max_rows};
        int32_t preemptions = 0;
        run(&s, 0, REQUESTS, other);
        for (int i = 0; i < REQUESTS; i++) {
            check_same(&alone[i], &other[i], i, variants[v].what);
            preemptions += other[i].preemptions;
        }
        cr_assert_eq(preemptions > 0, variants[v].preempts, "%d preemptions %s", preemptions,
                     variants[v].what);
    }
}

Test(invariance, native_f32)
{
    check_variants(WEIGHT_NATIVE, DT_F32);
}

Test(invariance, w8_bf16)
{
    check_variants(WEIGHT_W8, DT_BF16);
}

Test(invariance, w8_f32)
{
    check_variants(WEIGHT_W8, DT_F32);
}
