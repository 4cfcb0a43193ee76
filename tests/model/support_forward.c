#include "tests/model/support_forward.h"
#include "model/sampling.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_TOKENS 512

struct model *load_for_test(const char *path, const struct model_options *given)
{
    struct model_options options = model_options_default();
    struct model *model = NULL;
    struct error err = {0};
    if (given) options = *given;
    if (!given) {
        options.weights = WEIGHT_NATIVE;
        options.kv_type = DT_F32;
    }
    options.path = path;
    if (!options.context) options.context = 512;
    options.max_tokens = STEP_TOKENS;
    options.max_logits = STEP_TOKENS;
    cr_assert_eq(model_load(&options, &model, &err), ST_OK, "%s: %s", path, err.text);
    return model;
}

void context_begin(struct context *c, struct model *model)
{
    *c = (struct context){.model = model};
    context_open_span(c, 0);
}

void context_open_span(struct context *c, int32_t first_slot)
{
    cr_assert_lt(c->span_count, MAX_SPANS);
    int32_t at = c->span_count++;
    c->spans[at] = (struct attention_span){c->blocks[at], first_slot, 0};
}

/* Blocks are handed out in an order that is not ascending, so that a kernel that ignores the table
 * fails. */
static int32_t take_block(struct context *c)
{
    int32_t total = model_kv_blocks(c->model);
    cr_assert_lt(c->next_block, total);
    int32_t at = c->next_block++;
    return at % 2 ? total - 1 - at / 2 : at / 2;
}

void context_push(struct context *c, const int32_t *tokens, int32_t count, double *next_logprob)
{
    static int32_t positions[STEP_TOKENS], logit_rows[STEP_TOKENS];
    static int64_t slots[STEP_TOKENS];
    struct attention_span *span = &c->spans[c->span_count - 1];
    int32_t *blocks = c->blocks[c->span_count - 1];
    cr_assert_leq(count, STEP_TOKENS);
    for (int32_t i = 0; i < count; i++) {
        int32_t slot = span->first_slot + span->length;
        if (slot % BLOCK_SLOTS == 0 || span->length == 0)
            blocks[slot / BLOCK_SLOTS] = take_block(c);
        slots[i] = (int64_t)blocks[slot / BLOCK_SLOTS] * BLOCK_SLOTS + slot % BLOCK_SLOTS;
        positions[i] = c->next_position++;
        logit_rows[i] = i;
        span->length++;
    }
    struct attention_sequence sequence = {
        .rows = count, .context = c->length + 1, .spans = c->spans, .span_count = c->span_count};
    c->length += count;
    struct step_input input = {.rows = count,
                               .tokens = tokens,
                               .positions = positions,
                               .slots = slots,
                               .sequences = &sequence,
                               .sequence_count = 1,
                               .logit_rows = logit_rows,
                               .logit_count = count};
    model_forward(c->model, &input);
    int32_t vocab = model_config(c->model)->vocab;
    float *logits = must_alloc((size_t)vocab * sizeof *logits);
    for (int32_t i = 0; next_logprob && i + 1 < count; i++) {
        model_logits(c->model, i, logits);
        next_logprob[i] = (double)logits[tokens[i + 1]] - logits_logsumexp(logits, vocab);
    }
    free(logits);
}

double last_logprob(struct context *c, int32_t count, int32_t token)
{
    int32_t vocab = model_config(c->model)->vocab;
    float *logits = must_alloc((size_t)vocab * sizeof *logits);
    model_logits(c->model, count - 1, logits);
    double value = (double)logits[token] - logits_logsumexp(logits, vocab);
    free(logits);
    return value;
}

int32_t last_argmax(struct context *c, int32_t count)
{
    int32_t vocab = model_config(c->model)->vocab;
    float *logits = must_alloc((size_t)vocab * sizeof *logits);
    model_logits(c->model, count - 1, logits);
    struct sampler *sampler = sampler_create(vocab);
    const struct sample_spec greedy = {.top_p = 1};
    int32_t token = sampler_draw(sampler, logits, &greedy, (struct token_history){0}, 0).token;
    sampler_free(sampler);
    free(logits);
    return token;
}

int32_t *json_ids(const json_t *array, int32_t *count)
{
    *count = (int32_t)json_array_size(array);
    int32_t *ids = must_alloc((size_t)*count * sizeof *ids);
    for (int32_t i = 0; i < *count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return ids;
}

json_t *load_json(const char *directory, const char *file)
{
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s", directory, file);
    json_t *doc = json_load_file(path, JSON_ALLOW_NUL, &error);
    cr_assert(doc, "%s: %s at line %d", path, error.text, error.line);
    return doc;
}

/* Does the directory have weights, in whatever number of files? */
static bool has_weights(const char *directory)
{
    bool found = false;
    DIR *list = opendir(directory);
    for (struct dirent *entry; list && (entry = readdir(list));)
        found |= strstr(entry->d_name, ".safetensors") && !strstr(entry->d_name, ".json");
    if (list) closedir(list);
    return found;
}

const char *golden_directory(const char *set)
{
    static char path[1024];
    const char *generated = getenv("ESPALIER_TEST_GENERATED");
    const char *roots[] = {TEST_DATA "/golden",
                           generated ? generated : SOURCE_DIR "/build/generated"};
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        snprintf(path, sizeof path, "%s/%s", roots[i], set);
        if (has_weights(path)) return path;
    }
    return NULL;
}

const char *default_model(void)
{
    const char *path = getenv("ESPALIER_TEST_MODEL");
    if (!path) path = SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(path, R_OK) == 0) return path;
    fprintf(stderr, "skipped: %s is not there (bash quickstart.sh --no-serve fetches it)\n", path);
    return NULL;
}
