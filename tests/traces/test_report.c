/* The page of --report: well-formed throughout, nothing from elsewhere, nothing unescaped, whatever
 * it is given. */
#include "traces/results/report.h"

#include "base/base.h"
#include "traces/results/html.h"
#include "traces/results/scale.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A reader of XML, as strict as XML is about tags, attributes and references, with <!DOCTYPE> and
 * <meta> as HTML has them. */
struct reader {
    const char *at;
    char open[32][32]; /* elements */
    int depth, elements, drawings;
};

static void read_reference(struct reader *r)
{
    cr_assert(r->at[1] == '#' && isdigit((unsigned char)r->at[2]), "a bare &: %.40s", r->at);
    for (r->at += 2; isdigit((unsigned char)*r->at);)
        r->at++;
    cr_assert_eq(*r->at++, ';');
}

static void read_name(struct reader *r, char *name, size_t size)
{
    size_t length = 0;
    while (isalnum((unsigned char)*r->at) || *r->at == '-' || *r->at == ':') {
        cr_assert(length + 1 < size);
        name[length++] = *r->at++;
    }
    name[length] = 0;
    cr_assert(length > 0, "no name at: %.40s", r->at);
}

/* No attribute loads anything, and none runs anything; numbers are numbers. */
static void check_attribute(const char *name, const char *value, size_t length)
{
    static const char *const known[] = {"lang", "charset",    "name",       "content", "class",
                                        "role", "scope",      "viewBox",    "d",       "x",
                                        "y",    "aria-label", "aria-hidden"};
    bool found = false;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        found |= !strcmp(name, known[i]);
    cr_assert(found, "attribute %s", name);
    if (strcmp(name, "d") && strcmp(name, "x") && strcmp(name, "y")) return;
    cr_assert(length > 0, "empty %s", name);
    for (size_t i = 0; i < length; i++)
        cr_assert(strchr("MLHVAZmlhvaz0123456789.- ", value[i]), "%s=%.*s", name,
                  (int)(length < 200 ? length : 200), value);
}

static void read_attribute(struct reader *r)
{
    char name[32];
    read_name(r, name, sizeof name);
    cr_assert(r->at[0] == '=' && r->at[1] == '"', "attribute %s: %.40s", name, r->at);
    const char *value = r->at += 2;
    while (*r->at != '"') {
        cr_assert(*r->at && *r->at != '<', "in attribute %s", name);
        if (*r->at == '&')
            read_reference(r);
        else
            r->at++;
    }
    check_attribute(name, value, (size_t)(r->at - value));
    r->at++;
}

static void read_tag(struct reader *r)
{
    char name[32];
    r->at++;
    if (*r->at == '/') {
        r->at++;
        read_name(r, name, sizeof name);
        cr_assert(r->depth > 0 && !strcmp(r->open[r->depth - 1], name), "</%s> in <%s>", name,
                  r->depth ? r->open[r->depth - 1] : "");
        r->depth--;
        cr_assert_eq(*r->at++, '>');
        return;
    }
    read_name(r, name, sizeof name);
    r->elements++;
    r->drawings += !strcmp(name, "svg");
    static const char *const forbidden[] = {"script", "link", "img", "iframe", "a", "use", "image"};
    for (size_t i = 0; i < COUNT_OF(forbidden); i++)
        cr_assert_str_neq(name, forbidden[i]);
    while (*r->at == ' ') {
        r->at++;
        read_attribute(r);
    }
    bool closed = *r->at == '/' || !strcmp(name, "meta");
    if (*r->at == '/') r->at++;
    cr_assert_eq(*r->at++, '>', "after <%s: %.40s", name, r->at - 1);
    if (closed) return;
    cr_assert(r->depth < 32);
    strcpy(r->open[r->depth++], name);
}

static struct reader read_page(const char *page)
{
    static const char doctype[] = "<!DOCTYPE html>\n";
    cr_assert(!strncmp(page, doctype, strlen(doctype)));
    struct reader r = {.at = page + strlen(doctype)};
    while (*r.at) {
        if (*r.at == '<')
            read_tag(&r);
        else if (*r.at == '&')
            read_reference(&r);
        else {
            cr_assert((unsigned char)*r.at >= 0x20 || *r.at == '\n', "control character");
            cr_assert(*r.at == '\n' || r.depth > 0, "text outside: %.40s", r.at);
            r.at++;
        }
    }
    cr_assert_eq(r.depth, 0, "<%s> is open", r.depth ? r.open[r.depth - 1] : "");
    return r;
}

/* The page, read. Caller frees. */
static char *page_of(const struct report *report, struct reader *reader)
{
    char *page = report_html(report);
    *reader = read_page(page);
    static const char *const elsewhere[] = {"@import", "url(", "://www", "javascript:"};
    for (size_t i = 0; i < COUNT_OF(elsewhere); i++)
        cr_assert_null(strstr(page, elsewhere[i]), "%s", elsewhere[i]);
    return page;
}

static struct results *some_results(int requests, const char *class_name, const char *reason)
{
    struct results_builder *b = results_begin();
    for (int i = 0; i < requests; i++) {
        struct request_record record = {
            .branching = i % 2, .class_name = class_name, .slo = {1000000, 50000}};
        record_start(&record, 0, 0);
        for (int t = 0; t < 5; t++)
            record_token(&record, 100000 + i * 1000 + t * 20000, 0, i % 2);
        record_end(&record, i % 5 == 4 ? OUTCOME_FAILED : OUTCOME_COMPLETED,
                   i % 5 == 4 ? reason : NULL);
        results_add(b, &record);
        results_add_gap(b, 20000);
        results_add_step(b, 20000 + i, 1 + i, 21000);
    }
    return results_end(b, 10);
}

Test(report, nothing_at_all)
{
    struct report report = {.command = "espalier replay"};
    struct reader r;
    char *page = page_of(&report, &r);
    cr_assert(strstr(page, "<h1>Espalier replay</h1>"));
    cr_assert(strstr(page, "espalier " ESPALIER_VERSION));
    cr_assert_null(strstr(page, "Simulated"));
    cr_assert_eq(r.drawings, 0);
    free(page);
}

Test(report, runs_without_anything)
{
    struct results *none = results_end(results_begin(), 0);
    struct series *empty = series_create();
    for (size_t count = 1; count <= 3; count++) {
        struct report_run runs[3] = {
            {.name = "no results"},
            {.name = "none", .results = none},
            {.name = "empty series", .results = none, .width = empty, .tokens = empty}};
        struct report report = {
            .runs = runs, .run_count = count, .target = 0.95, .simulated = true};
        struct reader r;
        char *page = page_of(&report, &r);
        cr_assert(strstr(page, "Simulated."));
        cr_assert(count == 1 || strstr(page, "None: no request was refused, none failed."));
        free(page);
    }
    free(empty);
    results_free(none);
}

/* One request, one point, one step: every chart has a single value. */
Test(report, one_of_everything)
{
    struct results *one = some_results(1, "", NULL);
    struct series *series = series_create();
    series_add(series, 5, 3);
    struct report_point point = {1.5, 1, 1.5, 600};
    struct report_run run = {.name = "eager",
                             .results = one,
                             .note = "at 1.5 requests/s",
                             .points = &point,
                             .point_count = 1,
                             .width = series,
                             .step_ms = series,
                             .tokens = series,
                             .attainment = series};
    struct report report = {
        .runs = &run, .run_count = 1, .target = 0.95, .kind = SLO_GAPS, .slo = {1000000, 50000}};
    struct reader r;
    char *page = page_of(&report, &r);
    cr_assert_eq(r.drawings, 3 + 3 + 4); /* over rate; TTFT, TPOT, E2E of serial ones; over time */
    cr_assert(strstr(page, "by gaps"));
    cr_assert(strstr(page, "What follows: at 1.5 requests/s"));
    cr_assert(strstr(page, "SLO 50 ms"));
    cr_assert(strstr(page, "SLO 1 s"));
    cr_assert(strstr(page, "target 95 %"));
    free(page);
    free(series);
    results_free(one);
}

/* A closed loop has clients where an open one has a rate; what was searched is no number of them.
 */
Test(report, closed_loop)
{
    struct results *results = some_results(10, "", "stalled");
    results->searched = true;
    results->max_rate = 1.25;
    results->max_rate_low = 1.125;
    results->max_rate_high = 1.5;
    struct report_point points[] = {{8, 1, 0.9, 300}, {32, 0.9, 1.2, 500}};
    struct report_run run = {
        .name = "eager", .results = results, .points = points, .point_count = 2};
    struct report report = {.runs = &run, .run_count = 1, .target = 0.95};
    for (int closed = 0; closed < 2; closed++) {
        struct reader r;
        report.closed_loop = closed;
        char *page = page_of(&report, &r);
        cr_assert(strstr(page, closed ? ">clients</text>" : ">offered requests/s</text>"));
        cr_assert_eq(strstr(page, "class=\"whisker") == NULL, closed);
        cr_assert_eq(strstr(page, "eager: highest rate 1.250/s (1.125 to 1.500)") == NULL, closed);
        free(page);
    }
    results_free(results);
}

/* Ten thousand points a line are drawn as what can be seen of them. */
Test(report, ten_thousand_points)
{
    enum { N = 10000 };
    static struct report_point points[N];
    struct series *series = series_create();
    for (int i = 0; i < N; i++) {
        points[i] = (struct report_point){0.001 * ((i * 7919) % N), 0.5 + 0.5 * sin(i), i, i};
        series_add(series, (int64_t)i * 30000, i % 50);
        series_hold(series, (int64_t)i * 30000, i % 70);
    }
    struct report_run runs[] = {{.name = "a", .points = points, .point_count = N, .width = series},
                                {.name = "b", .points = points, .point_count = N}};
    struct report report = {.runs = runs, .run_count = 2, .target = 0.9};
    struct reader r;
    char *page = page_of(&report, &r);
    cr_assert(strlen(page) < 400000, "%zu bytes", strlen(page));
    free(page);
    free(series);
}

/* Colours are used again with dashes. */
Test(report, many_runs)
{
    enum { N = 20 };
    struct results *results = some_results(20, "chat", "stalled");
    struct report_run runs[N];
    char names[N][16];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "cap:%d", i);
        runs[i] = (struct report_run){.name = names[i], .results = results};
    }
    struct report report = {.runs = runs, .run_count = N, .simulated = true};
    struct reader r;
    char *page = page_of(&report, &r);
    cr_assert(strstr(page, "class=\"line s3 d2\""));
    free(page);
    results_free(results);
}

Test(report, everything_is_escaped)
{
    static const char evil[] =
        "</td></svg></title><script>alert('1')</script>\"&\x01\xff\xe2\x80\xae";
    struct results *results = some_results(10, evil, evil);
    results->searched = true;
    results->max_rate = 1;
    struct series *series = series_create();
    series_add(series, 5, 3);
    struct report_point point = {1.5, 1, 1.5, 600};
    struct report_fact fact = {evil, evil};
    struct report_run run = {.name = evil,
                             .results = results,
                             .note = evil,
                             .points = &point,
                             .point_count = 1,
                             .width = series};
    struct report_run runs[] = {run, run};
    struct report report = {.title = evil,
                            .command = evil,
                            .when = evil,
                            .notice = evil,
                            .facts = &fact,
                            .fact_count = 1,
                            .runs = runs,
                            .simulated = true,
                            .target = 0.9};
    for (size_t count = 1; count <= 2; count++) {
        struct reader r;
        report.run_count = count;
        char *page = page_of(&report, &r); /* <script> is refused by the reader */
        cr_assert_null(strstr(page, "alert('"));
        cr_assert_null(strchr(page, '\xff'));
        cr_assert_null(strstr(page, "\xe2\x80\xae")); /* right-to-left override */
        cr_assert(strstr(page, "&#60;script&#62;alert(&#39;1&#39;)"));
        free(page);
    }
    free(series);
    results_free(results);
}

Test(report, text)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x8c\xb3\n",
         "plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x8c\xb3\n"},
        {"<&>\"'", "&#60;&#38;&#62;&#34;&#39;"},
        {"\xc3", "\xef\xbf\xbd"},                                 /* cut off */
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"\x1b[0m\r", "\xef\xbf\xbd[0m\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct strbuf out = {0};
        html_text(&out, cases[i].from);
        cr_assert_str_eq(strbuf_cstr(&out), cases[i].to);
        strbuf_free(&out);
    }
}

Test(report, command_line)
{
    char *const argv[] = {"simulate", "--trace", "my trace.jsonl", "--policy", "off,cap:4",
                          "it's",     "",        "$HOME"};
    char *line = report_command_line(COUNT_OF(argv), argv);
    cr_assert_str_eq(line, "espalier simulate --trace 'my trace.jsonl' --policy off,cap:4 "
                           "'it'\\''s' '' '$HOME'");
    free(line);
}

Test(report, files)
{
    char path[] = "/tmp/espalier_report_XXXXXX";
    struct error err = {0};
    struct report report = {.command = "espalier replay"};
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    unlink(path);
    cr_assert_eq(report_check(path, &err), ST_OK);
    cr_assert(access(path, F_OK), "a check leaves no file");
    cr_assert_eq(report_write(&report, path, &err), ST_OK);
    struct stat file;
    cr_assert(!stat(path, &file) && file.st_size > 1000);
    unlink(path);
    cr_assert_eq(report_check("/nonexistent/r.html", &err), ST_IO);
    cr_assert_str_eq(err.text, "--report /nonexistent/r.html: No such file or directory");
    if (!access("/dev/full", W_OK)) {
        cr_assert_eq(report_write(&report, "/dev/full", &err), ST_IO);
        cr_assert_str_eq(err.text, "--report /dev/full: No space left on device");
    }
}

static void ticks_are(struct scale scale, int most, const char *expected)
{
    struct tick ticks[SCALE_TICKS];
    char text[512] = "";
    size_t count = scale_ticks(&scale, most, ticks);
    for (size_t i = 0; i < count; i++)
        if (ticks[i].labelled) {
            strcat(text, *text ? "|" : "");
            strcat(text, ticks[i].text);
        }
    cr_assert_str_eq(text, expected);
}

Test(scale, ticks)
{
    ticks_are((struct scale){UNIT_NUMBER, false, 0, 3, 0, 0}, 5, "0|1|2|3");
    ticks_are((struct scale){UNIT_NUMBER, false, 0.4, 3.3, 0, 0}, 6, "0.5|1.0|1.5|2.0|2.5|3.0");
    ticks_are((struct scale){UNIT_NUMBER, false, 0, 50000, 0, 0}, 5, "0|10k|20k|30k|40k|50k");
    ticks_are((struct scale){UNIT_NUMBER, false, 0, 1, 0, 0}, 4, "0.00|0.25|0.50|0.75|1.00");
    ticks_are((struct scale){UNIT_PERCENT, false, 0.8, 1, 0, 0}, 5, "80 %|85 %|90 %|95 %|100 %");
    ticks_are((struct scale){UNIT_MS, true, 10, 5000, 0, 0}, 6,
              "10 ms|50 ms|100 ms|500 ms|1 s|5 s");
    ticks_are((struct scale){UNIT_MS, true, 10, 50, 0, 0}, 6, "10 ms|20 ms|30 ms|40 ms|50 ms");
    ticks_are((struct scale){UNIT_MS, true, 0.01, 100, 0, 0}, 6,
              "0.01 ms|0.1 ms|1 ms|10 ms|100 ms");
}

Test(scale, fits_anything)
{
    static const double ends[][2] = {{0, 0},     {5, 5},      {-3, -3},      {INFINITY, -INFINITY},
                                     {0, 1e-12}, {1e9, 1e9},  {0, 1e12},     {-1, 1},
                                     {0.1, 0.3}, {1e-9, 1e9}, {7, 7.0000001}};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        for (int kind = 0; kind < 4; kind++) {
            struct scale scale = {UNIT_NUMBER, kind & 1, ends[i][0], ends[i][1], 10, 110};
            struct tick ticks[SCALE_TICKS];
            scale_fit(&scale, kind & 2);
            cr_assert(scale.low < scale.high && isfinite(scale.low) && isfinite(scale.high));
            cr_assert(!(kind & 1) || scale.low > 0);
            size_t count = scale_ticks(&scale, 5, ticks);
            cr_assert(count >= 1 && count <= SCALE_TICKS, "%zu ticks: %g .. %g", count, scale.low,
                      scale.high);
            for (size_t t = 0; t < count; t++) {
                double at = scale_pixel(&scale, ticks[t].value);
                cr_assert(at >= 10 && at <= 110);
            }
        }
}
