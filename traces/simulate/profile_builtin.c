/* The built-in profiles: the simulation study's model (../shared/reference/controller.md) and
 * measured Qwen3-32B engines (../shared/reference/branches-and-slo.md section 5). A name with
 * -noshare at its end is the same profile, every row reading its own context. */
#include "traces/simulate/profile_private.h"

#include "base/base.h"

#include <stdio.h>
#include <string.h>

/* Qwen3-32B: 64 layers, 64 query heads of 128; scores and values, 2 operations each. */
#define ATTENTION_OPS (4.0 * 64 * 64 * 128)
#define WEIGHT_BYTES  65.5e9
#define KV_BYTES      262144.0 /* a token */
#define PEAK_OPS      989e12   /* bf16, dense, of one H100 or H200 */

#define VOCAB 151936

static void study_h200(struct profile *profile)
{
    *profile = (struct profile){
        .fixed_us = 3000,
        .context_us = KV_BYTES / (4.8e12 * 0.75) * 1e6,
        .row_us = 20,
        .prefill_context_us = ATTENTION_OPS / (PEAK_OPS * 0.45) * 1e6,
        .noise = 0.04,
        .gemm = {.form = GEMM_ROOFLINE,
                 .base_us = WEIGHT_BYTES / (4.8e12 * 0.85) * 1e6,
                 .token_us = 2 * 32.8e9 / (PEAK_OPS * 0.65) * 1e6,
                 .power = 4},
        .kv_tokens = 229000,
        .max_rows = 512,
        .max_tokens = 1024, /* the rows and the largest chunk anybody tries */
    };
}

/* The measured engines; a, b, c as in the table of section 5. */
struct engine_fit {
    double a_ms, b_ms, c_ns;
    int64_t kv_tokens;
    int gpus;
};

/* GEMM on one H200, which was measured in steps of tiles; the others in proportion to their a. */
static const struct gemm_point h200_tiles[] = {{64, 18800},  {128, 18700}, {192, 23100},
                                               {256, 24300}, {384, 33400}, {512, 41400}};
#define H200_A_MS 18.4

static void measured(struct profile *profile, const struct engine_fit *fit)
{
    *profile = (struct profile){
        .context_us = fit->c_ns * 1e-3,
        .row_us = fit->b_ms * 1e3,
        .prefill_context_us = ATTENTION_OPS / (fit->gpus * PEAK_OPS * 0.45) * 1e6,
        .noise = 0.04,
        .gemm = {.form = GEMM_TILES, .count = (int32_t)COUNT_OF(h200_tiles), .tile = 128},
        .kv_tokens = fit->kv_tokens,
        .max_rows = 512,
        .max_tokens = 8192,
    };
    for (size_t i = 0; i < COUNT_OF(h200_tiles); i++)
        profile->gemm.points[i] =
            (struct gemm_point){h200_tiles[i].tokens, h200_tiles[i].us * fit->a_ms / H200_A_MS};
}

static const char *const names[] = {
    "study-h200",         "study-h200-noshare",
    "h200-qwen3-32b",     "h200-qwen3-32b-noshare",
    "h200x2-qwen3-32b",   "h200x2-qwen3-32b-noshare",
    "h100x2-qwen3-32b",   "h100x2-qwen3-32b-noshare",
    "h100-qwen3-32b-fp8", "h100-qwen3-32b-fp8-noshare",
};

const char *const *profile_builtin_names(size_t *count)
{
    *count = COUNT_OF(names);
    return names;
}

static const struct engine_fit fits[] = {
    {18.4, 0.031, 61, 255000, 1}, /* h200-qwen3-32b */
    {10.2, 0.024, 30, 760000, 2}, /* h200x2-qwen3-32b */
    {13.3, 0.019, 44, 310000, 2}, /* h100x2-qwen3-32b */
    {14.4, 0.034, 85, 150000, 1}, /* h100-qwen3-32b-fp8 */
};

bool profile_builtin(const char *name, struct profile *profile)
{
    size_t at = 0;
    while (at < COUNT_OF(names) && strcmp(name, names[at]) != 0)
        at++;
    if (at == COUNT_OF(names)) return false;
    if (at < 2)
        study_h200(profile);
    else
        measured(profile, &fits[at / 2 - 1]);
    snprintf(profile->name, sizeof profile->name, "%s", name);
    profile->shared = at % 2 ? SHARED_NONE : SHARED_SIBLINGS;
    profile->depth = 1;
    profile->max_context = 131072;
    profile->vocab = VOCAB;
    return true;
}
