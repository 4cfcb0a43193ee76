/* What is generated: the same again, independent of the rate, and distributed as it says. */
#include "support_trace_files.h"
#include "base/base.h"
#include "traces/workload/arrivals.h"
#include "traces/workload/generate.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct workload_spec preset(const char *name)
{
    struct workload_spec spec;
    struct error err = {0};
    cr_assert_eq(workload_preset(name, &spec, &err), ST_OK, "%s", err.text);
    return spec;
}

static struct trace *generate(const struct workload_spec *spec, double rate, double seconds,
                              uint64_t seed)
{
    struct trace *trace;
    struct error err = {0};
    cr_assert_eq(workload_generate(spec, rate, seconds, seed, &trace, &err), ST_OK, "%s", err.text);
    return trace;
}

Test(workload, a_seed_gives_the_same_again_and_another_does_not)
{
    struct workload_spec spec = preset("W3");
    struct trace *a = generate(&spec, 2, 100, 7), *b = generate(&spec, 2, 100, 7);
    struct trace *c = generate(&spec, 2, 100, 8);
    expect_same_trace(a, b);
    cr_assert(a->requests[0].prompt_tokens != c->requests[0].prompt_tokens ||
              a->requests[1].prompt_tokens != c->requests[1].prompt_tokens);
    trace_free(a);
    trace_free(b);
    trace_free(c);
}

Test(workload, a_duration_beyond_the_latest_arrival_ends_there, .timeout = 20)
{
    struct workload_spec spec = preset("W1");
    struct trace *trace = generate(&spec, 1e-6, 1e13, 7);
    cr_assert_gt(trace->count, 800); /* 1e9 s: a thousand */
    cr_assert_lt(trace->requests[trace->count - 1].arrival_ms, TRACE_MAX_MS);
    trace_free(trace);
}

Test(workload, the_rate_scales_arrivals_and_changes_no_request)
{
    static const char *const names[] = {"W1", "W7"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct workload_spec spec = preset(names[i]);
        struct trace *slow = generate(&spec, 1.5, 400, 3), *fast = generate(&spec, 6, 400, 3);
        cr_assert_gt(fast->count, 3 * slow->count);
        for (size_t k = 0; k < slow->count; k++) {
            struct trace_request scaled = fast->requests[k];
            cr_assert_float_eq(scaled.arrival_ms * 4, slow->requests[k].arrival_ms, 3e-4);
            scaled.arrival_ms = slow->requests[k].arrival_ms;
            expect_same_request(&slow->requests[k], &scaled);
        }
        trace_free(slow);
        trace_free(fast);
    }
}

/* Three levels, a turn of 60 s and 100 requests a turn: 10 s of 1, 20 s of 2, 30 s of 0.5. */
Test(workload, levels_by_hand)
{
    struct rate_levels levels = {3, {2, 4, 1}, {10, 20, 30}};
    double rate = 100.0 / 60, unit = 100.0 / 130; /* requests/s of weight 1 */
    cr_assert_float_eq(rate_levels_time(&levels, rate, 0), 0, 1e-12);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 10 * unit), 5, 1e-9);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 20 * unit), 10, 1e-9);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 24 * unit), 11, 1e-9);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 100 * unit), 30, 1e-9);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 115 * unit), 45, 1e-9);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 100 + 24 * unit), 71, 1e-9);
    cr_assert_float_eq(rate_levels_time(&levels, rate, 700), 420, 1e-9);
}

/* Twice the rate in every second half; the same requests, and the same number of them. */
Test(workload, levels_move_arrivals_and_change_no_request)
{
    struct workload_spec spec = preset("W4");
    struct trace *even = generate(&spec, 3, 4000, 3);
    spec.levels = (struct rate_levels){2, {1, 2}, {500, 500}};
    struct trace *levels = generate(&spec, 3, 4000, 3);
    size_t high = 0;
    cr_assert_float_eq((double)levels->count, 12000, 5 * sqrt(12000));
    for (size_t k = 0; k < levels->count; k++) {
        struct trace_request request = levels->requests[k];
        high += fmod(request.arrival_ms, 1e6) >= 5e5;
        if (k > 0) cr_assert_geq(request.arrival_ms, levels->requests[k - 1].arrival_ms);
        if (k >= even->count) continue;
        request.arrival_ms = even->requests[k].arrival_ms;
        expect_same_request(&even->requests[k], &request);
    }
    cr_assert_float_eq((double)high, 8000, 5 * sqrt(8000));
    trace_free(even);
    trace_free(levels);
}

/* The study's request (taper_sim.c, fillreq), number by number. */
Test(workload, branching_requests_are_those_of_the_study)
{
    struct workload_spec spec = preset("W4");
    struct trace *trace = generate(&spec, 20, 500, 1);
    int64_t branching = 0, times[4] = {0}, widths[17] = {0}, branches = 0;
    double logs = 0;
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_request *r = &trace->requests[i];
        cr_assert_geq(r->prompt_tokens, 16);
        cr_assert(r->ttft_ms == 2000 && r->tpot_ms == 50 && !*r->class_name);
        if (!trace_request_branches(r)) {
            cr_assert(r->stage_count == 1 && r->stages[0].branch_tokens[0] >= 2);
            continue;
        }
        branching++;
        cr_assert(r->stage_count == 3 || r->stage_count == 5 || r->stage_count == 7);
        times[(r->stage_count - 1) / 2]++;
        for (int32_t s = 0; s < r->stage_count; s++) {
            const struct trace_stage *stage = &r->stages[s];
            bool last = s == r->stage_count - 1;
            cr_assert_eq(stage->parallel, s % 2 == 1);
            if (!stage->parallel)
                cr_assert(stage->branch_tokens[0] >= (last ? 50 : 20) &&
                          stage->branch_tokens[0] < (last ? 200 : 80));
            for (int32_t b = 0; stage->parallel && b < stage->branch_count; b++, branches++) {
                cr_assert(stage->branch_tokens[b] >= 50 && stage->branch_tokens[b] <= 400);
                logs += log(stage->branch_tokens[b] + 0.5);
            }
            if (!stage->parallel) continue;
            cr_assert(stage->branch_count >= 8 && stage->branch_count <= 16);
            widths[stage->branch_count]++;
        }
    }
    int64_t stages = times[1] + 2 * times[2] + 3 * times[3];
    /* Five standard deviations of each count. */
    cr_assert_float_eq((double)branching / (double)trace->count, 0.5,
                       5 * 0.5 / sqrt((double)trace->count));
    for (int i = 1; i <= 3; i++)
        cr_assert_float_eq((double)times[i] / (double)branching, 1 / 3.0,
                           5 * sqrt(2 / 9.0 / (double)branching), "%d times", i);
    for (int w = 8; w <= 16; w++)
        cr_assert_float_eq((double)widths[w] / (double)stages, 1 / 9.0,
                           5 * sqrt(8 / 81.0 / (double)stages), "width %d", w);
    /* ln 130 = 4.868; cut to 50..400 the mean of the logarithm is 4.896 and its spread 0.487 (by
     * the truncated normal's formulas). */
    cr_assert_float_eq(logs / (double)branches, 4.8959, 5 * 0.487 / sqrt((double)branches));
    trace_free(trace);
}

/* Of the stream's first `count` requests: mean gap, and its coefficient of variation. */
static void gaps(const struct workload_spec *spec, double rate, int count, double *mean, double *cv)
{
    struct workload *w;
    struct error err = {0};
    double last = 0, sum = 0, squares = 0;
    cr_assert_eq(workload_open(spec, rate, 11, &w, &err), ST_OK, "%s", err.text);
    for (int i = 0; i < count; i++) {
        double now = workload_next(w)->arrival_ms, gap = now - last;
        cr_assert_geq(gap, 0);
        sum += gap;
        squares += gap * gap;
        last = now;
    }
    workload_close(w);
    *mean = sum / count;
    *cv = sqrt(squares / count - *mean * *mean) / *mean;
}

Test(workload, gaps_have_their_mean_and_variation)
{
    static const double cvs[] = {0.25, 1, 3};
    for (size_t i = 0; i < COUNT_OF(cvs) + 1; i++) {
        struct workload_spec spec = workload_default();
        bool poisson = i == COUNT_OF(cvs);
        spec.arrivals = poisson ? ARRIVALS_POISSON : ARRIVALS_GAMMA;
        spec.arrival_cv = poisson ? 1 : cvs[i];
        double mean, cv, expected = spec.arrival_cv;
        gaps(&spec, 8, 40000, &mean, &cv);
        /* The mean's standard deviation is cv / sqrt(n); the CV's own is under 3 % at 3. */
        cr_assert_float_eq(mean, 125, 5 * 125 * expected / sqrt(40000.0), "cv %g", expected);
        cr_assert_float_eq(cv, expected, 0.08 * expected, "cv %g: %g", expected, cv);
    }
}

/* Over a whole turn of the trace the rate is what was asked for, and it moves as the trace's. */
Test(workload, azure_arrivals_follow_the_trace)
{
    struct arrivals arrivals;
    int total = 0;
    for (int i = 0; i < AZURE_BINS; i++)
        total += azure_arrivals[i];
    cr_assert_eq(total, 19364);
    arrivals_start(&arrivals, ARRIVALS_AZURE, 1, 5);
    double last = 0, first = arrivals_next(&arrivals);
    for (int i = 1; i <= total; i++) {
        double now = i == 0 ? first : arrivals_next(&arrivals);
        cr_assert_geq(now, last);
        last = now;
    }
    cr_assert_float_eq(last - first, total, 60, "one turn takes as many units as it has requests");
}

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* controller.md's quantiles come back, each within five standard deviations of its rank. */
static void check_quantiles(int32_t *values, int count, const int32_t expected[8])
{
    static const double percents[] = {5, 10, 25, 50, 75, 90, 95, 99};
    qsort(values, (size_t)count, sizeof *values, by_value);
    for (int i = 0; i < 8; i++) {
        double q = percents[i] / 100, slack = 5 * sqrt(q * (1 - q) / count);
        int low = (int)((q - slack) * count), high = (int)((q + slack) * count);
        cr_assert(values[low] <= expected[i] && values[high] >= expected[i],
                  "%g %%: %d to %d, expected %d", percents[i], values[low], values[high],
                  expected[i]);
    }
}

Test(workload, azure_lengths_have_their_quantiles)
{
    enum { COUNT = 20000 };
    static const struct {
        const char *name;
        int32_t prompt[8], output[8];
    } cases[] = {
        {"azure-conv",
         {181, 207, 396, 1020, 1189, 2735, 4083, 4142},
         {41, 54, 85, 129, 395, 424, 451, 601}},
        {"azure-code", {75, 147, 578, 1469, 2745, 5194, 7315, 7436}, {0}},
    };
    static int32_t prompts[COUNT], outputs[COUNT];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct lengths lengths;
        struct error err = {0};
        struct rng rng = {4};
        cr_assert_eq(lengths_parse(cases[i].name, &lengths, &err), ST_OK, "%s", err.text);
        for (int k = 0; k < COUNT; k++) {
            struct length_pair pair = lengths_draw(&lengths, &rng);
            prompts[k] = pair.prompt;
            outputs[k] = pair.output;
        }
        check_quantiles(prompts, COUNT, cases[i].prompt);
        if (cases[i].output[0]) check_quantiles(outputs, COUNT, cases[i].output);
        lengths_release(&lengths);
    }
}

Test(workload, presets_by_name)
{
    struct workload_spec spec;
    struct error err = {0};
    for (int i = 1; i <= 10; i++) {
        char name[8];
        snprintf(name, sizeof name, "W%d", i);
        cr_assert_eq(workload_preset(name, &spec, &err), ST_OK);
        cr_assert_eq(workload_check(&spec, &err), ST_OK, "%s: %s", name, err.text);
    }
    cr_assert_eq(workload_preset("W11", &spec, &err), ST_USAGE);
    cr_assert(strstr(err.text, "'W11'") && strstr(err.text, "W1 to W10"), "%s", err.text);
}

Test(workload, cached_prompts)
{
    struct workload_spec spec = preset("W6");
    struct trace *trace = generate(&spec, 10, 200, 2);
    double prompts = 0;
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_request *r = &trace->requests[i];
        cr_assert_eq(r->cached_tokens, (int)(r->prompt_tokens * 0.9));
        cr_assert(r->prompt_tokens <= 60000);
        prompts += r->prompt_tokens;
    }
    cr_assert_float_eq(prompts / (double)trace->count, 6 * 1147, 6 * 100);
    trace_free(trace);
}

/* Refused before any work, by name. */
Test(workload, what_a_specification_may_not_say)
{
    struct workload_spec good = workload_default(), spec;
    struct error err = {0};
    struct workload *w;
#define REFUSED(change, words)                                                 \
    do {                                                                       \
        spec = good;                                                           \
        change;                                                                \
        cr_assert_eq(workload_open(&spec, 1, 1, &w, &err), ST_USAGE, #change); \
        cr_assert(strstr(err.text, words), "%s: %s", #change, err.text);       \
    } while (0)
    REFUSED(spec.branching.share = 1.5, "--branching: found 1.5");
    REFUSED(spec.branching.share = NAN, "--branching");
    REFUSED(spec.branching.width.least = 0, "--width: found 0 to 8");
    REFUSED(spec.branching.width.most = 5000, "4096");
    REFUSED(spec.branching.stages.least = 4, "--stages: found 4 to 3");
    REFUSED(spec.branching.branch.least = 4000; spec.branching.branch.most = 5000, "lie within");
    REFUSED(spec.branching.branch_sigma = NAN, "sigma");
    REFUSED(spec.branching.branch_median = 0, "median 0");
    REFUSED(spec.arrivals = ARRIVALS_GAMMA; spec.arrival_cv = 0, "CV 0");
    REFUSED(spec.class_count = 0, "--class");
    REFUSED(spec.classes[0].share = 0, "all shares are 0");
    REFUSED(spec.cached_share = 1, "--cached");
    REFUSED(spec.prompt_scale = 0, "prompt scale");
    REFUSED(spec.prefixes.share = 1, "--prefixes: found 0 of 0");
    cr_assert_eq(workload_open(&good, 0, 1, &w, &err), ST_USAGE);
    cr_assert_eq(workload_open(&good, NAN, 1, &w, &err), ST_USAGE);
}

Test(workload, shared_prefixes_and_classes)
{
    struct workload_spec spec = workload_default();
    spec.prefixes.share = 0.6;
    spec.prefixes.count = 3;
    spec.prefixes.tokens = 400;
    spec.classes[0] = (struct workload_class){"chat", 3, 1000, 40};
    spec.classes[1] = (struct workload_class){"batch", 1, 0, 0};
    spec.class_count = 2;
    struct trace *trace = generate(&spec, 10, 400, 9);
    int64_t of[3] = {0}, prefixed = 0, chat = 0;
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_request *r = &trace->requests[i];
        bool is_chat = !strcmp(r->class_name, "chat");
        cr_assert(is_chat || !strcmp(r->class_name, "batch"));
        cr_assert(r->ttft_ms == (is_chat ? 1000 : 0) && r->tpot_ms == (is_chat ? 40 : 0));
        chat += is_chat;
        if (!r->prefix_count) continue;
        cr_assert_eq(r->prefixes[0].tokens, min_i32(400, r->prompt_tokens - 1));
        of[r->prefixes[0].id]++;
        prefixed++;
    }
    double n = (double)trace->count;
    cr_assert_float_eq((double)chat / n, 0.75, 5 * 0.433 / sqrt(n));
    cr_assert_float_eq((double)prefixed / n, 0.6, 5 * 0.49 / sqrt(n));
    for (int i = 0; i < 3; i++)
        cr_assert_float_eq((double)of[i] / n, 0.2, 5 * 0.4 / sqrt(n));
    trace_free(trace);
}
