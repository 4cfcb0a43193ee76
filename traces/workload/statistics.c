#include "traces/workload/statistics.h"
#include "traces/workload/count_histogram.h"
#include "traces/workload/prefix_reuse.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CLASSES 32

struct class_count {
    char name[64];
    double ttft_ms, tpot_ms;
    int64_t requests;
};

struct statistics {
    struct count_histogram prompt, output, branch, width;
    double first_ms, last_ms, gaps, gap_squares;
    int64_t branching, parallel_stages;
    double balance_sum, branch_tokens, path_tokens;
    double shared_tokens, cached_tokens;
    struct prefix_reuse reuse;
    struct class_count classes[MAX_CLASSES];
    size_t class_count;
    int64_t other_classes; /* requests of classes that had no place */
};

struct statistics *statistics_create(void)
{
    return must_alloc(sizeof(struct statistics));
}

void statistics_free(struct statistics *statistics)
{
    if (!statistics) return;
    prefix_reuse_release(&statistics->reuse);
    free(statistics);
}

int64_t statistics_requests(const struct statistics *statistics)
{
    return statistics->prompt.count;
}

/* --- adding */

static void add_arrival(struct statistics *s, double now_ms)
{
    if (s->prompt.count == 0) {
        s->first_ms = s->last_ms = now_ms;
        return;
    }
    double gap = now_ms - s->last_ms;
    s->gaps += gap;
    s->gap_squares += gap * gap;
    s->last_ms = now_ms;
}

static void add_class(struct statistics *s, const struct trace_request *request)
{
    struct class_count *entry = s->classes;
    char name[sizeof entry->name];
    snprintf(name, sizeof name, "%s", request->class_name);
    for (size_t i = 0; i < s->class_count; i++, entry++)
        if (entry->ttft_ms == request->ttft_ms && entry->tpot_ms == request->tpot_ms &&
            !strcmp(entry->name, name)) {
            entry->requests++;
            return;
        }
    if (s->class_count == MAX_CLASSES) {
        s->other_classes++;
        return;
    }
    *entry = (struct class_count){
        .ttft_ms = request->ttft_ms, .tpot_ms = request->tpot_ms, .requests = 1};
    strcpy(entry->name, name);
    s->class_count++;
}

static void add_stage(struct statistics *s, const struct trace_stage *stage)
{
    double sum = 0;
    int32_t most = 0;
    for (int32_t b = 0; b < stage->branch_count; b++) {
        sum += stage->branch_tokens[b];
        most = max_i32(most, stage->branch_tokens[b]);
        if (stage->parallel) count_histogram_add(&s->branch, stage->branch_tokens[b]);
    }
    s->path_tokens += most;
    if (!stage->parallel) return;
    s->parallel_stages++;
    s->branch_tokens += sum;
    s->balance_sum += sum / stage->branch_count / most;
    count_histogram_add(&s->width, stage->branch_count);
}

void statistics_add(struct statistics *s, const struct trace_request *request)
{
    add_arrival(s, request->arrival_ms);
    add_class(s, request);
    for (int32_t i = 0; i < request->stage_count; i++)
        add_stage(s, &request->stages[i]);
    s->branching += trace_request_branches(request);
    s->shared_tokens += prefix_reuse_add(&s->reuse, request);
    s->cached_tokens += request->cached_tokens;
    count_histogram_add(&s->prompt, request->prompt_tokens);
    count_histogram_add(&s->output, (int32_t)trace_request_output(request));
}

/* --- what comes out; NAN: there is no such figure */

struct figures {
    double duration_s, rate, gap_cv, branching_share, stages, balance, share, degree, formula;
    double reuse, cached;
};

static double ratio(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

static struct figures figures_of(const struct statistics *s)
{
    double requests = (double)s->prompt.count, gaps = requests - 1;
    double mean_gap = ratio(s->gaps, gaps), variance = ratio(s->gap_squares, gaps);
    struct figures f = {
        .duration_s = requests > 0 ? (s->last_ms - s->first_ms) / 1000 : NAN,
        .gap_cv = ratio(sqrt(fmax(variance - mean_gap * mean_gap, 0)), mean_gap),
        .branching_share = ratio((double)s->branching, requests),
        .stages = ratio((double)s->parallel_stages, (double)s->branching),
        .balance = ratio(s->balance_sum, (double)s->parallel_stages),
        .share = ratio(s->branch_tokens, s->output.sum),
        .degree = ratio(s->output.sum, s->path_tokens),
        .reuse = ratio(s->shared_tokens, s->prompt.sum),
        .cached = ratio(s->cached_tokens, s->prompt.sum),
    };
    f.rate = ratio(gaps, f.duration_s);
    f.formula = s->parallel_stages == 0
                    ? f.degree /* nothing branches: 1 */
                    : 1 / (1 - f.share * (1 - 1 / (count_histogram_mean(&s->width) * f.balance)));
    return f;
}

static void set(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, isfinite(value) ? json_real(value) : json_null());
}

static json_t *limit_json(double ms)
{
    return ms > 0 ? json_real(ms) : json_null();
}

static json_t *classes_json(const struct statistics *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->class_count; i++) {
        const struct class_count *counted = &s->classes[i];
        json_t *entry = json_object();
        json_t *name = json_string(counted->name);
        /* A name cut within a character is no UTF-8. */
        json_object_set_new(entry, "name", name ? name : json_string("?"));
        json_object_set_new(entry, "ttft_ms", limit_json(counted->ttft_ms));
        json_object_set_new(entry, "tpot_ms", limit_json(counted->tpot_ms));
        json_object_set_new(entry, "requests", json_integer(counted->requests));
        json_array_append_new(list, entry);
    }
    return list;
}

json_t *statistics_json(const struct statistics *s)
{
    struct figures f = figures_of(s);
    json_t *object = json_object();
    json_object_set_new(object, "requests", json_integer(s->prompt.count));
    set(object, "duration_s", f.duration_s);
    set(object, "rate_per_s", f.rate);
    set(object, "gap_cv", f.gap_cv);
    json_object_set_new(object, "prompt_tokens", count_histogram_json(&s->prompt));
    json_object_set_new(object, "output_tokens", count_histogram_json(&s->output));
    json_object_set_new(object, "branch_tokens", count_histogram_json(&s->branch));
    set(object, "branching_share", f.branching_share);
    set(object, "stages_per_request", f.stages);
    json_object_set_new(object, "width", count_histogram_json(&s->width));
    set(object, "balance", f.balance);
    set(object, "token_share_in_branches", f.share);
    set(object, "degree_of_parallelism", f.degree);
    set(object, "degree_by_formula", f.formula);
    set(object, "prefix_reuse", f.reuse);
    json_object_set_new(object, "prefix_reuse_exact", json_boolean(s->reuse.halvings == 0));
    set(object, "cached_share", f.cached);
    json_object_set_new(object, "classes", classes_json(s));
    if (s->other_classes)
        json_object_set_new(object, "requests_of_further_classes", json_integer(s->other_classes));
    return object;
}

/* --- the table */

static void print_lengths(FILE *out, const char *name, const struct count_histogram *histogram)
{
    if (histogram->count == 0) return;
    fprintf(out, "  %-15s %9.1f %7lld", name, count_histogram_mean(histogram),
            (long long)histogram->least);
    for (int i = 0; i < COUNT_HISTOGRAM_QUANTILES; i++)
        fprintf(out, " %7lld",
                (long long)count_histogram_quantile(histogram, count_histogram_percents[i]));
    fprintf(out, " %7lld\n", (long long)histogram->most);
}

static void print_branches(FILE *out, const struct statistics *s, const struct figures *f)
{
    if (s->parallel_stages == 0) {
        fputs("branches         none\n", out);
        return;
    }
    fprintf(out, "branches         %.1f %% of the requests, %.2f parallel stages in each\n",
            100 * f->branching_share, f->stages);
    fprintf(out, "  width          %.2f (%lld to %lld)\n", count_histogram_mean(&s->width),
            (long long)s->width.least, (long long)s->width.most);
    fprintf(out, "  balance        %.2f (mean over longest branch of a stage)\n", f->balance);
    fprintf(out, "  tokens         %.1f %% of all output tokens\n", 100 * f->share);
    fprintf(out,
            "  parallelism    %.2f (all tokens over the longest paths'); by the formula %.2f\n",
            f->degree, f->formula);
}

static void print_class(FILE *out, const struct class_count *entry)
{
    char name[sizeof entry->name];
    strcpy(name, *entry->name ? entry->name : "(no class)");
    make_printable(name);
    fprintf(out, "  %-20s %10lld requests", name, (long long)entry->requests);
    if (entry->ttft_ms > 0) fprintf(out, "  TTFT %g ms", entry->ttft_ms);
    if (entry->tpot_ms > 0) fprintf(out, "  TPOT %g ms", entry->tpot_ms);
    fputs(entry->ttft_ms > 0 || entry->tpot_ms > 0 ? "\n" : "  no SLO\n", out);
}

void statistics_print(const struct statistics *s, FILE *out)
{
    struct figures f = figures_of(s);
    fprintf(out, "requests         %lld", (long long)s->prompt.count);
    if (isfinite(f.rate))
        fprintf(out, " in %.1f s: %.3g a second, gaps vary by %.2f of their mean (Poisson: 1)",
                f.duration_s, f.rate, f.gap_cv);
    if (s->prompt.count == 0) {
        fputc('\n', out);
        return;
    }
    fprintf(out, "\n  %-15s %9s %7s", "tokens", "mean", "min");
    for (int i = 0; i < COUNT_HISTOGRAM_QUANTILES; i++)
        fprintf(out, " %6.0f%%", count_histogram_percents[i]);
    fprintf(out, " %7s\n", "max");
    print_lengths(out, "prompt", &s->prompt);
    print_lengths(out, "output", &s->output);
    print_lengths(out, "one branch", &s->branch);
    print_branches(out, s, &f);
    fprintf(out, "prefix reuse     %s%.1f %% of all prompt tokens stood in an earlier prompt\n",
            s->reuse.halvings ? "about " : "", 100 * f.reuse);
    if (s->cached_tokens > 0)
        fprintf(out, "cached           %.1f %% of all prompt tokens, beside that\n",
                100 * f.cached);
    fputs("SLO\n", out);
    for (size_t i = 0; i < s->class_count; i++)
        print_class(out, &s->classes[i]);
    if (s->other_classes)
        fprintf(out, "  %-20s %10lld requests\n", "(further classes)", (long long)s->other_classes);
}
