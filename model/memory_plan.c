#include "model/memory_plan.h"
#include "base/base.h"
#include "model/load_options.h"
#include "model/transformer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a laptop can spare, and four full contexts where they need less. */
#define DEFAULT_KV_BYTES ((int64_t)512 << 20)

/* Tokenizer, threads, buffers: small beside any model that is near the limit. */
#define OTHER_BYTES ((int64_t)64 << 20)

/* Sizes that come from files: INT64_MAX stands for whatever is more. */
static int64_t product(int64_t a, int64_t b)
{
    int64_t result;
    return __builtin_mul_overflow(a, b, &result) ? INT64_MAX : result;
}

static int64_t sum(int64_t a, int64_t b)
{
    int64_t result;
    return __builtin_add_overflow(a, b, &result) ? INT64_MAX : result;
}

/* --- the KV cache */

int64_t kv_token_bytes(const struct model_config *c, enum dtype type)
{
    int64_t width = type == DT_F32 ? 4 : 2;
    return 2 * width * c->layers * c->kv_heads * c->head_dim; /* below 2^43 by config.h's limits */
}

/* At least one full context must fit, so a small --kv-memory is refused for a context that was
 * asked for and shortens one that was not. */
static enum status plan_cache(const struct model_options *options, const struct model_config *c,
                              struct memory_plan *plan, struct error *err)
{
    int64_t block = BLOCK_SLOTS * kv_token_bytes(c, options->kv_type);
    int64_t bytes = options->kv_blocks ? product(options->kv_blocks, block) : options->kv_bytes;
    int32_t context = options->context ? options->context : c->max_context;
    if (context > c->max_context)
        return fail(err, ST_INVALID, "--context %d: the model knows %d positions%s", context,
                    c->max_context, c->window == c->max_context ? " (its sliding window)" : "");
    int64_t need = (context + BLOCK_SLOTS - 1) / BLOCK_SLOTS; /* blocks of one full context */
    if (!bytes) {
        bytes = product(4 * need, block);
        if (bytes > DEFAULT_KV_BYTES) bytes = DEFAULT_KV_BYTES;
    }
    int64_t blocks = bytes / block;
    if (blocks < need && options->context && !options->kv_bytes && !options->kv_blocks)
        blocks = need;
    if (blocks < 1 || blocks > INT32_MAX / BLOCK_SLOTS)
        return fail(err, ST_INVALID, "--kv-memory %lld: from %lld (one block) to %lld bytes",
                    (long long)bytes, (long long)block,
                    (long long)product(INT32_MAX / BLOCK_SLOTS, block));
    if (blocks < need && options->context)
        return fail(err, ST_INVALID,
                    "--kv-memory of %lld bytes holds %lld tokens, less than --context %d",
                    (long long)bytes, (long long)(blocks * BLOCK_SLOTS), context);
    if (blocks < need) context = (int32_t)(blocks * BLOCK_SLOTS);
    plan->kv_blocks = (int32_t)blocks;
    plan->kv = product(blocks, block);
    plan->context = context;
    return ST_OK;
}

/* --- weights and activations */

/* One tensor as kernels/cpu/weight.c packs it, without the padding of its last panel. Of what is
 * not stored in 4 bits the load cache makes it (quant/checkpoint/load_cache.h): all but the
 * embedding and the head. */
static int64_t packed_bytes(const struct checkpoint_tensor *tensor, enum tensor_role role,
                            enum weight_format weights_as, bool as_stored)
{
    int64_t weights = product(tensor->rows, tensor->cols);
    enum weight_format format = weight_format_kept(&tensor, 1, weights_as, as_stored);
    if (!tensor_role_is_matrix(role)) return product(weights, 4);
    if (format == WEIGHT_VSQ4Z && role <= TENSOR_HEAD) format = WEIGHT_W8;
    if (format == WEIGHT_VSQ4Z) return sum(weights / 2, weights / 25); /* 4 + 5 / 16 bits */
    if (format == WEIGHT_W8) return sum(weights, weights / 32); /* a bf16 scale for 64 inputs */
    bool half = tensor->type == FILE_F16 || tensor->type == FILE_BF16;
    return product(weights, half ? 2 : 4);
}

static int64_t plan_weights(const struct checkpoint *checkpoint, enum weight_format format,
                            bool as_stored)
{
    const struct model_config *c = checkpoint_config(checkpoint);
    int64_t bytes = 0;
    for (int32_t layer = 0; layer < c->layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
            const struct checkpoint_tensor *tensor = checkpoint_tensor(checkpoint, role, layer);
            if (tensor && (!layer || role > TENSOR_FINAL_NORM))
                bytes = sum(bytes, packed_bytes(tensor, role, format, as_stored));
        }
    return bytes;
}

static int64_t plan_activations(const struct model_options *options, const struct model_config *c)
{
    int64_t logits = options->max_logits ? options->max_logits : options->max_rows;
    int64_t token = c->hidden + 2 * (int64_t)c->heads * c->head_dim + c->intermediate;
    int threads = options->threads ? options->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t sampling = product(threads > 0 ? threads : 1, 4 * (int64_t)c->vocab);
    return product(
        4, sum(sum(product(options->max_tokens, token), product(logits, c->vocab)), sampling));
}

enum status memory_plan_make(const struct model_options *options,
                             const struct checkpoint *checkpoint, struct memory_plan *plan,
                             struct error *err)
{
    const struct model_config *config = checkpoint_config(checkpoint);
    *plan = (struct memory_plan){0};
    enum status status = plan_cache(options, config, plan, err);
    if (status) return status;
    plan->weights = plan_weights(checkpoint, options->weights, options->as_stored);
    if (options->simulated) plan->weights = product(plan->weights, 2); /* f32, at most twice */
    plan->activations = plan_activations(options, config);
    plan->total = sum(sum(plan->weights, plan->kv), sum(plan->activations, OTHER_BYTES));
    return ST_OK;
}

/* --- against what there is */

static double gib(int64_t bytes)
{
    return (double)bytes / (1 << 30);
}

enum status memory_plan_check(const struct memory_plan *plan, const struct model_options *options,
                              const struct checkpoint *checkpoint, int64_t available,
                              struct error *err)
{
    if (available < 0 || plan->total <= available) return ST_OK;
    int64_t rest = plan->total - plan->weights;
    int64_t small = plan_weights(checkpoint, WEIGHT_W8, true);
    const char *advice = "take a smaller model or a machine with more memory";
    if (plan->total - plan->kv <= available)
        advice = "give a smaller --kv-memory or --context";
    else if (options->weights != WEIGHT_W8 && sum(small, rest) <= available)
        advice = "--weights w8 would fit";
    return fail(err, ST_NO_MEMORY,
                "%s needs %.1f GiB of memory (%s weights %.1f, KV cache %.1f, activations and the "
                "rest %.1f), %.1f GiB are available: %s",
                checkpoint_config(checkpoint)->name, gib(plan->total),
                weight_format_name(options->weights), gib(plan->weights), gib(plan->kv),
                gib(plan->total - plan->weights - plan->kv), gib(available), advice);
}

/* The number behind `key` in a file of "key number" lines, or of one number where key is "". */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t value = -1;
    size_t length = strlen(key);
    FILE *file = fopen(path, "r");
    while (file && value < 0 && fgets(line, sizeof line, file)) {
        char *end;
        if (strncmp(line, key, length) != 0) continue;
        long long number = strtoll(line + length, &end, 10);
        if (end != line + length && number >= 0) value = number;
    }
    if (file) fclose(file);
    return value;
}

/* What is left of a control group's memory; pages of files that nobody uses can be taken back. */
static int64_t left_in(const char *directory, const char *limit, const char *usage)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, limit);
    int64_t maximum = number_in(path, "");
    snprintf(path, sizeof path, "%s/%s", directory, usage);
    int64_t used = number_in(path, "");
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    int64_t idle = number_in(path, "inactive_file ");
    if (maximum < 0 || used < 0) return -1; /* no such group, or no limit ("max") */
    int64_t left = maximum - used + (idle > 0 ? idle : 0);
    return left > 0 ? left : 0;
}

static int64_t smaller_known(int64_t a, int64_t b)
{
    if (a < 0 || b < 0) return a < 0 ? b : a;
    return a < b ? a : b;
}

/* The process's own control group, by its line in /proc/self/cgroup, and the root of what is
 * mounted (which is the container's own group where groups have namespaces). */
static int64_t cgroup_available(void)
{
    int64_t left = smaller_known(
        left_in("/sys/fs/cgroup", "memory.max", "memory.current"),
        left_in("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"));
    char line[512], directory[600];
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *memory = strstr(line, ":memory:");
        if (memory) {
            snprintf(directory, sizeof directory, "/sys/fs/cgroup/memory%s", memory + 8);
            left = smaller_known(
                left, left_in(directory, "memory.limit_in_bytes", "memory.usage_in_bytes"));
        } else if (!strncmp(line, "0::", 3)) {
            snprintf(directory, sizeof directory, "/sys/fs/cgroup%s", line + 3);
            left = smaller_known(left, left_in(directory, "memory.max", "memory.current"));
        }
    }
    if (file) fclose(file);
    return left;
}

int64_t memory_available(void)
{
    int64_t kib = number_in("/proc/meminfo", "MemAvailable:");
    return smaller_known(kib < 0 ? -1 : product(kib, 1024), cgroup_available());
}
