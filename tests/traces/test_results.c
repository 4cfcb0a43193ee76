/* Results: a handful of records with everything in them, worked out by hand; then the JSON and the
 * table of the same. */
#include "traces/results/results.h"
#include "traces/results/histogram.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A request sent at 0 whose tokens come at `first`, then every `gap`. */
static struct request_record make(bool branching, const char *class_name, int64_t first_us,
                                  int64_t gap_us, int tokens, enum outcome outcome,
                                  const char *reason)
{
    struct request_record record = {
        .branching = branching, .class_name = class_name, .slo = {1000000, 50000}};
    record_start(&record, 0, 0);
    for (int i = 0; i < tokens; i++)
        record_token(&record, first_us + i * gap_us, 0, branching);
    record_end(&record, outcome, reason);
    return record;
}

static void add(struct results_builder *builder, struct request_record record)
{
    results_add(builder, &record);
}

/* Ten requests over 4 s. */
static void add_ten(struct results_builder *b)
{
    add(b, make(false, "chat", 100000, 10000, 11, OUTCOME_COMPLETED, NULL));
    add(b, make(false, "chat", 200000, 20000, 11, OUTCOME_COMPLETED, NULL));
    add(b, make(false, "chat", 300000, 60000, 11, OUTCOME_COMPLETED, NULL)); /* too slow */
    add(b, make(false, "", 400000, 0, 1, OUTCOME_COMPLETED, NULL));
    add(b, make(true, "math", 1000000, 50000, 5, OUTCOME_COMPLETED, NULL));
    add(b, make(true, "math", 1000001, 50000, 5, OUTCOME_COMPLETED, NULL)); /* too late */
    add(b, make(false, "chat", 0, 0, 0, OUTCOME_REFUSED, "503 queue_full"));
    add(b, make(true, "math", 0, 0, 0, OUTCOME_REFUSED, "503 queue_full"));
    add(b, make(false, "chat", 100000, 10000, 3, OUTCOME_FAILED, "stalled"));
    add(b, make(false, "chat", 100000, 10000, 3, OUTCOME_UNFINISHED, NULL));
}

static struct results *ten(void)
{
    struct results_builder *builder = results_begin();
    add_ten(builder);
    cr_assert_eq(results_requests(builder), 10);
    cr_assert_eq(results_met(builder, SLO_MEAN), 4);
    return results_end(builder, 4);
}

static void near(double found, double expected)
{
    cr_assert(fabs(found - expected) < 1e-9, "found %.12g, expected %.12g", found, expected);
}

static void counts_are(const struct group_results *g, int64_t completed, int64_t refused,
                       int64_t failed, int64_t unfinished, int64_t tokens)
{
    cr_assert_eq(g->requests, completed + refused + failed + unfinished);
    cr_assert_eq(g->outcomes[OUTCOME_COMPLETED], completed);
    cr_assert_eq(g->outcomes[OUTCOME_REFUSED], refused);
    cr_assert_eq(g->outcomes[OUTCOME_FAILED], failed);
    cr_assert_eq(g->outcomes[OUTCOME_UNFINISHED], unfinished);
    cr_assert_eq(g->output_tokens, tokens);
}

Test(results, counts)
{
    struct results *r = ten();
    counts_are(&r->all, 6, 2, 1, 1, 11 * 3 + 1 + 5 + 5 + 3 + 3);
    counts_are(&r->serial, 4, 1, 1, 1, 11 * 3 + 1 + 3 + 3);
    counts_are(&r->branching, 2, 1, 0, 0, 10);
    near(r->offered_rate, 2.5);
    near(r->scored_s, 4);
    results_free(r);
}

Test(results, attainment_and_goodput)
{
    struct results *r = ten();
    /* Met by mean: the first two, the one token, the first branching one. */
    cr_assert_eq(r->all.slo[SLO_MEAN].requests, 4);
    near(r->all.slo[SLO_MEAN].attainment, 0.4);
    near(r->all.slo[SLO_MEAN].requests_per_s, 1);
    near(r->all.slo[SLO_MEAN].tokens_per_s, (11 + 11 + 1 + 5) / 4.0);
    near(r->serial.slo[SLO_MEAN].attainment, 3.0 / 7);
    near(r->branching.slo[SLO_MEAN].attainment, 1.0 / 3);
    near(r->branching.slo[SLO_MEAN].tokens_per_s, 5 / 4.0);
    /* The third, too, by envelope: 300 + 10 * 60 <= 1000 + 500. */
    near(r->all.slo[SLO_ENVELOPE].attainment, 0.5);
    near(r->all.slo[SLO_ENVELOPE].tokens_per_s, (11 + 11 + 11 + 1 + 5) / 4.0);
    near(r->all.slo[SLO_GAPS].attainment, 0.4);
    near(r->all.slo[SLO_STAGES].attainment, 0.4);
    results_free(r);
}

Test(results, distributions)
{
    struct results *r = ten();
    /* TTFT of the six completed: 100 200 300 400 1000 1000.001 */
    cr_assert_eq(r->all.ttft_ms.count, 6);
    near(r->all.ttft_ms.mean, 3000.001 / 6);
    near(r->all.ttft_ms.p50, 300);
    near(r->all.ttft_ms.p90, 1000.001);
    near(r->all.ttft_ms.max, 1000.001);
    /* TPOT of five: 10 20 50 50 60 */
    cr_assert_eq(r->all.tpot_ms.count, 5);
    near(r->all.tpot_ms.p50, 50);
    near(r->all.tpot_ms.mean, 38);
    near(r->all.tpot_ms.p99, 60);
    near(r->serial.tpot_ms.p50, 20);
    near(r->branching.tpot_ms.p50, 50);
    /* E2E: 200, 400, 900, 400, 1200, 1200.001 */
    near(r->all.e2e_ms.p50, 400);
    near(r->all.e2e_ms.mean, 4300.001 / 6);
    cr_assert_eq(r->serial.e2e_ms.count, 4);
    near(r->branching.e2e_ms.max, 1200.001);
    results_free(r);
}

Test(results, curves)
{
    struct results *r = ten();
    const struct curves *serial = r->serial_curves; /* of TTFT 100 200 300 400 */
    near(serial->ttft_ms[0], 100);
    near(serial->ttft_ms[50], 100); /* exactly a quarter */
    near(serial->ttft_ms[51], 200);
    near(serial->ttft_ms[100], 200);
    near(serial->ttft_ms[CURVE_POINTS - 1], 400);
    near(serial->tpot_ms[CURVE_POINTS - 1], 60);
    near(r->branching_curves->e2e_ms[0], 1200);
    results_free(r);
}

Test(results, classes_in_order_of_appearance)
{
    struct results *r = ten();
    cr_assert_eq(r->class_count, 3);
    cr_assert_str_eq(r->classes[0].name, "chat");
    cr_assert_str_eq(r->classes[1].name, "");
    cr_assert_str_eq(r->classes[2].name, "math");
    counts_are(&r->classes[0].group, 3, 1, 1, 1, 39);
    counts_are(&r->classes[1].group, 1, 0, 0, 0, 1);
    counts_are(&r->classes[2].group, 2, 1, 0, 0, 10);
    near(r->classes[0].group.slo[SLO_MEAN].attainment, 2.0 / 6);
    cr_assert_eq(r->classes[0].group.ttft_ms.count, 3);
    near(r->classes[0].group.ttft_ms.p50, 200);
    near(r->classes[1].group.ttft_ms.p50, 400);
    cr_assert_eq(r->classes[1].group.tpot_ms.count, 0);
    near(r->classes[2].group.ttft_ms.mean, 1000.0005);
    results_free(r);
}

Test(results, reasons_most_frequent_first)
{
    struct results_builder *b = results_begin();
    add(b, make(false, "", 0, 0, 0, OUTCOME_FAILED, "stalled"));
    add(b, make(false, "", 0, 0, 0, OUTCOME_REFUSED, "503 queue_full"));
    add(b, make(false, "", 0, 0, 0, OUTCOME_REFUSED, "503 queue_full"));
    add(b, make(false, "", 0, 0, 0, OUTCOME_REFUSED, "stalled")); /* other outcome */
    add(b, make(false, "", 0, 0, 0, OUTCOME_FAILED, NULL));
    add(b, make(false, "", 0, 0, 0, OUTCOME_FAILED, NULL));
    add(b, make(false, "", 0, 0, 0, OUTCOME_FAILED, NULL));
    struct results *r = results_end(b, 1);
    static const struct reason_count expected[] = {{"", OUTCOME_FAILED, 3},
                                                   {"503 queue_full", OUTCOME_REFUSED, 2},
                                                   {"stalled", OUTCOME_REFUSED, 1},
                                                   {"stalled", OUTCOME_FAILED, 1}};
    cr_assert_eq(r->reason_count, COUNT_OF(expected));
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        cr_assert_str_eq(r->reasons[i].reason, expected[i].reason);
        cr_assert_eq(r->reasons[i].outcome, expected[i].outcome);
        cr_assert_eq(r->reasons[i].count, expected[i].count);
    }
    cr_assert_eq(r->class_count, 0); /* nobody names a class */
    results_free(r);
}

/* Every request its own class and reason: 20,000 names are found again. */
Test(results, many_names)
{
    struct results_builder *b = results_begin();
    char name[32];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 20000; i++) {
            snprintf(name, sizeof name, "n%d", i);
            add(b, make(false, name, 0, 0, 0, OUTCOME_FAILED, name));
        }
    struct results *r = results_end(b, 1);
    cr_assert_eq(r->class_count, 20000);
    cr_assert_eq(r->reason_count, 20000);
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        cr_assert_str_eq(r->classes[i].name, name);
        cr_assert_eq(r->classes[i].group.requests, 2);
        cr_assert_eq(r->reasons[i].count, 2);
    }
    results_free(r);
}

Test(results, gaps_and_steps)
{
    struct results_builder *b = results_begin();
    for (int i = 1; i <= 100; i++) {
        results_add_gap(b, i);                             /* 1..100 us: exact */
        results_add_step(b, 20000, i, i > 50 ? 19000 : 0); /* 5 % off, half of them */
    }
    results_add_step(b, 0, 1, 10); /* no share of nothing */
    struct results *r = results_end(b, 1);
    cr_assert_eq(r->itl_ms.count, 100);
    near(r->itl_ms.p50, 0.050);
    near(r->itl_ms.p90, 0.090);
    near(r->itl_ms.p99, 0.099);
    near(r->itl_ms.max, 0.100);
    near(r->itl_ms.mean, 0.0505);
    cr_assert_eq(r->steps.count, 101);
    near(r->steps.width.p50, 50);
    near(r->steps.width.max, 100);
    near(r->steps.latency_ms.max, 20);
    cr_assert(fabs(r->steps.latency_ms.p50 / 20 - 1) < 0.004);
    cr_assert_eq(r->steps.predictions, 50);
    near(r->steps.predicted_error, 0.05);
    results_free(r);
}

Test(results, brief_has_counts_only)
{
    struct results_builder *b = results_begin_brief();
    add_ten(b);
    results_add_gap(b, 5);
    results_add_step(b, 20000, 3, 0);
    struct results *r = results_end(b, 4);
    counts_are(&r->all, 6, 2, 1, 1, 50);
    near(r->all.slo[SLO_MEAN].attainment, 0.4);
    near(r->classes[0].group.slo[SLO_MEAN].attainment, 2.0 / 6);
    cr_assert_eq(r->reason_count, 2);
    cr_assert_eq(r->all.ttft_ms.count, 0);
    cr_assert_eq(r->itl_ms.count, 0);
    cr_assert_eq(r->steps.count, 0);
    cr_assert_null(r->serial_curves);
    results_free(r);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Any percentile within 1/256 of the exact one, over the whole range. */
Test(histogram, error_is_bounded)
{
    static struct histogram h;
    struct rng rng = {5};
    enum { N = 20000 };
    static int64_t values[N];
    for (int i = 0; i < N; i++) {
        values[i] = (int64_t)exp(rng_unit(&rng) * 43); /* up to 4.7e18 */
        histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof *values, compare);
    for (int percent = 1; percent <= 100; percent++) {
        double exact = (double)values[N * percent / 100 - 1];
        double found = histogram_percentile(&h, percent);
        cr_assert(fabs(found - exact) <= exact / 256, "p%d: %g for %g", percent, found, exact);
    }
    cr_assert_eq(h.max, values[N - 1]);
    cr_assert_eq(histogram_bin(INT64_MAX), HISTOGRAM_BINS - 1);
    for (int64_t v = 0; v < 100000; v++) /* bins follow each other */
        cr_assert(histogram_bin(v + 1) - histogram_bin(v) <= 1);
}

Test(histogram, empty_and_one)
{
    static struct histogram h;
    cr_assert_eq(histogram_percentile(&h, 50), 0);
    histogram_add(&h, 1000000);
    for (int percent = 0; percent <= 100; percent += 50)
        cr_assert(fabs(histogram_percentile(&h, percent) / 1e6 - 1) <= 1.0 / 256);
}

static double number(const json_t *json, const char *a, const char *b)
{
    const json_t *value = json_object_get(json, a);
    if (b) value = json_object_get(value, b);
    cr_assert(json_is_number(value), "%s.%s", a, b ? b : "");
    return json_number_value(value);
}

Test(json, has_what_interfaces_md_names)
{
    struct results *r = ten();
    json_t *json = results_json(r, SLO_ENVELOPE);
    near(number(json, "requests", NULL), 10);
    near(number(json, "completed", NULL), 6);
    near(number(json, "refused", NULL), 2);
    near(number(json, "failed", NULL), 1);
    near(number(json, "unfinished", NULL), 1);
    near(number(json, "slo_attainment", NULL), 0.5);
    near(number(json, "goodput", "requests_per_s"), 1.25);
    near(number(json, "goodput", "tokens_per_s"), 39 / 4.0);
    cr_assert(json_is_null(json_object_get(json_object_get(json, "goodput"), "max_rate")));
    near(number(json, "ttft_ms", "p50"), 300);
    near(number(json, "tpot_ms", "mean"), 38);
    near(number(json, "e2e_ms", "max"), 1200.001);
    near(number(json_object_get(json, "slo_kinds"), "mean", "attainment"), 0.4);
    cr_assert_str_eq(json_string_value(json_object_get(json, "slo_kind")), "envelope");

    const json_t *serial = json_object_get(json, "serial");
    near(number(serial, "requests", NULL), 7);
    near(number(serial, "slo_attainment", NULL), 4.0 / 7);
    near(number(json_object_get(json, "branching"), "e2e_ms", "max"), 1200.001);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(json, "branching"), key, value)
        cr_assert(json_object_get(json, key), "branching has %s", key);

    const json_t *reasons = json_object_get(json, "reasons");
    cr_assert_eq(json_array_size(reasons), 2);
    near(number(json_array_get(reasons, 0), "count", NULL), 2);
    cr_assert_eq(json_array_size(json_object_get(json, "classes")), 3);
    json_decref(json);
    results_free(r);
}

Test(json, undefined_is_null)
{
    struct results *r = results_end(results_begin(), 0);
    json_t *json = results_json(r, SLO_MEAN);
    cr_assert(json_is_null(json_object_get(json, "slo_attainment")));
    cr_assert(json_is_null(json_object_get(json, "offered_rate")));
    cr_assert(json_is_null(json_object_get(json_object_get(json, "goodput"), "requests_per_s")));
    cr_assert(json_is_null(json_object_get(json_object_get(json, "ttft_ms"), "p99")));
    near(number(json, "ttft_ms", "count"), 0);
    cr_assert(json_is_null(json_object_get(json_object_get(json, "steps"), "predicted_error")));
    near(number(json, "steps", "count"), 0);
    json_decref(json);
    results_free(r);
}

Test(json, text_that_is_no_utf8)
{
    json_t *text = results_text("a\xff"
                                "b");
    cr_assert_str_eq(json_string_value(text), "a?b");
    json_decref(text);
    text = results_text("gr\xc3\xbc\xc3\x9f");
    cr_assert_str_eq(json_string_value(text), "gr\xc3\xbc\xc3\x9f");
    json_decref(text);
    struct results_builder *b = results_begin();
    add(b, make(false, "\xc3", 0, 0, 0, OUTCOME_FAILED, "\x80"));
    struct results *r = results_end(b, 1);
    json_t *json = results_json(r, SLO_MEAN);
    char *dump = json_dumps(json, RESULTS_JSON_FLAGS);
    cr_assert(dump && strstr(dump, "\"reason\": \"?\""));
    free(dump);
    json_decref(json);
    results_free(r);
}

Test(json, numbers_are_short)
{
    struct results *r = ten();
    json_t *json = results_json(r, SLO_MEAN);
    char *dump = json_dumps(json, RESULTS_JSON_FLAGS);
    cr_assert(strstr(dump, "\"max\": 1000.001,") || strstr(dump, "\"max\": 1000.001\n"), "%s",
              dump);
    free(dump);
    json_decref(json);
    results_free(r);
}

static char *printed(const char *const *names, const struct results *const *results, size_t count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    results_print(out, names, results, count, SLO_MEAN);
    fclose(out);
    return text;
}

static void has_line(const char *text, const char *line)
{
    cr_assert(strstr(text, line), "no \"%s\" in:\n%s", line, text);
}

Test(table, two_runs)
{
    struct results *full = ten(), *none = results_end(results_begin(), 0);
    const char *const names[] = {"eager", "off"};
    const struct results *const results[] = {full, none};
    char *text = printed(names, results, 2);
    has_line(text, "                                   eager        off\n");
    has_line(text, "requests                              10          0\n");
    has_line(text, "SLO attainment, by mean          40.00 %          -\n");
    has_line(text, "  class math                     33.33 %          -\n");
    has_line(text, "  all, by envelope               50.00 %          -\n");
    has_line(text, "goodput, requests/s                 1.00          -\n");
    has_line(text, "goodput, tokens/s                   7.00          -\n");
    has_line(text, "TTFT, ms                mean         500          -\n");
    has_line(text, "eager: 2 refused: 503 queue_full\n");
    has_line(text, "eager: 1 failed: stalled\n");
    has_line(text, "Attainment: ");
    has_line(text, "Goodput: ");
    cr_assert_null(strstr(text, "step, ms"));     /* nobody had steps */
    cr_assert_null(strstr(text, "highest rate")); /* or searched */
    free(text);
    results_free(full);
    results_free(none);
}

Test(table, a_searched_rate)
{
    struct results *full = ten();
    full->searched = true;
    full->max_rate = 2.47;
    full->max_rate_low = 2.4;
    full->max_rate_high = 12.25;
    const char *const names[] = {"eager"};
    const struct results *const results[] = {full};
    char *text = printed(names, results, 1);
    has_line(
        text,
        "                                    mean        p50        p90        p99        max\n"
        "TTFT, ms                             500        300       1000       1000       1000\n"
        "  serial requests                    250        200        400        400        400\n");
    has_line(text, "goodput, highest rate/s             2.47\n");
    has_line(text, "  its interval                2.40..12.2\n");
    json_t *json = results_json(full, SLO_MEAN), *goodput = json_object_get(json, "goodput");
    near(number(goodput, "max_rate", NULL), 2.47);
    near(json_number_value(json_array_get(json_object_get(goodput, "max_rate_interval"), 1)),
         12.25);
    json_decref(json);
    free(text);
    results_free(full);
}

/* What a file or a server wrote moves no cursor and begins no line. */
Test(table, text_from_outside)
{
    struct results_builder *b = results_begin();
    add(b, make(false, "evil\n\x1b[2J", 0, 0, 0, OUTCOME_FAILED, "500\r\nHacked\x1b[0m"));
    struct results *r = results_end(b, 1);
    const char *const names[] = {"replay"};
    const struct results *const results[] = {r};
    char *text = printed(names, results, 1);
    cr_assert_null(strchr(text, '\x1b'));
    cr_assert_null(strchr(text, '\r'));
    cr_assert_null(strstr(text, "\nHacked"));
    has_line(text, "class evil??[2J");
    free(text);
    results_free(r);
}
