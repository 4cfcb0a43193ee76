/* What a model would need, known before it is loaded; and what is refused. */
#include "model/memory_plan.h"
#include "model/checkpoint_private.h"
#include "tests/model/support_files.h"
#include "tests/model/support_forward.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define GIB ((int64_t)1 << 30)

static struct checkpoint *open_or_fail(const char *path)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    cr_assert(checkpoint_open(path, &checkpoint, &err) == ST_OK, "%s", err.text);
    return checkpoint;
}

static struct model_options options_of(enum weight_format weights)
{
    struct model_options options = model_options_default();
    options.weights = weights;
    options.threads = 2;
    return options;
}

Test(memory_plan, is_what_the_loaded_model_takes)
{
    for (enum weight_format format = WEIGHT_NATIVE; format <= WEIGHT_W8; format++) {
        struct checkpoint *checkpoint = open_or_fail("synthetic:tiny");
        struct model_options options = options_of(format);
        struct memory_plan plan;
        struct error err = {0};
        options.context = 512;
        cr_assert(memory_plan_make(&options, checkpoint, &plan, &err) == ST_OK, "%s", err.text);
        struct model *model = load_for_test("synthetic:tiny", &options);
        double packed = (double)model_weight_bytes(model);
        cr_expect(fabs((double)plan.weights / packed - 1) < 0.02, "%lld, not %g",
                  (long long)plan.weights, packed);
        cr_expect_eq((size_t)plan.kv, model_kv_bytes(model));
        cr_expect_eq(plan.kv_blocks, model_kv_blocks(model));
        cr_expect_eq(plan.context, 512);
        model_free(model);
        checkpoint_close(checkpoint);
    }
}

static void expect_plan_refused_at(int line, const char *path, const struct model_options *options,
                                   int64_t available, const char *part)
{
    struct checkpoint *checkpoint = open_or_fail(path);
    struct memory_plan plan;
    struct error err = {0};
    cr_assert(memory_plan_make(options, checkpoint, &plan, &err) == ST_OK, "%s", err.text);
    cr_expect_eq(memory_plan_check(&plan, options, checkpoint, plan.total, &err), ST_OK);
    cr_expect_eq(memory_plan_check(&plan, options, checkpoint, -1, &err), ST_OK);
    enum status status = memory_plan_check(&plan, options, checkpoint, available, &err);
    expect_refusal_at(__FILE__, line, status, &err, ST_NO_MEMORY, part);
    checkpoint_close(checkpoint);
}
#define expect_plan_refused(...) expect_plan_refused_at(__LINE__, __VA_ARGS__)

Test(memory_plan, what_does_not_fit_is_refused_with_advice)
{
    struct model_options w8 = options_of(WEIGHT_W8), native = options_of(WEIGHT_NATIVE);
    expect_plan_refused(
        "synthetic:qwen3-32b", &w8, 16 * GIB,
        "synthetic-qwen3-32b needs 32.2 GiB of memory (w8 weights 31.5, KV cache "
        "0.5, activations and the rest 0.2), 16.0 GiB are available: take a smaller");
    expect_plan_refused("synthetic:qwen3-8b", &native, 12 * GIB, "--weights w8 would fit");
    w8.kv_bytes = 100 * GIB;
    expect_plan_refused("synthetic:llama3-8b", &w8, 16 * GIB, "give a smaller --kv-memory");
}

Test(memory_plan, contexts_and_caches_that_cannot_be)
{
    struct checkpoint *checkpoint = open_or_fail("synthetic:tiny");
    struct model_options options = options_of(WEIGHT_W8);
    struct memory_plan plan;
    struct error err = {0};
    options.context = 2049;
    expect_refusal(memory_plan_make(&options, checkpoint, &plan, &err), &err, ST_INVALID,
                   "--context 2049: the model knows 2048 positions");
    options.context = 2048;
    options.kv_bytes = 4096;
    expect_refusal(memory_plan_make(&options, checkpoint, &plan, &err), &err, ST_INVALID,
                   "--kv-memory of 4096 bytes holds 16 tokens, less than --context 2048");
    options.context = 0;
    cr_expect(memory_plan_make(&options, checkpoint, &plan, &err) == ST_OK && plan.context == 16);
    options.kv_bytes = 4095;
    expect_refusal(memory_plan_make(&options, checkpoint, &plan, &err), &err, ST_INVALID,
                   "--kv-memory 4095: from 4096 (one block)");
    checkpoint_close(checkpoint);
}

/* The largest shapes that config.h lets a file ask for: nothing overflows (UBSan watches). */
Test(memory_plan, the_largest_shapes_do_not_overflow)
{
    struct checkpoint huge = {.config = {.vocab = MODEL_MAX_VOCAB,
                                         .hidden = MODEL_MAX_WIDTH,
                                         .intermediate = MODEL_MAX_WIDTH,
                                         .layers = MODEL_MAX_LAYERS,
                                         .heads = MODEL_MAX_HEADS,
                                         .kv_heads = MODEL_MAX_HEADS,
                                         .head_dim = MODEL_MAX_HEAD_DIM,
                                         .max_context = MODEL_MAX_CONTEXT}};
    struct model_options options = options_of(WEIGHT_NATIVE);
    struct memory_plan plan;
    struct error err = {0};
    huge.tensors = calloc((size_t)MODEL_MAX_LAYERS * TENSOR_ROLES, sizeof *huge.tensors);
    for (int32_t layer = 0; layer < MODEL_MAX_LAYERS; layer++)
        *checkpoint_slot(&huge, TENSOR_DOWN, layer) = (struct checkpoint_tensor){
            .name = "down", .rows = INT64_MAX / 2, .cols = INT64_MAX / 2};
    expect_refusal(memory_plan_make(&options, &huge, &plan, &err), &err, ST_INVALID,
                   "from 34359738368 (one block)");
    options.kv_blocks = INT32_MAX;
    expect_refusal(memory_plan_make(&options, &huge, &plan, &err), &err, ST_INVALID, "--kv-memory");
    options.kv_blocks = 1;
    options.max_tokens = INT32_MAX;
    cr_assert(memory_plan_make(&options, &huge, &plan, &err) == ST_OK, "%s", err.text);
    cr_expect_eq(plan.total, INT64_MAX);
    expect_refusal(memory_plan_check(&plan, &options, &huge, 100 * GIB, &err), &err, ST_NO_MEMORY,
                   "take a smaller model");
    free(huge.tensors);
}

Test(memory_plan, this_machine_has_some)
{
    int64_t available = memory_available();
    cr_expect(available > 16 << 20 && available < (int64_t)1 << 50, "%lld", (long long)available);
}
