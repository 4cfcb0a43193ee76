/* Random requests in stages on a real forward pass: forks, joins, cut and appended tokens. Each
 * gives the same tokens and the same bits of their log probabilities alone and among the others,
 * with any policy, chunk, row limit and number of threads, and after preemptions. On the synthetic
 * model always, on the default model where it is there: 20 requests (6 in the ASan build), or as
 * many as ESPALIER_RUNS says. */
#include "support_forward.h"
#include "tests/scheduler/support_stages.h"

#include "model/model.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct setting {
    const char *what, *policy;
    int threads;
    int32_t chunk, rows, blocks;
    bool preempts;
};

#define ROOMY 2048

static const struct setting alone = {"alone", "eager", 1, 64, 16, ROOMY, false};
static const struct setting together[] = {
    {"among others", "eager", 1, 64, 16, ROOMY, false},
    {"with policy off and 2 threads", "off", 2, 64, 16, ROOMY, false},
    {"with cap:2, 3 rows and chunks of 5", "cap:2", 2, 5, 3, ROOMY, false},
    {"in a small pool", "eager", 2, 24, 16, 0, true},
    {"with taper, limits that are met and missed", "taper", 2, 12, 16, ROOMY, false},
    {"in a small pool with cap:2", "cap:2", 2, 7, 6, 0, true},
};

static struct model *load(const char *path, const struct setting *s)
{
    struct model_options options = model_options_default();
    struct model *model = NULL;
    struct error err = {0};
    options.path = path;
    options.threads = s->threads;
    options.max_rows = s->rows;
    options.max_tokens = s->chunk + s->rows;
    options.kv_blocks = s->blocks;
    cr_assert_eq(model_load(&options, &model, &err), ST_OK, "%s", err.text);
    return model;
}

/* Far off in time, and more rows cost more than they do: twice a baseline has not room for all,
 * however fast the machine is. */
static double guess(const void *self, const struct step_load *load)
{
    double tokens = load->decode_rows + load->prefill_tokens;
    (void)self;
    return 100 + 100 * tokens * tokens;
}

/* Runs all of them through one scheduler; how often one was preempted. */
static int64_t run(struct model *model, const struct setting *s, struct stage_client **clients,
                   int32_t count)
{
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *scheduler;
    struct scheduler_counters counters;
    struct error err = {0};
    options.prefill_chunk = s->chunk;
    options.max_queue = 100000;
    options.predictor.predict = guess;
    cr_assert_eq(policy_parse(s->policy, &options.policy, &err), ST_OK);
    cr_assert_eq(
        scheduler_create(&options, model_executor(model), clock_monotonic(), &scheduler, &err),
        ST_OK, "%s", err.text);
    for (int32_t i = 0; i < count; i++)
        cr_assert_eq(stage_client_add(clients[i], scheduler, &err), ST_OK, "%s", err.text);
    while (scheduler_tick(scheduler))
        scheduler_check(scheduler);
    scheduler_counters(scheduler, &counters);
    cr_assert_eq(counters.blocks_held, 0);
    cr_assert(count == 1 || counters.deferred_rows > 0 || strcmp(s->policy, "taper") != 0,
              "taper gives every row");
    scheduler_free(scheduler);
    return counters.preemptions;
}

static void expect_same(const struct stage_client *a, const struct stage_client *b, int32_t request,
                        const char *what)
{
    cr_assert(a->done && b->done);
    for (int32_t i = 0; i < a->script->sequence_count; i++) {
        const struct stage_stream *x = &a->streams[i], *y = &b->streams[i];
        cr_assert(x->finished && y->finished && x->reason == y->reason && x->count == y->count,
                  "request %d, sequence %d ends otherwise %s: %d tokens, alone %d", request, i,
                  what, y->count, x->count);
        for (int32_t k = 0; k < x->count; k++)
            cr_assert(x->tokens[k] == y->tokens[k] &&
                          memcmp(&x->logprobs[k], &y->logprobs[k], sizeof(float)) == 0,
                      "request %d, sequence %d: token %d is %d (%.9g) %s, %d (%.9g) alone", request,
                      i, k, y->tokens[k], (double)y->logprobs[k], what, x->tokens[k],
                      (double)x->logprobs[k]);
    }
}

static void make_scripts(struct script *scripts, int32_t count, int32_t vocab)
{
    struct rng rng = {20261125};
    struct script_limits limits = {.vocab = vocab,
                                   .positions = 200,
                                   .blocks = 40,
                                   .width = 4,
                                   .length = 8,
                                   .long_answers = true};
    for (int32_t i = 0; i < count; i++) {
        script_random(&scripts[i], &rng, &limits);
        static const struct request_slo limits_of[] = {{2000000, 300}, {1, 1}, {1000000000, 0}};
        scripts[i].params.slo = limits_of[i % 3];
        scripts[i].params.sample.top_p = 0.95f;
        scripts[i].params.sample.top_k = 40;
        if (i % 4 != 1) continue;
        scripts[i].params.sample.repetition_penalty = 1.3f;
        scripts[i].params.sample.frequency_penalty = 0.4f;
    }
}

static void check_model(const char *path, int32_t count)
{
    struct script *scripts = must_alloc((size_t)count * sizeof *scripts);
    struct stage_client **right = must_alloc((size_t)count * sizeof *right);
    struct stage_client **other = must_alloc((size_t)count * sizeof *other);
    struct model *model = load(path, &alone);
    int32_t most_blocks = 1, staged = 0;
    make_scripts(scripts, count, model_config(model)->vocab);
    for (int32_t i = 0; i < count; i++) {
        right[i] = stage_client_create(&scripts[i]);
        run(model, &alone, &right[i], 1);
        most_blocks = max_i32(most_blocks, script_extent(&scripts[i]).blocks);
        staged += scripts[i].stage_count > 1;
    }
    cr_assert_gt(staged, count / 2);
    model_free(model);
    for (size_t v = 0; v < COUNT_OF(together); v++) {
        struct setting s = together[v];
        if (s.blocks == 0) s.blocks = most_blocks;
        for (int32_t i = 0; i < count; i++)
            other[i] = stage_client_create(&scripts[i]);
        model = load(path, &s);
        int64_t preemptions = run(model, &s, other, count);
        model_free(model);
        cr_assert_eq(preemptions > 0, s.preempts, "%d preemptions %s", (int)preemptions, s.what);
        for (int32_t i = 0; i < count; i++) {
            expect_same(right[i], other[i], i, s.what);
            stage_client_free(other[i]);
        }
    }
    for (int32_t i = 0; i < count; i++) {
        stage_client_free(right[i]);
        script_free(&scripts[i]);
    }
    free(scripts);
    free(right);
    free(other);
}

static int32_t runs(void)
{
    const char *text = getenv("ESPALIER_RUNS");
#ifdef __SANITIZE_ADDRESS__
    return text ? atoi(text) : 6; /* ten times as slow there */
#else
    return text ? atoi(text) : 20;
#endif
}

Test(stages_invariance, synthetic_model)
{
    check_model("synthetic:tiny", runs());
}

Test(stages_invariance, default_model, .timeout = 3000)
{
    const char *path = default_model();
    if (!path) cr_skip_test("the default model is not there");
    check_model(path, runs());
}
