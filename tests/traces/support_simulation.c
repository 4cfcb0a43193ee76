#include "support_simulation.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct profile *the_profile(const char *name_or_path)
{
    struct profile *profile;
    struct error err = {0};
    cr_assert_eq(profile_find(name_or_path, &profile, &err), ST_OK, "%s", err.text);
    return profile;
}

struct profile *small_profile(int64_t kv_tokens, double noise)
{
    struct profile *study = the_profile("study-h200");
    json_t *json = profile_json(study);
    profile_free(study);
    json_object_set_new(json, "noise", json_real(noise));
    json_object_set_new(json, "kv_tokens", json_integer(kv_tokens));
    char *text = json_dumps(json, 0), *path = file_of(text);
    struct profile *profile = the_profile(path);
    free_file(path);
    free(text);
    json_decref(json);
    return profile;
}

char *file_of(const char *text)
{
    char path[] = "/tmp/espalier-test-XXXXXX";
    int file = mkstemp(path);
    cr_assert_geq(file, 0);
    cr_assert_eq(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    return must_strdup(path);
}

void free_file(char *path)
{
    unlink(path);
    free(path);
}

struct policy the_policy(const char *name)
{
    struct policy policy;
    struct error err = {0};
    cr_assert_eq(policy_parse(name, &policy, &err), ST_OK, "%s", err.text);
    return policy;
}

void add_serial(struct trace *trace, double arrival_ms, int32_t prompt, int32_t output)
{
    struct trace_stage stage = {.branch_count = 1, .branch_tokens = &output};
    struct trace_request request = {.arrival_ms = arrival_ms,
                                    .prompt_tokens = prompt,
                                    .stages = &stage,
                                    .stage_count = 1,
                                    .class_name = ""};
    trace_add(trace, &request);
}

void add_branching(struct trace *trace, double arrival_ms, int32_t prompt, int32_t before,
                   int32_t width, int32_t branch, int32_t after)
{
    int32_t tokens[64];
    struct trace_stage stages[3];
    int32_t count = 0;
    cr_assert(width <= 64 && branch >= width);
    for (int32_t i = 0; i < width; i++)
        tokens[i] = branch - i;
    if (before) stages[count++] = (struct trace_stage){false, 1, &before};
    stages[count++] = (struct trace_stage){true, width, tokens};
    if (after) stages[count++] = (struct trace_stage){false, 1, &after};
    struct trace_request request = {.arrival_ms = arrival_ms,
                                    .prompt_tokens = prompt,
                                    .stages = stages,
                                    .stage_count = count,
                                    .class_name = ""};
    trace_add(trace, &request);
}

struct trace *some_trace(uint64_t seed, int32_t count, double mean_gap_ms)
{
    struct rng rng = {seed};
    struct trace *trace = trace_create();
    double now_ms = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t prompt = 1 + (int32_t)rng_below(&rng, 300);
        now_ms += 2 * mean_gap_ms * rng_unit(&rng);
        if (rng_unit(&rng) < 0.4)
            add_serial(trace, now_ms, prompt, 1 + (int32_t)rng_below(&rng, 60));
        else
            add_branching(trace, now_ms, prompt, (int32_t)rng_below(&rng, 20),
                          1 + (int32_t)rng_below(&rng, 8), 8 + (int32_t)rng_below(&rng, 40),
                          (int32_t)rng_below(&rng, 20));
    }
    return trace;
}

void seen_free(struct seen *seen)
{
    free(seen->records);
    free(seen->steps);
    *seen = (struct seen){0};
}

void seen_step(void *context, int64_t end_us, int64_t latency_us, int32_t width,
               const struct step_load *load)
{
    struct seen *seen = context;
    if (seen->step_count == seen->step_capacity) {
        seen->step_capacity = 2 * seen->step_capacity + 64;
        seen->steps = must_realloc(seen->steps, seen->step_capacity * sizeof *seen->steps);
    }
    seen->steps[seen->step_count++] = (struct seen_step){end_us, latency_us, width, *load};
}

void seen_record(void *context, const struct request_record *record)
{
    struct seen *seen = context;
    size_t index = (size_t)record->index, capacity = seen->record_capacity;
    if (index >= capacity) {
        seen->record_capacity = 2 * index + 64;
        seen->records = must_realloc(seen->records, seen->record_capacity * sizeof *seen->records);
        for (size_t i = capacity; i < seen->record_capacity; i++)
            seen->records[i] = (struct request_record){.outcome = (enum outcome) - 1};
    }
    seen->records[index] = *record;
    seen->record_count++;
}

struct simulation_options some_options(const struct profile *profile)
{
    return (struct simulation_options){.profile = profile,
                                       .policy = the_policy("eager"),
                                       .prefill_chunk = 64,
                                       .seed = 1,
                                       .slo = {2000000, 50000},
                                       .rate_scale = 1};
}

void run_seen(struct simulation_options options, const struct trace *trace,
              struct simulation_result *result, struct seen *seen)
{
    struct error err = {0};
    if (seen) {
        options.on_step = seen_step;
        options.on_record = seen_record;
        options.context = seen;
    }
    cr_assert_eq(simulation_run(&options, trace, result, &err), ST_OK, "%s", err.text);
}

bool same_step(const struct seen_step *a, const struct seen_step *b)
{
    return a->end_us == b->end_us && a->latency_us == b->latency_us && a->width == b->width &&
           a->load.decode_rows == b->load.decode_rows &&
           a->load.prefill_tokens == b->load.prefill_tokens &&
           a->load.context_read == b->load.context_read &&
           a->load.prefill_attention == b->load.prefill_attention;
}

bool same_record(const struct request_record *a, const struct request_record *b)
{
    return a->index == b->index && a->sent_us == b->sent_us && a->first_us == b->first_us &&
           a->last_us == b->last_us && a->output_tokens == b->output_tokens &&
           a->outcome == b->outcome && a->running.late_us == b->running.late_us &&
           a->running.late_gaps == b->running.late_gaps;
}
