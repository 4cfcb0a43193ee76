/* Runs a model by hand: chosen blocks, positions and spans, logits of every token. */
#ifndef TESTS_MODEL_SUPPORT_FORWARD_H
#define TESTS_MODEL_SUPPORT_FORWARD_H

#include "model/model.h"

#include <jansson.h>

/* A context that grows: a few spans, of which the last one grows. */
#define MAX_SPANS 6
struct context {
    struct model *model;
    struct attention_span spans[MAX_SPANS];
    int32_t blocks[MAX_SPANS][64];
    int32_t span_count, length, next_position, next_block;
};

/* Native weights and f32 KV, or what `options` says beside path; 1..512 tokens a step, all with
 * logits. */
struct model *load_for_test(const char *path, const struct model_options *options);

void context_begin(struct context *c, struct model *model);
/* Opens a new span on fresh blocks whose first token lands in slot first_slot. */
void context_open_span(struct context *c, int32_t first_slot);
/* Computes count tokens; logprobs of token i + 1 given the ones before go to next_logprob[i] for
 * i < count - 1 (may be NULL). The last token's logits stay readable with model_logits(count - 1).
 */
void context_push(struct context *c, const int32_t *tokens, int32_t count, double *next_logprob);

/* log softmax of the last pushed token's logits for `token`; the lowest id among the best. */
double last_logprob(struct context *c, int32_t count, int32_t token);
int32_t last_argmax(struct context *c, int32_t count);

/* JSON helpers: an array of integers (caller frees), and a file. */
int32_t *json_ids(const json_t *array, int32_t *count);
json_t *load_json(const char *directory, const char *file);

/* The directory of a golden set's model: tests/data/golden/SET, or the one under
 * ESPALIER_TEST_GENERATED where the weights are made by tests/make_golden_data.py; NULL when
 * neither is there. Static buffer. */
const char *golden_directory(const char *set);

/* The default model's path, or NULL (with the reason on stderr) when it is not there. */
const char *default_model(void);

#endif
