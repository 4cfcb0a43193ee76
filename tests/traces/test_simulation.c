#include "support_simulation.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char *const policies[] = {"off", "eager", "cap:2"};

/* --- the same again */

static char *json_of(const struct simulation_result *result)
{
    json_t *json = results_json(result->results, SLO_MEAN);
    char *text = json_dumps(json, RESULTS_JSON_FLAGS);
    json_decref(json);
    return text;
}

Test(simulation, same_seed_same_bits)
{
    struct profile *profile = small_profile(48000, 0.04);
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct trace *trace = some_trace(3, 60, 40);
        struct simulation_options options = some_options(profile);
        struct simulation_result results[3];
        struct seen seen[3] = {0};
        options.policy = the_policy(policies[p]);
        for (int i = 0; i < 3; i++) {
            options.seed = i == 2 ? 8 : 7;
            run_seen(options, trace, &results[i], &seen[i]);
        }
        cr_assert_eq(seen[0].step_count, seen[1].step_count);
        bool other = seen[0].step_count != seen[2].step_count;
        for (size_t i = 0; i < seen[0].step_count; i++) {
            cr_assert(same_step(&seen[0].steps[i], &seen[1].steps[i]));
            other = other || !same_step(&seen[0].steps[i], &seen[2].steps[i]);
        }
        cr_assert(other, "the seed changes nothing");
        char *a = json_of(&results[0]), *b = json_of(&results[1]);
        cr_assert_str_eq(a, b);
        free(a);
        free(b);
        for (int i = 0; i < 3; i++) {
            results_free(results[i].results);
            seen_free(&seen[i]);
        }
        trace_free(trace);
    }
    profile_free(profile);
}

/* --- everything comes to its end */

static void check_all_complete(const struct trace *trace, const struct seen *seen)
{
    cr_assert_eq(seen->record_count, trace->count);
    for (size_t i = 0; i < trace->count; i++) {
        const struct request_record *record = &seen->records[i];
        cr_assert_eq(record->outcome, OUTCOME_COMPLETED, "request %zu", i);
        cr_assert_eq(record->output_tokens, trace_request_output(&trace->requests[i]));
        cr_assert_eq(record->branching, trace_request_branches(&trace->requests[i]));
    }
}

Test(simulation, every_token_of_every_shape)
{
    struct profile *profile = small_profile(48000, 0.04);
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct trace *trace = trace_create();
        struct seen seen = {0};
        struct simulation_result result;
        add_branching(trace, 0, 1, 0, 3, 5, 0);   /* branches alone, behind one token */
        add_branching(trace, 0, 33, 0, 2, 4, 3);  /* first */
        add_branching(trace, 1, 100, 5, 4, 9, 0); /* last */
        add_branching(trace, 2, 16, 1, 1, 17, 1); /* one branch */
        int32_t tokens[] = {3, 4, 5}, one = 2;
        struct trace_stage stages[] = {{true, 3, tokens},
                                       {true, 2, tokens},
                                       {false, 1, &one},
                                       {false, 1, tokens},
                                       {true, 3, tokens}};
        struct trace_request request = {.arrival_ms = 2,
                                        .prompt_tokens = 40,
                                        .stages = stages,
                                        .stage_count = 5,
                                        .class_name = "odd"};
        trace_add(trace, &request);
        struct simulation_options options = some_options(profile);
        options.policy = the_policy(policies[p]);
        run_seen(options, trace, &result, &seen);
        check_all_complete(trace, &seen);
        results_free(result.results);
        seen_free(&seen);
        trace_free(trace);
    }
    profile_free(profile);
}

Test(simulation, short_of_memory_everything_completes)
{
    char *path = file_of("{\"espalier_profile\": 1, \"name\": \"small\", \"kv_tokens\": 1600,"
                         " \"noise\": 0.1, \"context_us\": 1, \"shared_prefix\": \"siblings\","
                         " \"gemm\": {\"form\": \"linear\", \"base_us\": 5000, \"token_us\": 20}}");
    struct profile *profile = the_profile(path);
    int64_t preemptions = 0;
    for (size_t p = 0; p < COUNT_OF(policies); p++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            struct trace *trace = some_trace(seed, 40, 30);
            struct seen seen = {0};
            struct simulation_result result;
            struct simulation_options options = some_options(profile);
            options.policy = the_policy(policies[p]);
            run_seen(options, trace, &result, &seen);
            check_all_complete(trace, &seen);
            preemptions += result.preemptions;
            results_free(result.results);
            seen_free(&seen);
            trace_free(trace);
        }
    cr_assert_gt(preemptions, 0);
    profile_free(profile);
    free_file(path);
}

Test(simulation, what_never_fits_is_refused)
{
    struct profile *profile = small_profile(48000, 0.04);
    struct trace *trace = trace_create();
    struct seen seen = {0};
    struct simulation_result result;
    add_serial(trace, 0, 50, 10);
    add_serial(trace, 1, 100000000, 10);
    add_serial(trace, 2, 200000, 10);
    add_branching(trace, 3, 1000, 10, 60, 100000, 10);
    run_seen(some_options(profile), trace, &result, &seen);
    cr_assert_eq(result.results->all.outcomes[OUTCOME_REFUSED], 3);
    cr_assert_eq(result.results->all.outcomes[OUTCOME_COMPLETED], 1);
    cr_assert_str_eq(seen.records[1].reason, "too long");
    cr_assert_eq(seen.records[0].outcome, OUTCOME_COMPLETED);
    results_free(result.results);
    seen_free(&seen);
    trace_free(trace);
    profile_free(profile);
}

/* --- windows */

Test(simulation, the_window_counts_arrivals)
{
    struct profile *profile = small_profile(48000, 0.04);
    struct trace *trace = trace_create();
    struct seen seen = {0};
    struct simulation_result result;
    for (int i = 0; i < 40; i++)
        add_serial(trace, 1000 + 250 * i, 40, 20);
    struct simulation_options options = some_options(profile);
    options.rate_scale = 2; /* 125 ms apart, from 0 */
    options.warm_us = 1000000;
    options.until_us = 3000000;
    run_seen(options, trace, &result, &seen);
    cr_assert_eq(result.results->all.requests, 16); /* 8 to 23 */
    cr_assert_eq(seen.record_count, 16);
    cr_assert_eq(seen.records[8].due_us, 1000000);
    cr_assert_eq(seen.records[23].due_us, 2875000);
    cr_assert_float_eq(result.results->scored_s, 2, 1e-9);
    cr_assert_float_eq(result.results->offered_rate, 8, 1e-9);
    cr_assert_lt(result.virtual_us, 4000000, "it runs on after the last scored request");
    results_free(result.results);
    seen_free(&seen);

    options.warm_us = options.until_us = 0;
    options.duration_us = 1000000;
    options.first = 35; /* 35 to 39, then from the beginning, a mean gap later */
    run_seen(options, trace, &result, &seen);
    cr_assert_eq(seen.record_count, 9);
    cr_assert_eq(seen.records[39].due_us, 500000);
    cr_assert_eq(seen.records[0].due_us, 625000);
    cr_assert_eq(seen.records[3].due_us, 1000000);
    results_free(result.results);
    seen_free(&seen);
    trace_free(trace);
    profile_free(profile);
}

/* --- closed loop */

struct crowd {
    int64_t step_end;
    int32_t most_rows, fewest_rows, ended;
};

static void crowd_step(void *context, int64_t end_us, int64_t latency_us, int32_t width,
                       const struct step_load *load)
{
    struct crowd *crowd = context;
    (void)latency_us;
    (void)load;
    crowd->step_end = end_us;
    crowd->most_rows = max_i32(crowd->most_rows, width);
    crowd->fewest_rows = min_i32(crowd->fewest_rows, width);
}

static void crowd_record(void *context, const struct request_record *record)
{
    struct crowd *crowd = context;
    crowd->ended++;
    cr_assert_eq(record->last_us, crowd->step_end);
    cr_assert(record->last_us >= 500000 && record->last_us < 4000000);
}

/* Serial requests: each that is there has one row in every step. */
Test(simulation, closed_loop_keeps_as_many)
{
    struct profile *profile = small_profile(48000, 0.04);
    struct trace *trace = trace_create();
    struct simulation_result result;
    struct error err = {0};
    for (int i = 0; i < 5; i++)
        add_serial(trace, 1000 * i, 20 + i, 5 + 7 * i);
    struct crowd crowd = {.fewest_rows = 100};
    struct simulation_options options = some_options(profile);
    options.concurrency = 7;
    options.warm_us = 500000;
    options.until_us = 4000000;
    options.on_step = crowd_step;
    options.on_record = crowd_record;
    options.context = &crowd;
    cr_assert_eq(simulation_run(&options, trace, &result, &err), ST_OK);
    cr_assert_eq(crowd.most_rows, 7);
    cr_assert_eq(crowd.fewest_rows, 7);
    cr_assert_gt(crowd.ended, 30, "%d", crowd.ended);
    cr_assert_eq(result.results->all.requests, crowd.ended);
    cr_assert_eq(result.results->all.outcomes[OUTCOME_COMPLETED], crowd.ended);
    results_free(result.results);

    struct seen seen = {0};
    options.warm_us = options.until_us = 0; /* the whole trace once */
    run_seen(options, trace, &result, &seen);
    cr_assert_eq(seen.record_count, 5);
    results_free(result.results);
    seen_free(&seen);

    options.duration_us = 2000000; /* and everything that began until then */
    run_seen(options, trace, &result, &seen);
    cr_assert_gt(seen.record_count, 20);
    cr_assert_gt(result.virtual_us, 2000000);
    results_free(result.results);
    seen_free(&seen);
    trace_free(trace);

    trace = trace_create(); /* nothing of it fits: it ends all the same */
    add_serial(trace, 0, 1000000, 5);
    options.duration_us = 2000000;
    run_seen(options, trace, &result, &seen);
    cr_assert_eq(result.results->all.outcomes[OUTCOME_COMPLETED], 0);
    results_free(result.results);
    seen_free(&seen);
    trace_free(trace);
    profile_free(profile);
}

/* --- giving up */

Test(simulation, gives_up_only_when_it_is_lost)
{
    struct profile *profile = small_profile(48000, 0.04);
    int gave_up = 0, stayed = 0;
    for (uint64_t seed = 1; seed <= 12; seed++)
        for (int kind = 0; kind < SLO_KINDS; kind++) {
            struct trace *trace = some_trace(seed, 150, 20 + 8 * (double)seed);
            struct simulation_options options = some_options(profile);
            struct simulation_result whole, cut;
            options.slo = (struct slo_target){400000, 32000};
            options.warm_us = 300000;
            options.until_us = 3000000;
            run_seen(options, trace, &whole, NULL);
            double reached = whole.results->all.slo[kind].attainment;
            options.kind = (enum slo_kind)kind;
            for (int try = 0; try < 3; try++) {
                options.give_up_below = reached + (try - 1) * 0.02;
                if (options.give_up_below <= 0 || options.give_up_below > 1) continue;
                run_seen(options, trace, &cut, NULL);
                cr_assert_eq(cut.gave_up, try == 2, "seed %d, %s: %g reached, %g wanted", (int)seed,
                             slo_kind_name(options.kind), reached, options.give_up_below);
                cr_assert(!cut.gave_up || cut.virtual_us <= whole.virtual_us);
                gave_up += cut.gave_up && cut.virtual_us < whole.virtual_us * 3 / 4;
                stayed += !cut.gave_up;
                results_free(cut.results);
            }
            results_free(whole.results);
            trace_free(trace);
        }
    cr_assert(gave_up > 5 && stayed > 20, "early %d, not %d", gave_up, stayed);
    profile_free(profile);
}

/* --- KV that is there already */

static int64_t prefill_tokens(const struct seen *seen)
{
    int64_t tokens = 0;
    for (size_t i = 0; i < seen->step_count; i++)
        tokens += seen->steps[i].load.prefill_tokens;
    return tokens;
}

static void run_cached(int32_t prompt, int32_t cached, int64_t expected)
{
    struct profile *profile = small_profile(48000, 0.04);
    struct trace *trace = trace_create();
    int32_t output = 4;
    struct trace_stage stage = {.branch_count = 1, .branch_tokens = &output};
    struct seen seen = {0};
    struct simulation_result result;
    for (int i = 0; i < 3; i++) {
        struct trace_request request = {.arrival_ms = 1000 * i,
                                        .prompt_tokens = prompt,
                                        .cached_tokens = cached,
                                        .stages = &stage,
                                        .stage_count = 1,
                                        .class_name = ""};
        trace_add(trace, &request);
    }
    run_seen(some_options(profile), trace, &result, &seen);
    check_all_complete(trace, &seen);
    cr_assert_eq(prefill_tokens(&seen), expected, "%lld", (long long)prefill_tokens(&seen));
    /* The context is read whole all the same. */
    cr_assert_eq(seen.steps[seen.step_count - 1].load.context_read, prompt + output - 1);
    results_free(result.results);
    seen_free(&seen);
    trace_free(trace);
    profile_free(profile);
}

Test(simulation, cached_tokens_need_no_computation)
{
    run_cached(200, 0, 3 * 200);
    run_cached(200, 150, 3 * 50);
    run_cached(200, 198, 3 * 2);
    run_cached(200, 199, 0); /* one token left: a decode row */
    run_cached(200, 200, 0); /* the last one is always computed */
}

Test(simulation, shared_prefixes_are_computed_once)
{
    struct profile *profile = small_profile(48000, 0.04);
    struct trace *trace = trace_create();
    int32_t output = 4;
    struct trace_stage stage = {.branch_count = 1, .branch_tokens = &output};
    struct trace_prefix prefixes[] = {{5, 64}, {9, 32}};
    struct seen seen = {0};
    struct simulation_result result;
    for (int i = 0; i < 3; i++) { /* 0 and 2 share 96 tokens, 1 the first 64 of them */
        prefixes[1].id = i == 1 ? 10 : 9;
        struct trace_request request = {.arrival_ms = 1000 * i,
                                        .prompt_tokens = 120,
                                        .prefixes = prefixes,
                                        .prefix_count = 2,
                                        .stages = &stage,
                                        .stage_count = 1,
                                        .class_name = ""};
        trace_add(trace, &request);
    }
    run_seen(some_options(profile), trace, &result, &seen);
    check_all_complete(trace, &seen);
    cr_assert_eq(prefill_tokens(&seen), 120 + (120 - 64) + (120 - 96));
    results_free(result.results);
    seen_free(&seen);
    trace_free(trace);
    profile_free(profile);
}

/* --- the chunk that keeps a step to its target */

Test(simulation, slo_chunk_is_the_largest_that_fits)
{
    struct profile *profile = small_profile(48000, 0.04);
    for (size_t p = 0; p < COUNT_OF(policies); p++) {
        struct trace *trace = some_trace(5, 200, 15);
        struct simulation_options options = some_options(profile);
        struct simulation_result result;
        struct seen seen = {0};
        options.policy = the_policy(policies[p]);
        options.prefill_chunk = 512;
        options.chunk_by_slo = true;
        options.step_target_us = 30000;
        run_seen(options, trace, &result, &seen);
        check_all_complete(trace, &seen);
        int full = 0, tight = 0;
        for (size_t i = 0; i < seen.step_count; i++) {
            struct step_load load = seen.steps[i].load;
            double predicted = profile_step_us(profile, &load);
            cr_assert(predicted <= 30000 || load.prefill_tokens <= 16,
                      "step %zu: %d rows and %d tokens make %g us", i, load.decode_rows,
                      load.prefill_tokens, predicted);
            load.prefill_tokens++;
            tight += predicted <= 30000 && profile_step_us(profile, &load) > 30000 - 250;
            full += load.prefill_tokens > 100;
        }
        cr_assert(tight > 20 && full > 5, "%d tight, %d large", tight, full);
        results_free(result.results);
        seen_free(&seen);
        trace_free(trace);
    }
    profile_free(profile);
}

/* --- against measured serving */

/* vLLM 0.12, bf16, two H100: prompts and answers of 1,024 tokens, so many at a time, milliseconds a
 * token (../shared/reference/branches-and-slo.md section 5). The profile is of kernels: what the
 * host does between two steps comes on top in vLLM, so it is longer, by 8 to 16 %
 * (docs/workloads.md). */
Test(simulation, measured_engine_beside_vllm)
{
    static const struct {
        int32_t concurrency;
        double tpot_ms;
    } measured[] = {{8, 15.9}, {16, 17.4}, {32, 20.1}, {64, 26.1}, {128, 37.8}};
    struct profile *profile = the_profile("h100x2-qwen3-32b");
    struct trace *trace = trace_create();
    for (int i = 0; i < 300; i++)
        add_serial(trace, i, 1024, 1024);
    for (size_t i = 0; i < COUNT_OF(measured); i++) {
        struct simulation_options options = some_options(profile);
        struct simulation_result result;
        options.prefill_chunk = 8192;
        options.concurrency = measured[i].concurrency;
        options.warm_us = 40000000;
        options.until_us = 140000000;
        run_seen(options, trace, &result, NULL);
        double ratio = result.results->all.tpot_ms.mean / measured[i].tpot_ms;
        cr_assert(ratio > 0.8 && ratio < 1, "%d at a time: %g of vLLM's time",
                  measured[i].concurrency, ratio);
        results_free(result.results);
    }
    trace_free(trace);
    profile_free(profile);
}

/* --- what is wrong */

static void check_error(struct simulation_options options, const struct trace *trace,
                        const char *words)
{
    struct simulation_result result;
    struct error err = {0};
    cr_assert_eq(simulation_run(&options, trace, &result, &err), ST_INVALID);
    cr_assert(strstr(err.text, words), "%s", err.text);
    cr_assert_null(result.results);
}

Test(simulation, wrong_options)
{
    struct profile *profile = small_profile(48000, 0.04);
    struct trace *trace = trace_create();
    struct simulation_options options = some_options(profile);
    check_error(options, trace, "no requests");
    add_serial(trace, 0, 5, 5);
    options.rate_scale = 0;
    check_error(options, trace, "scaled by 0");
    options = some_options(profile);
    options.concurrency = -1;
    check_error(options, trace, "concurrency is -1");
    options = some_options(profile);
    options.prefill_chunk = 0;
    check_error(options, trace, "prefill-chunk is 0");
    options = some_options(profile);
    options.chunk_by_slo = true;
    check_error(options, trace, "--prefill-chunk slo");
    trace_free(trace);
    profile_free(profile);
}
