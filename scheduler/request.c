/* Requests: checked, made and freed. */
#include "scheduler/sequence.h"
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t request_limits_length(const struct request_limits *limits, int32_t n)
{
    /* The incomplete last block of what n answers share stays there beside their own. */
    int64_t slots = ((int64_t)limits->block_count - (n > 1)) * KV_BLOCK_SLOTS;
    return slots < limits->max_context ? (int32_t)slots : limits->max_context;
}

static enum status check_length(const struct request_limits *limits,
                                const struct request_params *params, struct error *err)
{
    int32_t longest = request_limits_length(limits, params->n);
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

/* Of a request with stages, whose owner worked it out. */
static enum status check_extent(const struct request_limits *limits,
                                const struct request_params *params, struct error *err)
{
    const struct request_extent *extent = &params->extent;
    if (params->n != 1)
        return fail(err, ST_INVALID, "n is %d, but a request with stages has one answer.",
                    params->n);
    if (extent->positions > limits->max_context)
        return fail(err, ST_INVALID,
                    "This server's maximum context length is %d tokens, but the longest path "
                    "through the request's stages may have %d.",
                    limits->max_context, extent->positions);
    if (extent->blocks > limits->block_count)
        return fail(err, ST_INVALID,
                    "The KV cache has room for %lld tokens (%d blocks of %d), but the request's "
                    "stages may need %d blocks at the same time.",
                    (long long)limits->block_count * KV_BLOCK_SLOTS, limits->block_count,
                    KV_BLOCK_SLOTS, extent->blocks);
    return ST_OK;
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
    if (params->cached_tokens < 0 || params->cached_tokens > params->prompt_count)
        return fail(err, ST_INVALID, "cached_tokens is %d, but 0 to %d (the prompt) is allowed.",
                    params->cached_tokens, params->prompt_count);
    if (params->n < 1 || params->n > limits->max_queue)
        return fail(err, ST_INVALID, "n is %d, but 1 to %d (the queue's length) is allowed.",
                    params->n, limits->max_queue);
    if (params->stop_count < 0 || params->eos_count < 0 || params->eos_count > params->stop_count)
        return fail(err, ST_INVALID, "%d of %d stop tokens are end-of-sequence tokens.",
                    params->eos_count, params->stop_count);
    enum status status = check_length(limits, params, err);
    if (!status && params->events.next) status = check_extent(limits, params, err);
    if (!status) status = check_sampling(limits, &params->sample, err);
    if (status) return status;
    return check_tokens(limits->vocab, "Prompt token", params->prompt, params->prompt_count, err);
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

/* The first stage: the prompt and its answer, or the n of them when the prompt is a single token,
 * or else the trunk of n answers. */
static struct stage *create_first(struct request *request, struct branch_params *branches)
{
    const struct request_params *params = &request->params;
    bool trunk = params->n > 1 && params->prompt_count > 1;
    for (int32_t i = 0; i < params->n; i++)
        branches[i] = (struct branch_params){.prompt = params->prompt,
                                             .prompt_count = params->prompt_count,
                                             .max_tokens = trunk ? 0 : params->max_tokens,
                                             .seed = i ? rng_at(params->sample.seed, (uint64_t)i)
                                                       : params->sample.seed};
    struct stage_params first = {.branches = branches,
                                 .count = trunk ? 1 : params->n,
                                 .first_index = trunk ? -1 : 0,
                                 .parallel = !trunk && params->n > 1,
                                 .last = !trunk && !params->events.next};
    return stage_create(request, &first);
}

/* Behind a trunk: n branches that begin with the prompt's last token. */
static struct stage *create_answers(struct request *request, struct branch_params *branches)
{
    const struct request_params *params = &request->params;
    for (int32_t i = 0; i < params->n; i++) {
        branches[i].prompt_count = 0;
        branches[i].max_tokens = params->max_tokens;
    }
    struct stage_params answers = {
        .branches = branches, .count = params->n, .parallel = true, .last = true};
    return stage_create(request, &answers);
}

static bool create_stages(struct request *request, const struct block_hasher *hasher)
{
    const struct request_params *params = &request->params;
    struct branch_params *branches = try_alloc((size_t)params->n, sizeof *branches);
    if (!branches) return false;
    struct stage *first = create_first(request, branches);
    if (first) {
        stage_append(hasher, request, first);
        if (!first->last && !params->events.next)
            request->answers = create_answers(request, branches);
    }
    free(branches);
    return first && (first->last || params->events.next || request->answers);
}

enum status request_create(const struct request_limits *limits, const struct request_params *params,
                           int64_t now_us, struct request **out, struct error *err)
{
    struct request *request = try_alloc(1, sizeof *request);
    if (!request) goto no_memory;
    request->params = *params;
    request->root = block_key_root(&limits->hasher, params->cache_salt, params->cache_salt_length);
    request->params.cache_salt = NULL; /* the key is all that is needed */
    bool earlier = params->arrival_us > 0 && params->arrival_us < now_us;
    request->stats.arrival_us = earlier ? params->arrival_us : now_us;
    request->stats.prompt_tokens = params->prompt_count;
    if (!copy_borrowed(request)) goto no_memory;
    if (!create_stages(request, &limits->hasher)) goto no_memory;
    request->params.prompt = NULL; /* the sequences have their own */
    *out = request;
    return ST_OK;

no_memory:
    if (request) request_free(request);
    return fail(err, ST_NO_MEMORY, "Out of memory for %d sequences of up to %d tokens.", params->n,
                params->max_tokens);
}

void request_free(struct request *request)
{
    stage_free(request->answers);
    for (struct stage *next, *stage = request->first_stage; stage; stage = next) {
        next = stage->next;
        stage_free(stage);
    }
    free(request->stop_ids);
    free(request->biases);
    free(request);
}

bool request_before(const struct request *a, const struct request *b)
{
    if (a->params.priority != b->params.priority) return a->params.priority < b->params.priority;
    return a->id < b->id;
}
