/* The served engine (its thread and inbox, scheduler/engine.c) on the simulated clock: the same
 * submissions give the same steps, at the same times and of the same composition, as a simulated
 * run, and the same records.
 *
 * Requests that fall due while a step runs are submitted when the clock shows its end, from within
 * the executor, as if clients had; when the engine has nothing left to do, the clock is put forward
 * to the next one. */
#include "support_simulation.h"

#include "base/base.h"
#include "scheduler/engine.h"
#include "traces/simulate/cost_executor.h"
#include "traces/simulate/player.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct service {
    const struct trace *trace;
    int64_t now_us;
    struct cost_executor *cost;
    struct engine *engine;
    struct predictor predictor; /* the policy's */
    struct player_room room;
    struct seen seen;
    size_t arrived;
};

static int64_t due_us(const struct service *service)
{
    const struct trace_request *requests = service->trace->requests;
    double ms = requests[service->arrived].arrival_ms - requests[0].arrival_ms;
    return (int64_t)(ms * 1000 + 0.5);
}

/* All that are due, in one submission: none of them may be in a step without the others. */
static void submit_due(struct service *service)
{
    struct request_params params[64];
    uint64_t ids[64];
    int32_t *prompts[64], count = 0;
    struct error err = {0};
    while (service->arrived < service->trace->count && due_us(service) <= service->now_us) {
        const struct trace_request *request = &service->trace->requests[service->arrived];
        cr_assert_lt(count, 64);
        player_start(&service->room, request, (int64_t)service->arrived, due_us(service),
                     &params[count]);
        size_t bytes = (size_t)params[count].prompt_count * sizeof(int32_t);
        prompts[count] = must_alloc(bytes);
        memcpy(prompts[count], params[count].prompt, bytes);
        params[count].prompt = prompts[count];
        count++;
        service->arrived++;
    }
    if (count)
        cr_assert_eq(engine_submit_all(service->engine, params, count, ids, NULL, &err), ST_OK,
                     "%s", err.text);
    for (int32_t i = 0; i < count; i++)
        free(prompts[i]);
}

/* On the engine's thread. */
static void on_step(void *context, const struct cost_step *step)
{
    struct service *service = context;
    seen_step(&service->seen, step->end_us, step->end_us - step->start_us, step->rows, &step->load);
    submit_due(service);
}

static void on_end(void *context, struct player *player)
{
    struct service *service = context;
    seen_record(&service->seen, &player->record);
}

static void serve(struct service *service, const struct simulation_options *options)
{
    struct error err = {0};
    struct executor_capacity capacity;
    struct scheduler_options settings = {
        .prefill_chunk = options->prefill_chunk, .max_queue = 100000, .policy = options->policy};
    if (options->chunk_by_slo) {
        settings.predictor = profile_predictor(options->profile);
        settings.step_target_us = options->step_target_us;
    }
    if (policy_needs_predictor(&options->policy)) {
        simulation_predictor(options, &service->predictor);
        settings.predictor = predictor_door(&service->predictor);
    }
    profile_capacity(options->profile, &capacity);
    service->cost = cost_executor_create(options->profile, options->seed, &service->now_us);
    cost_executor_on_step(service->cost, on_step, service);
    service->room = (struct player_room){.now_us = &service->now_us,
                                         .vocab = capacity.vocab,
                                         .longest = capacity.max_context,
                                         .slo = options->slo,
                                         .context = service,
                                         .on_end = on_end};
    cr_assert_eq(engine_create(&settings, cost_executor_door(service->cost),
                               clock_virtual(&service->now_us), &service->engine, &err),
                 ST_OK, "%s", err.text);
    cr_assert_eq(engine_start(service->engine, &err), ST_OK);
    for (;;) {
        cr_assert(engine_wait_idle(service->engine, 60000000));
        /* It sleeps until something is submitted: the clock is ours. */
        if (service->arrived == service->trace->count) break;
        service->now_us = due_us(service);
        submit_due(service);
    }
    engine_free(service->engine);
    cost_executor_free(service->cost);
    player_room_free(&service->room);
}

static void compare(struct simulation_options options, const struct trace *trace)
{
    struct seen simulated = {0};
    struct simulation_result result;
    struct service service = {.trace = trace};
    run_seen(options, trace, &result, &simulated);
    serve(&service, &options);
    const struct seen *served = &service.seen;
    cr_assert_eq(served->step_count, simulated.step_count, "%zu steps served, %zu simulated",
                 served->step_count, simulated.step_count);
    for (size_t i = 0; i < served->step_count; i++)
        cr_assert(same_step(&served->steps[i], &simulated.steps[i]),
                  "step %zu: served %d rows at %lld, simulated %d at %lld", i,
                  served->steps[i].width, (long long)served->steps[i].end_us,
                  simulated.steps[i].width, (long long)simulated.steps[i].end_us);
    cr_assert_eq(served->record_count, trace->count);
    for (size_t i = 0; i < trace->count; i++)
        cr_assert(same_record(&served->records[i], &simulated.records[i]), "request %zu", i);
    results_free(result.results);
    seen_free(&simulated);
    seen_free(&service.seen);
}

static const char *const policies[] = {"off", "eager", "cap:2", "taper", "taper-paper"};

/* Several classes in one batch, in turn: strict, loose, only one limit, none but the run's, and one
 * that nobody could meet. */
static void name_slos(struct trace *trace)
{
    static const double classes[][2] = {{500, 25}, {4000, 80}, {0, 30}, {300, 0}, {0, 0}, {1, 1}};
    for (size_t i = 0; i < trace->count; i++) {
        trace->requests[i].ttft_ms = classes[i % COUNT_OF(classes)][0];
        trace->requests[i].tpot_ms = classes[i % COUNT_OF(classes)][1];
    }
}

static struct seen steps_of(struct simulation_options options, const char *policy,
                            const struct trace *trace)
{
    struct seen seen = {0};
    struct simulation_result result;
    options.policy = the_policy(policy);
    run_seen(options, trace, &result, &seen);
    results_free(result.results);
    return seen;
}

/* Frees both. */
static bool same_steps(struct seen a, struct seen b)
{
    struct seen seen[2] = {a, b};
    bool same = seen[0].step_count == seen[1].step_count;
    for (size_t i = 0; same && i < seen[0].step_count; i++)
        same = same_step(&seen[0].steps[i], &seen[1].steps[i]);
    seen_free(&seen[0]);
    seen_free(&seen[1]);
    return same;
}

Test(served, same_steps_as_simulated)
{
    struct profile *profile = small_profile(48000, 0.04);
    for (size_t p = 0; p < COUNT_OF(policies); p++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct trace *trace = some_trace(seed, 80, 10.0 * (double)(seed * seed)); /* to idle */
            struct simulation_options options = some_options(profile);
            options.policy = the_policy(policies[p]);
            options.seed = seed;
            options.chunk_by_slo = seed % 2 == 0;
            options.step_target_us = 25000;
            compare(options, trace);
            trace_free(trace);
        }
    profile_free(profile);
}

/* TAPER's choices depend on each request's own limits, on the clock and on what the predictor has
 * learned: all of it is the same in the served engine. */
Test(served, same_choices_under_slos)
{
    static const char *const tapers[] = {"taper", "taper-paper"};
    char *path =
        file_of("{\"espalier_profile\": 1, \"name\": \"dear\", \"kv_tokens\": 48000,"
                " \"noise\": 0.04, \"context_us\": 0.1, \"depth\": 2,"
                " \"gemm\": {\"form\": \"linear\", \"base_us\": 8000, \"token_us\": 300}}");
    struct profile *profile = the_profile(path); /* rows are dear: not all of them fit */
    for (size_t p = 0; p < COUNT_OF(tapers); p++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct trace *trace = some_trace(seed, 80, 5.0 * (double)seed);
            struct simulation_options options = some_options(profile);
            options.policy = the_policy(tapers[p]);
            options.seed = seed;
            if (seed % 2) options.slo = (struct slo_target){0};
            struct seen unnamed = steps_of(options, tapers[p], trace);
            name_slos(trace);
            compare(options, trace);
            cr_expect_not(same_steps(unnamed, steps_of(options, tapers[p], trace)),
                          "%s, seed %d: blind to own limits", tapers[p], (int)seed);
            cr_assert_not(
                same_steps(steps_of(options, "eager", trace), steps_of(options, tapers[p], trace)),
                "%s, seed %d: defers nothing", tapers[p], (int)seed);
            trace_free(trace);
        }
    profile_free(profile);
    free_file(path);
}

/* A pool that runs dry, two steps in flight, every block read once. */
Test(served, same_steps_under_pressure)
{
    char *path = file_of("{\"espalier_profile\": 1, \"name\": \"small\", \"kv_tokens\": 1600,"
                         " \"noise\": 0.1, \"context_us\": 1, \"shared_prefix\": \"blocks\","
                         " \"depth\": 2,"
                         " \"gemm\": {\"form\": \"linear\", \"base_us\": 5000, \"token_us\": 20}}");
    struct profile *profile = the_profile(path);
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct trace *trace = some_trace(p + 9, 60, 25);
        struct simulation_options options = some_options(profile);
        options.policy = the_policy(policies[p]);
        compare(options, trace);
        trace_free(trace);
    }
    profile_free(profile);
    free_file(path);
}
