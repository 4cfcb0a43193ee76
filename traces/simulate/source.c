#include "traces/simulate/source.h"

#include "base/base.h"
#include "base/siphash.h"
#include "traces/results/results.h"
#include "traces/workload/generate.h"
#include "traces/workload/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD         1e-9 /* so that an arrival at the very end of a duration is in it */
#define SPAN_MOST_MS  1e14 /* three thousand years */
#define REQUESTS_MOST 2e7  /* of a preset's run: some gigabytes */

struct source {
    struct source_options options; /* its texts are the caller's */
    struct workload_spec spec;     /* of a preset */
    struct trace *trace;           /* of a file */
    struct trace_read_counts counts;
};

static enum status open_file(struct source *source, struct error *err)
{
    const struct source_options *o = &source->options;
    enum status status = trace_load(o->path, &o->read, &source->trace, &source->counts, err);
    if (status) return status;
    trace_tell_counts(&source->counts);
    if (source->trace->count > 0) return ST_OK;
    return fail(err, ST_INVALID, "%s: there is no request in it", o->path);
}

/* Under the SLO that is asked for, not that of the preset's own. */
static enum status open_preset(struct source *source, struct error *err)
{
    enum status status = workload_preset(source->options.preset, &source->spec, err);
    if (status) return fail_prefix(err, "--preset");
    for (int32_t i = 0; i < source->spec.class_count; i++) {
        source->spec.classes[i].ttft_ms = (double)source->options.slo.ttft_us / 1e3;
        source->spec.classes[i].tpot_ms = (double)source->options.slo.tpot_us / 1e3;
    }
    return ST_OK;
}

enum status source_open(const struct source_options *options, struct source **out,
                        struct error *err)
{
    struct source *source = must_alloc(sizeof *source);
    source->options = *options;
    enum status status = options->preset ? open_preset(source, err) : open_file(source, err);
    if (status) {
        source_free(source);
        return status;
    }
    *out = source;
    return ST_OK;
}

void source_free(struct source *source)
{
    if (!source) return;
    trace_free(source->trace);
    free(source);
}

/* From the first arrival to the last. */
static double span_ms(const struct trace *trace)
{
    return trace->requests[trace->count - 1].arrival_ms - trace->requests[0].arrival_ms;
}

/* Requests/s of its own; 0: a preset has none, nor has a trace of one moment. */
static double source_rate(const struct source *source)
{
    if (!source->trace || source->trace->count < 2) return 0;
    double span = span_ms(source->trace);
    return span > 0 ? (double)(source->trace->count - 1) * 1e3 / span : 0;
}

void source_own_limits(const struct source *source, bool *ttft, bool *tpot)
{
    *ttft = *tpot = source->trace != NULL;
    for (size_t i = 0; source->trace && i < source->trace->count; i++) {
        *ttft = *ttft && source->trace->requests[i].ttft_ms > 0;
        *tpot = *tpot && source->trace->requests[i].tpot_ms > 0;
    }
}

bool source_is_preset(const struct source *source)
{
    return source->options.preset;
}

static enum status run_of_preset(const struct source *source, int32_t seed, double rate,
                                 struct source_run *run, struct error *err)
{
    const struct source_options *o = &source->options;
    if (rate * o->duration_s > REQUESTS_MOST)
        return fail(err, ST_INVALID,
                    "%.10g requests/s for %.10g s are %.0f requests; at most %.0f are allowed",
                    rate, o->duration_s, rate * o->duration_s, REQUESTS_MOST);
    enum status status = workload_generate(&source->spec, rate > 0 ? rate : 1, o->duration_s,
                                           rng_at(o->seed, (uint64_t)seed), &run->owned, err);
    if (status) return status;
    run->trace = run->owned;
    run->duration_us = llround(o->duration_s * 1e6);
    if (run->owned->count > 0) return ST_OK;
    /* Nothing came in the whole time: the sweep has to see a run without requests. */
    trace_free(run->owned);
    run->owned = NULL;
    run->trace = NULL;
    return ST_OK;
}

static enum status run_of_file(const struct source *source, int32_t seed, double rate,
                               struct source_run *run, struct error *err)
{
    const struct source_options *o = &source->options;
    const struct trace *trace = source->trace;
    double own = source_rate(source);
    if (rate > 0 && own <= 0)
        return fail(err, ST_INVALID,
                    "%s: all requests in it (%zu) arrive at one time; there is no rate to scale",
                    o->path, trace->count);
    run->trace = trace;
    run->rate_scale = rate > 0 ? rate / own : 1;
    run->first = seed > 0 ? (size_t)(rng_at(o->seed, (uint64_t)seed) % trace->count) : 0;
    double ms = fmin(span_ms(trace) / run->rate_scale, SPAN_MOST_MS);
    if (ms <= 0) return ST_OK; /* one moment: there is nothing to leave out at its ends */
    ms += GUARD;
    /* Begun elsewhere, the gap from the last request to the first is a part of it. */
    if (run->first > 0 && trace->count > 1) ms *= 1 + 1 / (double)(trace->count - 1);
    if (o->duration_s > 0) ms = fmin(ms, o->duration_s * 1e3);
    run->duration_us = (int64_t)ceil(ms * 1e3);
    return ST_OK;
}

enum status source_run(const struct source *source, int32_t seed, double rate,
                       struct source_run *run, struct error *err)
{
    *run = (struct source_run){.rate_scale = 1};
    return source->trace ? run_of_file(source, seed, rate, run, err)
                         : run_of_preset(source, seed, rate, run, err);
}

void source_run_release(struct source_run *run)
{
    trace_free(run->owned);
    run->owned = NULL;
}

static json_t *trace_statistics(const struct trace *trace)
{
    struct statistics *statistics = statistics_create();
    for (size_t i = 0; i < trace->count; i++)
        statistics_add(statistics, &trace->requests[i]);
    json_t *json = statistics_json(statistics);
    statistics_free(statistics);
    return json;
}

/* A preset's statistics are those of its first seed at one request a second. */
static json_t *preset_json(const struct source *source)
{
    const struct source_options *o = &source->options;
    struct source_run run;
    json_t *json = json_pack("{ss sf sI}", "preset", o->preset, "preset_duration_s", o->duration_s,
                             "preset_seed", (json_int_t)o->seed);
    if (source_run(source, 0, 1, &run, NULL) != ST_OK || !run.trace) return json;
    json_t *statistics = trace_statistics(run.trace);
    json_object_update_missing(json, statistics);
    json_decref(statistics);
    source_run_release(&run);
    return json;
}

json_t *source_to_json(const struct source *source)
{
    const struct source_options *o = &source->options;
    if (!source->trace) return preset_json(source);
    json_t *json = json_pack("{so ss}", "file", results_text(o->path), "format",
                             trace_format_name(source->counts.format));
    json_t *statistics = trace_statistics(source->trace);
    json_object_update_missing(json, statistics);
    json_decref(statistics);
    if (source->counts.bad_lines > 0)
        json_object_set_new(json, "bad_lines", json_integer(source->counts.bad_lines));
    if (source->counts.failed > 0)
        json_object_set_new(json, "failed_left_out", json_integer(source->counts.failed));
    return json;
}

static void hash_request(struct siphash *hash, const struct trace_request *request)
{
    double numbers[] = {request->arrival_ms, request->ttft_ms, request->tpot_ms};
    int32_t counts[] = {request->prompt_tokens, request->cached_tokens, request->prefix_count,
                        request->stage_count};
    siphash_add(hash, numbers, sizeof numbers);
    siphash_add(hash, counts, sizeof counts);
    for (int32_t i = 0; i < request->prefix_count; i++) {
        siphash_add(hash, &request->prefixes[i].id, sizeof request->prefixes[i].id);
        siphash_add(hash, &request->prefixes[i].tokens, sizeof request->prefixes[i].tokens);
    }
    for (int32_t i = 0; i < request->stage_count; i++) {
        const struct trace_stage *stage = &request->stages[i];
        int32_t shape[] = {stage->parallel, stage->branch_count};
        siphash_add(hash, shape, sizeof shape);
        siphash_add(hash, stage->branch_tokens,
                    (size_t)stage->branch_count * sizeof *stage->branch_tokens);
    }
    siphash_add(hash, request->class_name, strlen(request->class_name) + 1);
}

void source_identity(const struct source *source, char identity[33])
{
    const struct source_options *o = &source->options;
    struct siphash hash;
    uint64_t low, high;
    siphash_begin(&hash, 0, 0);
    siphash_add(&hash, &o->seed, sizeof o->seed);
    siphash_add(&hash, &o->duration_s, sizeof o->duration_s);
    if (source->trace)
        for (size_t i = 0; i < source->trace->count; i++)
            hash_request(&hash, &source->trace->requests[i]);
    else
        siphash_add(&hash, o->preset, strlen(o->preset));
    siphash_end(&hash, &low, &high);
    snprintf(identity, 33, "%016llx%016llx", (unsigned long long)low, (unsigned long long)high);
}
