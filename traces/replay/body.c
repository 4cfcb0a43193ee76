#include "traces/replay/body.h"
#include "base/alloc.h"

#include <jansson.h>
#include <stdlib.h>

static void write_text(struct strbuf *out, const char *text)
{
    json_t *value = json_string(text);
    char *dumped = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    strbuf_text(out, dumped ? dumped : "\"\"");
    free(dumped);
    json_decref(value);
}

static void write_stages(const struct trace_request *request, struct strbuf *out)
{
    strbuf_text(out, ",\"stages\":[");
    for (int32_t i = 0; i < request->stage_count; i++) {
        const struct trace_stage *stage = &request->stages[i];
        if (i) strbuf_char(out, ',');
        if (!stage->parallel) {
            strbuf_format(out, "{\"type\":\"serial\",\"max_tokens\":%d}", stage->branch_tokens[0]);
            continue;
        }
        strbuf_text(out, "{\"type\":\"parallel\",\"branches\":[");
        for (int32_t b = 0; b < stage->branch_count; b++)
            strbuf_format(out, "%s{\"max_tokens\":%d}", b ? "," : "", stage->branch_tokens[b]);
        strbuf_text(out, "]}");
    }
    strbuf_char(out, ']');
}

/* n answers as many as the widest stage is wide, each as long as the longest branch. */
static void answers_of(const struct trace_request *request, int32_t *n, int32_t *tokens)
{
    *n = 1;
    *tokens = 1;
    for (int32_t i = 0; i < request->stage_count; i++) {
        const struct trace_stage *stage = &request->stages[i];
        if (!stage->parallel) continue;
        if (stage->branch_count > *n) *n = stage->branch_count;
        for (int32_t b = 0; b < stage->branch_count; b++)
            if (stage->branch_tokens[b] > *tokens) *tokens = stage->branch_tokens[b];
    }
}

static void set_shape(struct flight *flight, int32_t stages, int64_t tokens)
{
    flight->asked_tokens = tokens > INT32_MAX / 4 ? INT32_MAX / 4 : (int32_t)tokens;
    flight->stage_count = stages;
    flight->parallel = must_realloc(flight->parallel, (size_t)stages * sizeof *flight->parallel);
    for (int32_t i = 0; i < stages; i++)
        flight->parallel[i] = false;
}

/* Lengths and branches; returns the number of answers. */
static int32_t write_shape(enum branch_mode mode, const struct trace_request *request,
                           struct strbuf *out, struct flight *flight)
{
    int64_t total = trace_request_output(request);
    if (!flight->branching || mode == BRANCHES_FLAT) {
        set_shape(flight, 1, total);
        strbuf_format(out, ",\"max_tokens\":%lld", (long long)total);
        return 1;
    }
    if (mode == BRANCHES_STAGES) {
        set_shape(flight, request->stage_count, total);
        for (int32_t i = 0; i < request->stage_count; i++)
            flight->parallel[i] = request->stages[i].parallel;
        write_stages(request, out);
        return 1;
    }
    int32_t n, tokens;
    answers_of(request, &n, &tokens);
    set_shape(flight, 1, (int64_t)n * tokens);
    flight->parallel[0] = n > 1;
    strbuf_format(out, ",\"n\":%d,\"max_tokens\":%d", n, tokens);
    return n;
}

void body_write(const struct replay_settings *settings, const char *model,
                const struct trace_request *request, const struct strbuf *prompt,
                struct strbuf *out, struct flight *flight)
{
    bool chat = settings->endpoint == ENDPOINT_CHAT;
    flight->branching = trace_request_branches(request);
    strbuf_text(out, "{\"model\":");
    write_text(out, model);
    strbuf_text(out, chat ? ",\"messages\":[{\"role\":\"user\",\"content\":" : ",\"prompt\":");
    strbuf_append(out, prompt->data, prompt->length);
    if (chat) strbuf_text(out, "}]");
    flight->answers = write_shape(settings->branches, request, out, flight);
    /* Several greedy answers to one prompt are one, and some servers refuse them. */
    double temperature = settings->temperature < 0 ? (flight->answers > 1) : settings->temperature;
    bool staged = flight->branching && settings->branches == BRANCHES_STAGES;
    strbuf_format(out,
                  ",\"ignore_eos\":true,\"temperature\":%.9g,\"stream\":true,"
                  "\"stream_options\":{\"include_usage\":true%s}}",
                  temperature, staged ? ",\"branch_events\":true" : "");
}
