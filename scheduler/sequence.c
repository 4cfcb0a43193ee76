#include "scheduler/sequence.h"
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t request_limits_length(const struct request_limits *limits)
{
    int64_t slots = (int64_t)limits->block_count * KV_BLOCK_SLOTS;
    return slots < limits->max_context ? (int32_t)slots : limits->max_context;
}

static enum status check_length(const struct request_limits *limits,
                                const struct request_params *params, struct error *err)
{
    int32_t longest = request_limits_length(limits);
    int64_t length = (int64_t)params->prompt_count + params->max_tokens;
    if (length <= longest) return ST_OK;
    char why[96] = "";
    if (longest < limits->max_context)
        snprintf(why, sizeof why, " (the room of its KV cache: %d blocks of %d)",
                 limits->block_count, KV_BLOCK_SLOTS);
    return fail(err, ST_INVALID,
                "This server's maximum context length is %d tokens%s, but the request asks for "
                "%lld: %d in the prompt and max_tokens %d.",
                longest, why, (long long)length, params->prompt_count, params->max_tokens);
}

static enum status check_tokens(int32_t vocab, const char *what, const int32_t *ids, int32_t count,
                                struct error *err)
{
    for (int32_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return fail(err, ST_INVALID, "%s %d is %d, but the vocabulary is 0 to %d.", what, i,
                        ids[i], vocab - 1);
    return ST_OK;
}

static enum status check_sampling(const struct request_limits *limits,
                                  const struct sample_spec *sample, struct error *err)
{
    for (int32_t i = 0; i < sample->bias_count; i++)
        if (sample->biases[i].token < 0 || sample->biases[i].token >= limits->vocab)
            return fail(err, ST_INVALID,
                        "logit_bias names token %d, but the vocabulary is 0 to %d.",
                        sample->biases[i].token, limits->vocab - 1);
    if (sample->top_logprobs < 0 || sample->top_logprobs > MAX_TOP_LOGPROBS)
        return fail(err, ST_INVALID, "top_logprobs is %d, but 0 to %d is allowed.",
                    sample->top_logprobs, MAX_TOP_LOGPROBS);
    return ST_OK;
}

enum status request_check(const struct request_limits *limits, const struct request_params *params,
                          struct error *err)
{
    if (params->prompt_count < 1)
        return fail(err, ST_INVALID, "The prompt is empty: at least one token is needed.");
    if (params->max_tokens < 0)
        return fail(err, ST_INVALID, "max_tokens is %d, but at least 0 is needed.",
                    params->max_tokens);
    if (params->n < 1 || params->n > limits->max_queue)
        return fail(err, ST_INVALID, "n is %d, but 1 to %d (the queue's length) is allowed.",
                    params->n, limits->max_queue);
    if (params->stop_count < 0 || params->eos_count < 0 || params->eos_count > params->stop_count)
        return fail(err, ST_INVALID, "%d of %d stop tokens are end-of-sequence tokens.",
                    params->eos_count, params->stop_count);
    enum status status = check_length(limits, params, err);
    if (!status) status = check_sampling(limits, &params->sample, err);
    if (status) return status;
    return check_tokens(limits->vocab, "Prompt token", params->prompt, params->prompt_count, err);
}

/* Tokens that would end the answer are not drawn before min_tokens, as in vLLM. */
static void withhold_stops(struct sample_spec *sample, const struct request_params *params)
{
    int32_t first = params->ignore_eos ? params->eos_count : 0;
    sample->withheld_until = params->min_tokens;
    sample->withheld_count = params->min_tokens > 0 ? params->stop_count - first : 0;
    sample->withheld = sample->withheld_count ? params->stop_ids + first : NULL;
}

static bool sequence_init(struct sequence *seq, struct request *request, int32_t index)
{
    const struct request_params *params = &request->params;
    int32_t length = params->prompt_count + params->max_tokens;
    seq->request = request;
    seq->index = index;
    seq->sample = params->sample;
    withhold_stops(&seq->sample, params);
    if (index > 0) seq->sample.seed = rng_at(params->sample.seed, (uint64_t)index);
    seq->tokens = try_alloc((size_t)length, sizeof *seq->tokens);
    if (!seq->tokens || !block_table_init(&seq->table, length)) return false;
    memcpy(seq->tokens, params->prompt, (size_t)params->prompt_count * sizeof *seq->tokens);
    return true;
}

/* Moves params to copies of what it points at. */
static bool copy_borrowed(struct request *request)
{
    struct request_params *params = &request->params;
    size_t stops = (size_t)params->stop_count, biases = (size_t)params->sample.bias_count;
    if (stops) {
        request->stop_ids = try_alloc(stops, sizeof *request->stop_ids);
        if (!request->stop_ids) return false;
        memcpy(request->stop_ids, params->stop_ids, stops * sizeof *request->stop_ids);
    }
    if (biases) {
        request->biases = try_alloc(biases, sizeof *request->biases);
        if (!request->biases) return false;
        memcpy(request->biases, params->sample.biases, biases * sizeof *request->biases);
    }
    params->stop_ids = request->stop_ids;
    params->sample.biases = request->biases;
    return true;
}

enum status request_create(const struct request_limits *limits, const struct request_params *params,
                           int64_t arrival_us, struct request **out, struct error *err)
{
    struct request *request =
        try_alloc(1, sizeof *request + (size_t)params->n * sizeof request->sequences[0]);
    if (!request) goto no_memory;
    request->params = *params;
    request->root = block_key_root(&limits->hasher, params->cache_salt, params->cache_salt_length);
    request->params.cache_salt = NULL; /* the key is all that is needed */
    request->stats.arrival_us = arrival_us;
    request->stats.prompt_tokens = params->prompt_count;
    request->unfinished = request->uses = params->n;
    if (!copy_borrowed(request)) goto no_memory;
    for (int32_t i = 0; i < params->n; i++)
        if (!sequence_init(&request->sequences[i], request, i)) goto no_memory;
    request->params.prompt = NULL; /* each sequence has its own */
    *out = request;
    return ST_OK;

no_memory:
    if (request) request_free(request);
    return fail(err, ST_NO_MEMORY, "Out of memory for %d sequences of up to %d tokens.", params->n,
                params->max_tokens);
}

void request_free(struct request *request)
{
    for (int32_t i = 0; i < request->params.n; i++) {
        block_table_free_memory(&request->sequences[i].table);
        free(request->sequences[i].tokens);
    }
    free(request->stop_ids);
    free(request->biases);
    free(request);
}

bool sequence_before(const struct sequence *a, const struct sequence *b)
{
    const struct request *ra = a->request, *rb = b->request;
    if (ra->params.priority != rb->params.priority)
        return ra->params.priority < rb->params.priority;
    if (ra->id != rb->id) return ra->id < rb->id;
    return a->index < b->index;
}

bool sequence_ends_with(const struct sequence *seq, int32_t token)
{
    const struct request_params *params = &seq->request->params;
    if (seq->generated_count <= params->min_tokens) return false; /* the token is counted already */
    for (int32_t i = params->ignore_eos ? params->eos_count : 0; i < params->stop_count; i++)
        if (params->stop_ids[i] == token) return true;
    return false;
}

void sequence_check(const struct sequence *seq)
{
    const struct request_params *params = &seq->request->params;
    unsigned long long id = seq->request->id;
    int32_t slots = seq->table.count * KV_BLOCK_SLOTS;
    invariant(seq->generated_count >= 0 && seq->generated_count <= params->max_tokens,
              "sequence %llu.%d has %d of %d tokens", id, seq->index, seq->generated_count,
              params->max_tokens);
    invariant(seq->pending >= 0 && seq->pending <= seq->in_flight,
              "sequence %llu.%d waits for %d tokens from %d rows", id, seq->index, seq->pending,
              seq->in_flight);
    invariant(seq->chained >= 0 && seq->chained <= seq->table.count &&
                  seq->chained * KV_BLOCK_SLOTS <= seq->computed,
              "sequence %llu.%d: %d of %d blocks in the tree, %d slots computed", id, seq->index,
              seq->chained, seq->table.count, seq->computed);
    invariant(seq->computed >= 0 && seq->computed <= slots, "sequence %llu.%d wrote %d slots of %d",
              id, seq->index, seq->computed, slots);
    switch (seq->state) {
    case SEQUENCE_WAITING:
        invariant(slots == 0 && seq->in_flight == 0 && seq->computed == 0,
                  "sequence %llu.%d waits with %d slots and %d rows in flight", id, seq->index,
                  slots, seq->in_flight);
        break;
    case SEQUENCE_RUNNING:
        invariant(slots >= params->prompt_count && seq->computed <= sequence_context(seq),
                  "sequence %llu.%d runs with %d slots, %d computed, a context of %d", id,
                  seq->index, slots, seq->computed, sequence_context(seq));
        break;
    case SEQUENCE_LEAVING:
        invariant(seq->in_flight > 0, "sequence %llu.%d leaves with no row in flight", id,
                  seq->index);
        break;
    case SEQUENCE_ENDED:
        invariant(seq->settled == (seq->in_flight == 0) && (!seq->settled || slots == 0),
                  "sequence %llu.%d ended with %d slots, %d rows in flight and %s", id, seq->index,
                  slots, seq->in_flight, seq->settled ? "settled" : "not settled");
        break;
    }
}
