#include "traces/trace.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- copies: a request's arrays behind each other in one piece of memory */

static size_t aligned(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

static size_t token_count(const struct trace_request *request)
{
    size_t count = 0;
    for (int32_t i = 0; i < request->stage_count; i++)
        count += (size_t)request->stages[i].branch_count;
    return count;
}

/* Bytes of what a request points at. */
static size_t payload_bytes(const struct trace_request *request)
{
    return aligned((size_t)request->prefix_count * sizeof(struct trace_prefix) +
                   (size_t)request->stage_count * sizeof(struct trace_stage) +
                   token_count(request) * sizeof(int32_t) + strlen(request->class_name) + 1);
}

/* Prefixes and stages first: they need the alignment. */
static void pack(const struct trace_request *from, struct trace_request *to, void *payload)
{
    char *at = payload;
    size_t prefix_bytes = (size_t)from->prefix_count * sizeof(struct trace_prefix);
    size_t stage_bytes = (size_t)from->stage_count * sizeof(struct trace_stage);
    *to = *from;
    if (prefix_bytes) memcpy(at, from->prefixes, prefix_bytes);
    to->prefixes = (struct trace_prefix *)at;
    at += prefix_bytes;
    struct trace_stage *stages = (struct trace_stage *)at;
    memcpy(stages, from->stages, stage_bytes);
    to->stages = stages;
    at += stage_bytes;
    for (int32_t i = 0; i < from->stage_count; i++) {
        size_t bytes = (size_t)from->stages[i].branch_count * sizeof(int32_t);
        memcpy(at, from->stages[i].branch_tokens, bytes);
        stages[i].branch_tokens = (int32_t *)at;
        at += bytes;
    }
    to->class_name = strcpy(at, from->class_name);
}

size_t trace_request_bytes(const struct trace_request *request)
{
    return sizeof *request + payload_bytes(request);
}

struct trace_request *trace_request_copy(const struct trace_request *request)
{
    struct trace_request *copy = must_alloc(trace_request_bytes(request));
    pack(request, copy, copy + 1);
    return copy;
}

/* --- a trace in memory */

#define CHUNK_BYTES ((size_t)1 << 20)

struct chunk {
    struct chunk *next;
    size_t used, size;
    uint64_t bytes[]; /* as words: they carry the alignment */
};

struct trace_arena {
    struct chunk *chunks; /* the newest first */
    size_t capacity;      /* of trace.requests */
};

static void *arena_take(struct trace_arena *arena, size_t bytes)
{
    struct chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < bytes) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        chunk = must_realloc(NULL, sizeof *chunk + size);
        *chunk = (struct chunk){.next = arena->chunks, .size = size};
        arena->chunks = chunk;
    }
    void *memory = (char *)chunk->bytes + chunk->used;
    chunk->used += bytes;
    return memory;
}

struct trace *trace_create(void)
{
    struct trace *trace = must_alloc(sizeof *trace);
    trace->arena = must_alloc(sizeof *trace->arena);
    return trace;
}

void trace_add(struct trace *trace, const struct trace_request *request)
{
    struct trace_arena *arena = trace->arena;
    invariant(trace->count == 0 ||
                  request->arrival_ms >= trace->requests[trace->count - 1].arrival_ms,
              "request %zu arrives before the one in front of it", trace->count);
    if (trace->count == arena->capacity) {
        arena->capacity = arena->capacity ? 2 * arena->capacity : 256;
        trace->requests = must_realloc(trace->requests, arena->capacity * sizeof *trace->requests);
    }
    pack(request, &trace->requests[trace->count++], arena_take(arena, payload_bytes(request)));
}

void trace_free(struct trace *trace)
{
    if (!trace) return;
    for (struct chunk *chunk = trace->arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(trace->arena);
    free(trace->requests);
    free(trace);
}

/* --- what a request may be */

static enum status check_times(const struct trace_request *request, struct error *err)
{
    const struct {
        const char *name;
        double ms;
    } times[] = {{"arrival_ms", request->arrival_ms},
                 {"slo.ttft_ms", request->ttft_ms},
                 {"slo.tpot_ms", request->tpot_ms}};
    for (size_t i = 0; i < COUNT_OF(times); i++)
        if (!(times[i].ms >= 0 && times[i].ms <= TRACE_MAX_MS))
            return fail(err, ST_INVALID, "%s: found %.13g, allowed is 0 to %.13g", times[i].name,
                        times[i].ms, TRACE_MAX_MS);
    return ST_OK;
}

static enum status check_prompt(const struct trace_request *request, struct error *err)
{
    int64_t shared = 0;
    if (request->prompt_tokens < 1)
        return fail(err, ST_INVALID, "prompt tokens: found %d, at least 1 is allowed",
                    request->prompt_tokens);
    if (request->cached_tokens < 0 || request->cached_tokens >= request->prompt_tokens)
        return fail(err, ST_INVALID,
                    "cached_tokens: found %d, allowed is 0 to %d, less than the prompt",
                    request->cached_tokens, request->prompt_tokens - 1);
    for (int32_t i = 0; i < request->prefix_count; i++) {
        if (request->prefixes[i].tokens < 1)
            return fail(err, ST_INVALID, "prefix[%d]: found %d tokens, at least 1 is allowed", i,
                        request->prefixes[i].tokens);
        shared += request->prefixes[i].tokens;
    }
    if (shared > request->prompt_tokens)
        return fail(err, ST_INVALID, "prefix: found %lld tokens in a prompt of %d",
                    (long long)shared, request->prompt_tokens);
    return ST_OK;
}

static enum status check_output(const struct trace_request *request, struct error *err)
{
    if (request->stage_count < 1)
        return fail(err, ST_INVALID, "stages: found none, at least one is needed");
    for (int32_t i = 0; i < request->stage_count; i++) {
        const struct trace_stage *stage = &request->stages[i];
        if (stage->branch_count < 1)
            return fail(err, ST_INVALID, "stages[%d]: found no branch, at least one is needed", i);
        for (int32_t b = 0; b < stage->branch_count; b++)
            if (stage->branch_tokens[b] < 1)
                return fail(err, ST_INVALID,
                            "stages[%d]: found a branch of %d tokens, at least 1 is allowed", i,
                            stage->branch_tokens[b]);
    }
    int64_t all = trace_request_output(request) + request->prompt_tokens;
    if (all > TRACE_MAX_TOKENS)
        return fail(err, ST_INVALID,
                    "found %lld tokens, prompt and output, of one request; at most %d are allowed",
                    (long long)all, TRACE_MAX_TOKENS);
    return ST_OK;
}

enum status trace_request_check(const struct trace_request *request, struct error *err)
{
    enum status status = check_times(request, err);
    if (!status) status = check_prompt(request, err);
    return status ? status : check_output(request, err);
}

/* --- names of formats */

static const char *const format_names[] = {
    [TRACE_AUTO] = "auto",         [TRACE_AZURE] = "azure",     [TRACE_MOONCAKE] = "mooncake",
    [TRACE_BURSTGPT] = "burstgpt", [TRACE_NATIVE] = "espalier",
};

const char *trace_format_name(enum trace_format format)
{
    return format_names[format];
}

bool trace_format_parse(const char *text, enum trace_format *format)
{
    for (size_t i = 0; i < COUNT_OF(format_names); i++) {
        if (strcmp(text, format_names[i])) continue;
        *format = (enum trace_format)i;
        return true;
    }
    return false;
}

void trace_tell_counts(const struct trace_read_counts *counts)
{
    if (counts->bad_lines)
        log_warn("%lld of %lld lines were malformed and skipped; the first: %s",
                 (long long)counts->bad_lines, (long long)counts->lines, counts->first_bad);
    if (counts->failed)
        log_info("%lld requests got no output token (they failed) and were left out",
                 (long long)counts->failed);
    if (counts->out_of_order)
        log_info("%lld requests stood behind later ones and were put in order",
                 (long long)counts->out_of_order);
}
