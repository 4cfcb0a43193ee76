/* A workload: requests with arrival times, lengths and branches. No text: lengths and the structure
 * of shared prefixes are all that scheduling depends on.
 *
 *   traces/formats/   the files: Azure CSV, BurstGPT CSV, Mooncake JSONL, the native JSONL
 *   traces/workload/  what is made rather than read: lengths, presets, branches for plain traces
 */
#ifndef TRACES_TRACE_H
#define TRACES_TRACE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most tokens of one request, prompt and output together: sums of them stay in int32_t. */
#define TRACE_MAX_TOKENS 1000000000
#define TRACE_MAX_MS     1e12 /* latest arrival, longest limit: 31 years */

/* The next `tokens` tokens of the prompt are the first `tokens` of the text `id`: two prompts that
 * begin with the same ids share as many tokens as both take of them. */
struct trace_prefix {
    uint64_t id;
    int32_t tokens; /* >= 1 */
};

/* A serial stage is one branch; a parallel one may be, too. */
struct trace_stage {
    bool parallel;
    int32_t branch_count;         /* >= 1; 1 when serial */
    const int32_t *branch_tokens; /* [branch_count] output tokens of each, >= 1 */
};

/* What points somewhere belongs to whoever gave the request out. */
struct trace_request {
    double arrival_ms;
    int32_t prompt_tokens; /* >= 1 */
    /* Of the prompt, tokens whose KV is taken to be there already though no other request of the
     * trace shares it (an earlier turn, kept elsewhere): they take room and no computation.
     * Simulation only. */
    int32_t cached_tokens;
    const struct trace_prefix *prefixes; /* [prefix_count], the prompt's beginning in order */
    int32_t prefix_count;
    const struct trace_stage *stages; /* [stage_count], at least one */
    int32_t stage_count;
    double ttft_ms, tpot_ms; /* its SLO; 0: none */
    const char *class_name;  /* "": none */
};

static inline bool trace_request_branches(const struct trace_request *request)
{
    for (int32_t i = 0; i < request->stage_count; i++)
        if (request->stages[i].parallel) return true;
    return false;
}

static inline int64_t trace_request_output(const struct trace_request *request)
{
    int64_t tokens = 0;
    for (int32_t i = 0; i < request->stage_count; i++)
        for (int32_t b = 0; b < request->stages[i].branch_count; b++)
            tokens += request->stages[i].branch_tokens[b];
    return tokens;
}

/* A whole trace in memory, in order of arrival. */
struct trace {
    struct trace_request *requests; /* [count] */
    size_t count;
    struct trace_arena *arena; /* what they point at */
};

enum trace_format {
    TRACE_AUTO, /* by the file's content */
    TRACE_AZURE,
    TRACE_MOONCAKE,
    TRACE_BURSTGPT,
    TRACE_NATIVE,
};

struct trace_read_options {
    enum trace_format format;
    bool skip_bad; /* a malformed line is counted instead of ending the reading */
    int64_t limit; /* requests read at most; 0: all */
};

struct trace_read_counts {
    enum trace_format format; /* found */
    int64_t lines, bad_lines;
    int64_t failed;       /* requests without output, in formats that record failures: left out */
    int64_t out_of_order; /* lines that stood behind a later request and were put right */
    char first_bad[256];  /* what was wrong with the first bad line; "" none */
};

/* Words on standard error for lines that were skipped, left out or put in order. */
void trace_tell_counts(const struct trace_read_counts *counts);

/* "auto", "azure", "mooncake", "burstgpt", "espalier". */
const char *trace_format_name(enum trace_format format);
bool trace_format_parse(const char *text, enum trace_format *format);

/* Reads a file ("-": standard input) whole (formats/reader.h reads one request by request).
 * ST_INVALID: line number, what was found, what is expected; ST_NOT_FOUND, ST_IO. `counts` may be
 * NULL and is filled on failure, too. */
enum status trace_load(const char *path, const struct trace_read_options *options,
                       struct trace **out, struct trace_read_counts *counts, struct error *err);
void trace_free(struct trace *trace);

/* An empty one, to be filled by trace_add (which copies everything) in order of arrival. */
struct trace *trace_create(void);
void trace_add(struct trace *trace, const struct trace_request *request);

/* Whether every number is in its range (those beside the fields above, TRACE_MAX_*) and the prompt
 * holds its prefixes. ST_INVALID: which, what was found, what is allowed. */
enum status trace_request_check(const struct trace_request *request, struct error *err);

/* A copy in one block, with all it points at; caller frees with free(). */
struct trace_request *trace_request_copy(const struct trace_request *request);
size_t trace_request_bytes(const struct trace_request *request); /* of that block */

#endif
