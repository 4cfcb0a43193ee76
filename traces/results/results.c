/* From records to results: tallies as records come, distributions at the end. */
#include "traces/results/results.h"

#include "base/base.h"
#include "traces/results/histogram.h"
#include "traces/results/names.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the distributions need of a completed request. */
struct sample {
    int64_t ttft_us, e2e_us;
    double tpot_us; /* -1: one token */
    uint32_t class_index;
    bool branching;
};

struct tally {
    int64_t requests, outcomes[OUTCOMES], output_tokens;
    int64_t met[SLO_KINDS], met_tokens[SLO_KINDS];
};

struct results_builder {
    bool brief;
    struct tally groups[2]; /* serial, branching */
    struct names classes;
    struct tally *class_tallies; /* [class_capacity] */
    size_t class_capacity;
    struct names reasons;   /* tag: outcome */
    int64_t *reason_counts; /* [reason_capacity] */
    size_t reason_capacity;
    struct sample *samples; /* [sample_count] */
    size_t sample_count, sample_capacity;
    /* NULL when brief. */
    struct histogram *gaps, *latencies, *widths;
    int64_t predictions;
    double prediction_error; /* sum */
};

struct results_builder *results_begin_brief(void)
{
    struct results_builder *builder = must_alloc(sizeof *builder);
    builder->brief = true;
    return builder;
}

struct results_builder *results_begin(void)
{
    struct results_builder *builder = must_alloc(sizeof *builder);
    builder->gaps = must_alloc(sizeof *builder->gaps);
    builder->latencies = must_alloc(sizeof *builder->latencies);
    builder->widths = must_alloc(sizeof *builder->widths);
    return builder;
}

static void builder_free(struct results_builder *builder)
{
    free(builder->class_tallies);
    free(builder->reason_counts);
    free(builder->samples);
    free(builder->gaps);
    free(builder->latencies);
    free(builder->widths);
    names_free(&builder->classes);
    names_free(&builder->reasons);
    free(builder);
}

/* Room for `index` too, cleared. */
static void *reserve(void *array, size_t size, size_t index, size_t *capacity)
{
    if (index < *capacity) return array;
    size_t before = *capacity;
    *capacity = 2 * index + 16;
    array = must_realloc(array, *capacity * size);
    memset((char *)array + before * size, 0, (*capacity - before) * size);
    return array;
}

static void tally_add(struct tally *tally, const struct request_record *record, const bool *met)
{
    tally->requests++;
    tally->outcomes[record->outcome]++;
    tally->output_tokens += record->output_tokens;
    for (int k = 0; k < SLO_KINDS; k++)
        if (met[k]) {
            tally->met[k]++;
            tally->met_tokens[k] += record->output_tokens;
        }
}

static void add_reason(struct results_builder *b, const struct request_record *record)
{
    const char *words = record->reason ? record->reason : "";
    size_t index = names_find(&b->reasons, words, (uint32_t)record->outcome);
    b->reason_counts =
        reserve(b->reason_counts, sizeof *b->reason_counts, index, &b->reason_capacity);
    b->reason_counts[index]++;
}

static void add_sample(struct results_builder *b, const struct request_record *record,
                       uint32_t class_index)
{
    b->samples = reserve(b->samples, sizeof *b->samples, b->sample_count, &b->sample_capacity);
    b->samples[b->sample_count++] = (struct sample){
        .ttft_us = record_ttft_us(record),
        .e2e_us = record_e2e_us(record),
        .tpot_us = record->output_tokens > 1 ? record_tpot_us(record) : -1,
        .class_index = class_index,
        .branching = record->branching,
    };
}

void results_add(struct results_builder *b, const struct request_record *record)
{
    bool met[SLO_KINDS];
    for (int k = 0; k < SLO_KINDS; k++)
        met[k] = record_meets(record, (enum slo_kind)k);
    tally_add(&b->groups[record->branching], record, met);

    size_t class_index = names_find(&b->classes, record->class_name ? record->class_name : "", 0);
    b->class_tallies =
        reserve(b->class_tallies, sizeof *b->class_tallies, class_index, &b->class_capacity);
    tally_add(&b->class_tallies[class_index], record, met);

    if (record->outcome == OUTCOME_REFUSED || record->outcome == OUTCOME_FAILED)
        add_reason(b, record);
    if (!b->brief && record->outcome == OUTCOME_COMPLETED && record->output_tokens > 0)
        add_sample(b, record, (uint32_t)class_index);
}

void results_add_gap(struct results_builder *b, int64_t gap_us)
{
    if (b->gaps) histogram_add(b->gaps, gap_us);
}

void results_add_step(struct results_builder *b, int64_t latency_us, int32_t width,
                      double predicted_us)
{
    if (b->brief) return;
    histogram_add(b->latencies, latency_us);
    histogram_add(b->widths, width);
    if (predicted_us > 0 && latency_us > 0) {
        double measured = (double)latency_us;
        double off = predicted_us > measured ? predicted_us - measured : measured - predicted_us;
        b->predictions++;
        b->prediction_error += off / measured;
    }
}

int64_t results_requests(const struct results_builder *b)
{
    return b->groups[0].requests + b->groups[1].requests;
}

int64_t results_met(const struct results_builder *b, enum slo_kind kind)
{
    return b->groups[0].met[kind] + b->groups[1].met[kind];
}

static struct tally tally_sum(const struct tally *a, const struct tally *b)
{
    struct tally sum = *a;
    sum.requests += b->requests;
    sum.output_tokens += b->output_tokens;
    for (int o = 0; o < OUTCOMES; o++)
        sum.outcomes[o] += b->outcomes[o];
    for (int k = 0; k < SLO_KINDS; k++) {
        sum.met[k] += b->met[k];
        sum.met_tokens[k] += b->met_tokens[k];
    }
    return sum;
}

static void set_tally(struct group_results *group, const struct tally *tally, double scored_s)
{
    group->requests = tally->requests;
    memcpy(group->outcomes, tally->outcomes, sizeof group->outcomes);
    group->output_tokens = tally->output_tokens;
    for (int k = 0; k < SLO_KINDS; k++) {
        struct slo_result *slo = &group->slo[k];
        slo->requests = tally->met[k];
        if (tally->requests) slo->attainment = (double)tally->met[k] / (double)tally->requests;
        if (scored_s > 0) slo->requests_per_s = (double)tally->met[k] / scored_s;
        if (scored_s > 0) slo->tokens_per_s = (double)tally->met_tokens[k] / scored_s;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank: the share part / whole of sorted[count], count > 0. */
static double at_share(const double *sorted, size_t count, size_t part, size_t whole)
{
    size_t rank = (count * part + whole - 1) / whole;
    return sorted[rank ? rank - 1 : 0];
}

/* Sorts. `curve` may be NULL. */
static struct distribution distribution_of(double *values, size_t count, double *curve)
{
    struct distribution d = {.count = (int64_t)count};
    if (!count) return d;
    qsort(values, count, sizeof *values, compare_doubles);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    d.mean = sum / (double)count;
    d.p50 = at_share(values, count, 50, 100);
    d.p90 = at_share(values, count, 90, 100);
    d.p99 = at_share(values, count, 99, 100);
    d.max = values[count - 1];
    for (size_t i = 0; curve && i < CURVE_POINTS; i++)
        curve[i] = at_share(values, count, i, CURVE_POINTS - 1);
    return d;
}

static double ttft_ms(const struct sample *sample)
{
    return (double)sample->ttft_us / 1e3;
}

static double tpot_ms(const struct sample *sample)
{
    return sample->tpot_us < 0 ? -1 : sample->tpot_us / 1e3;
}

static double e2e_ms(const struct sample *sample)
{
    return (double)sample->e2e_us / 1e3;
}

/* Of samples[count], by what `value` says (negative: has none). */
static struct distribution distribute(const struct sample *samples, size_t count,
                                      double (*value)(const struct sample *), double *scratch,
                                      double *curve)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        double v = value(&samples[i]);
        if (v >= 0) scratch[found++] = v;
    }
    return distribution_of(scratch, found, curve);
}

static void set_distributions(struct group_results *group, const struct sample *samples,
                              size_t count, double *scratch, struct curves *curves)
{
    group->ttft_ms = distribute(samples, count, ttft_ms, scratch, curves ? curves->ttft_ms : NULL);
    group->tpot_ms = distribute(samples, count, tpot_ms, scratch, curves ? curves->tpot_ms : NULL);
    group->e2e_ms = distribute(samples, count, e2e_ms, scratch, curves ? curves->e2e_ms : NULL);
}

/* So that each group is a stretch: by class, then serial before branching. */
static int compare_samples(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    if (x->branching != y->branching) return x->branching - y->branching;
    return (x->class_index > y->class_index) - (x->class_index < y->class_index);
}

static int compare_classes(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return (x->class_index > y->class_index) - (x->class_index < y->class_index);
}

static void set_all_distributions(struct results_builder *b, struct results *results)
{
    size_t count = b->sample_count, serial = 0;
    if (!count) return;
    double *scratch = must_alloc(count * sizeof *scratch);
    set_distributions(&results->all, b->samples, count, scratch, NULL);

    qsort(b->samples, count, sizeof *b->samples, compare_samples);
    while (serial < count && !b->samples[serial].branching)
        serial++;
    if (serial) results->serial_curves = must_alloc(sizeof *results->serial_curves);
    if (serial < count) results->branching_curves = must_alloc(sizeof *results->branching_curves);
    set_distributions(&results->serial, b->samples, serial, scratch, results->serial_curves);
    set_distributions(&results->branching, b->samples + serial, count - serial, scratch,
                      results->branching_curves);

    if (results->class_count) qsort(b->samples, count, sizeof *b->samples, compare_classes);
    for (size_t begin = 0, end; results->class_count && begin < count; begin = end) {
        uint32_t class_index = b->samples[begin].class_index;
        for (end = begin; end < count && b->samples[end].class_index == class_index;)
            end++;
        set_distributions(&results->classes[class_index].group, b->samples + begin, end - begin,
                          scratch, NULL);
    }
    free(scratch);
}

static void set_classes(struct results_builder *b, struct results *results)
{
    size_t count = b->classes.count;
    if (count == 0 || (count == 1 && !b->classes.texts[0][0])) return;
    results->class_count = count;
    results->classes = must_alloc(count * sizeof *results->classes);
    for (size_t i = 0; i < count; i++) {
        results->classes[i].name = must_strdup(b->classes.texts[i]);
        set_tally(&results->classes[i].group, &b->class_tallies[i], results->scored_s);
    }
}

/* Equal counts by outcome and words, so that the order does not depend on who failed first. */
static int compare_reasons(const void *a, const void *b)
{
    const struct reason_count *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    if (x->outcome != y->outcome) return x->outcome < y->outcome ? -1 : 1;
    return strcmp(x->reason, y->reason);
}

static void set_reasons(struct results_builder *b, struct results *results)
{
    size_t count = b->reasons.count;
    if (!count) return;
    results->reason_count = count;
    results->reasons = must_alloc(count * sizeof *results->reasons);
    for (size_t i = 0; i < count; i++)
        results->reasons[i] = (struct reason_count){
            .reason = must_strdup(b->reasons.texts[i]),
            .outcome = (enum outcome)b->reasons.tags[i],
            .count = b->reason_counts[i],
        };
    qsort(results->reasons, count, sizeof *results->reasons, compare_reasons);
}

struct distribution results_distribution(const struct histogram *h, double unit)
{
    struct distribution d = {0};
    if (!h || !h->count) return d;
    d.count = h->count;
    d.mean = h->sum / (double)h->count / unit;
    d.p50 = histogram_percentile(h, 50) / unit;
    d.p90 = histogram_percentile(h, 90) / unit;
    d.p99 = histogram_percentile(h, 99) / unit;
    d.max = (double)h->max / unit;
    return d;
}

static void set_steps(const struct results_builder *b, struct step_results *steps)
{
    steps->latency_ms = results_distribution(b->latencies, 1e3);
    steps->width = results_distribution(b->widths, 1);
    steps->count = steps->latency_ms.count;
    steps->predictions = b->predictions;
    if (b->predictions) steps->predicted_error = b->prediction_error / (double)b->predictions;
}

struct results *results_end(struct results_builder *b, double scored_s)
{
    struct results *results = must_alloc(sizeof *results);
    struct tally all = tally_sum(&b->groups[0], &b->groups[1]);
    results->scored_s = scored_s;
    results->offered_rate = scored_s > 0 ? (double)all.requests / scored_s : NAN;
    set_tally(&results->all, &all, scored_s);
    set_tally(&results->serial, &b->groups[0], scored_s);
    set_tally(&results->branching, &b->groups[1], scored_s);
    set_classes(b, results);
    set_reasons(b, results);
    set_all_distributions(b, results);
    results->itl_ms = results_distribution(b->gaps, 1e3);
    set_steps(b, &results->steps);
    builder_free(b);
    return results;
}

void results_free(struct results *results)
{
    if (!results) return;
    for (size_t i = 0; i < results->class_count; i++)
        free((char *)results->classes[i].name);
    for (size_t i = 0; i < results->reason_count; i++)
        free((char *)results->reasons[i].reason);
    free(results->classes);
    free(results->reasons);
    free(results->serial_curves);
    free(results->branching_curves);
    free(results);
}
