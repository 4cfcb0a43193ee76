/* The table for terminals: a label, then one column a run. */
#include "traces/results/results.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

struct table {
    FILE *out;
    const char *const *names;
    const struct results *const *results;
    size_t count;
    enum slo_kind kind;
    int label_width, width;
};

/* Which group of a run a row is about; NULL: the run has none of that name. */
typedef const struct group_results *group_of(const struct results *results, const char *name);

static const struct group_results *all_of(const struct results *results, const char *name)
{
    (void)name;
    return &results->all;
}

static const struct group_results *serial_of(const struct results *results, const char *name)
{
    (void)name;
    return &results->serial;
}

static const struct group_results *branching_of(const struct results *results, const char *name)
{
    (void)name;
    return &results->branching;
}

static const struct group_results *class_of(const struct results *results, const char *name)
{
    for (size_t i = 0; i < results->class_count; i++)
        if (!strcmp(results->classes[i].name, name)) return &results->classes[i].group;
    return NULL;
}

/* Characters, as far as a terminal shows one per code point. */
static int shown_width(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void pad(FILE *out, int count)
{
    for (; count > 0; count--)
        putc(' ', out);
}

static void print_label(const struct table *t, const char *label)
{
    char text[256];
    snprintf(text, sizeof text, "%s", label);
    make_printable(text);
    fputs(text, t->out);
    pad(t->out, t->label_width - shown_width(text));
}

static void print_cell(const struct table *t, const char *text)
{
    pad(t->out, t->width - shown_width(text));
    fputs(text, t->out);
}

/* Three digits or more that mean something; "-" where nothing is defined. */
static void print_number(const struct table *t, double value, bool defined)
{
    char text[64] = "-";
    int decimals = value >= 100 || value == 0 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
    if (defined) snprintf(text, sizeof text, "%.*f", decimals, value);
    print_cell(t, text);
}

static void print_percent(const struct table *t, double share, bool defined)
{
    char text[64] = "-";
    if (defined) snprintf(text, sizeof text, "%.2f %%", 100 * share);
    print_cell(t, text);
}

/* Rows of counts that are zero in every run say nothing. */
static void count_row(const struct table *t, const char *label, enum outcome outcome, bool always)
{
    bool any = always;
    for (size_t i = 0; i < t->count; i++)
        any |= t->results[i]->all.outcomes[outcome] > 0;
    if (!any) return;
    print_label(t, label);
    for (size_t i = 0; i < t->count; i++) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)t->results[i]->all.outcomes[outcome]);
        print_cell(t, text);
    }
    putc('\n', t->out);
}

static bool any_requests(const struct table *t, group_of *group, const char *name)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct group_results *g = group(t->results[i], name);
        if (g && g->requests) return true;
    }
    return false;
}

static void attainment_row(const struct table *t, const char *label, group_of *group,
                           const char *name, enum slo_kind kind)
{
    if (group != all_of && !any_requests(t, group, name)) return;
    print_label(t, label);
    for (size_t i = 0; i < t->count; i++) {
        const struct group_results *g = group(t->results[i], name);
        print_percent(t, g ? g->slo[kind].attainment : 0, g && g->requests);
    }
    putc('\n', t->out);
}

static void class_rows(const struct table *t)
{
    struct strbuf label = {0};
    for (size_t run = 0; run < t->count; run++)
        for (size_t c = 0; c < t->results[run]->class_count; c++) {
            const char *name = t->results[run]->classes[c].name;
            bool shown = false;
            for (size_t before = 0; before < run; before++)
                shown |= class_of(t->results[before], name) != NULL;
            if (shown) continue;
            strbuf_clear(&label);
            strbuf_format(&label, "  %s %s", *name ? "class" : "no class", name);
            attainment_row(t, strbuf_cstr(&label), class_of, name, t->kind);
        }
    strbuf_free(&label);
}

static void attainment_rows(const struct table *t)
{
    char label[64];
    snprintf(label, sizeof label, "SLO attainment, by %s", slo_kind_name(t->kind));
    attainment_row(t, label, all_of, NULL, t->kind);
    attainment_row(t, "  serial requests", serial_of, NULL, t->kind);
    attainment_row(t, "  branching requests", branching_of, NULL, t->kind);
    class_rows(t);
    for (int k = 0; k < SLO_KINDS; k++) {
        if (k == (int)t->kind) continue;
        snprintf(label, sizeof label, "  by %s", slo_kind_name((enum slo_kind)k));
        attainment_row(t, label, all_of, NULL, (enum slo_kind)k);
    }
}

static void goodput_row(const struct table *t, const char *label, group_of *group, bool tokens)
{
    if (group != all_of && !any_requests(t, group, NULL)) return;
    print_label(t, label);
    for (size_t i = 0; i < t->count; i++) {
        const struct slo_result *slo = &group(t->results[i], NULL)->slo[t->kind];
        print_number(t, tokens ? slo->tokens_per_s : slo->requests_per_s,
                     t->results[i]->scored_s > 0);
    }
    putc('\n', t->out);
}

static void goodput_rows(const struct table *t)
{
    print_label(t, "offered, requests/s");
    for (size_t i = 0; i < t->count; i++)
        print_number(t, t->results[i]->offered_rate, t->results[i]->scored_s > 0);
    putc('\n', t->out);
    goodput_row(t, "goodput, requests/s", all_of, false);
    goodput_row(t, "  serial requests", serial_of, false);
    goodput_row(t, "  branching requests", branching_of, false);
    goodput_row(t, "goodput, tokens/s", all_of, true);
    goodput_row(t, "  serial requests", serial_of, true);
    goodput_row(t, "  branching requests", branching_of, true);
}

/* A distribution of a group, or of a run where `group` is NULL, by its place in the struct. */
static const struct distribution *distribution_at(const struct results *results, group_of *group,
                                                  size_t offset)
{
    const char *base = group ? (const char *)group(results, NULL) : (const char *)results;
    return (const struct distribution *)(const void *)(base + offset);
}

static void distribution_row(const struct table *t, const char *name, const char *statistic,
                             group_of *group, size_t offset, size_t field)
{
    char label[64];
    snprintf(label, sizeof label, "%-24s%s", name, statistic);
    print_label(t, label);
    for (size_t i = 0; i < t->count; i++) {
        const struct distribution *d = distribution_at(t->results[i], group, offset);
        print_number(t, *(const double *)(const void *)((const char *)d + field), d->count > 0);
    }
    putc('\n', t->out);
}

static void distribution_rows(const struct table *t, const char *name, group_of *group,
                              size_t offset, bool all)
{
    bool any = false;
    for (size_t i = 0; i < t->count; i++)
        any |= distribution_at(t->results[i], group, offset)->count > 0;
    if (!any) return;
    static const struct {
        const char *name;
        size_t field;
        bool always;
    } statistics[] = {
        {"mean", offsetof(struct distribution, mean), false},
        {"p50", offsetof(struct distribution, p50), true},
        {"p90", offsetof(struct distribution, p90), false},
        {"p99", offsetof(struct distribution, p99), true},
        {"max", offsetof(struct distribution, max), false},
    };
    for (size_t s = 0; s < COUNT_OF(statistics); s++) {
        if (!all && !statistics[s].always) continue;
        distribution_row(t, name, statistics[s].name, group, offset, statistics[s].field);
        name = "";
    }
}

static void latency_rows(const struct table *t, const char *name, size_t offset)
{
    distribution_rows(t, name, all_of, offset, true);
    if (!any_requests(t, serial_of, NULL) || !any_requests(t, branching_of, NULL)) return;
    distribution_rows(t, "  serial requests", serial_of, offset, false);
    distribution_rows(t, "  branching requests", branching_of, offset, false);
}

static void step_rows(const struct table *t)
{
    distribution_rows(t, "step, ms", NULL, offsetof(struct results, steps.latency_ms), true);
    distribution_rows(t, "width, rows of a step", NULL, offsetof(struct results, steps.width),
                      true);
    bool any = false;
    for (size_t i = 0; i < t->count; i++)
        any |= t->results[i]->steps.predictions > 0;
    if (!any) return;
    print_label(t, "step prediction off by");
    for (size_t i = 0; i < t->count; i++)
        print_percent(t, t->results[i]->steps.predicted_error,
                      t->results[i]->steps.predictions > 0);
    putc('\n', t->out);
}

static void reason_lines(const struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        for (size_t r = 0; r < t->results[i]->reason_count; r++) {
            const struct reason_count *reason = &t->results[i]->reasons[r];
            char text[256], name[128] = "";
            snprintf(text, sizeof text, "%s", *reason->reason ? reason->reason : "no reason given");
            if (t->count > 1) snprintf(name, sizeof name, "%s: ", t->names[i]);
            make_printable(text);
            make_printable(name);
            fprintf(t->out, "%s%lld %s: %s\n", name, (long long)reason->count,
                    reason->outcome == OUTCOME_REFUSED ? "refused" : "failed", text);
        }
}

static void print_header(struct table *t)
{
    t->label_width = 30;
    t->width = 11;
    for (size_t i = 0; i < t->count; i++)
        if (shown_width(t->names[i]) + 2 > t->width) t->width = shown_width(t->names[i]) + 2;
    pad(t->out, t->label_width);
    for (size_t i = 0; i < t->count; i++)
        print_cell(t, t->names[i]);
    fputs("\n", t->out);
}

static void print_requests(const struct table *t)
{
    print_label(t, "requests");
    for (size_t i = 0; i < t->count; i++) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)t->results[i]->all.requests);
        print_cell(t, text);
    }
    putc('\n', t->out);
    count_row(t, "  completed", OUTCOME_COMPLETED, true);
    count_row(t, "  refused", OUTCOME_REFUSED, false);
    count_row(t, "  failed", OUTCOME_FAILED, false);
    count_row(t, "  unfinished", OUTCOME_UNFINISHED, false);
}

void results_print(FILE *out, const char *const *names, const struct results *const *results,
                   size_t count, enum slo_kind kind)
{
    struct table t = {.out = out, .names = names, .results = results, .count = count, .kind = kind};
    print_header(&t);
    print_requests(&t);
    attainment_rows(&t);
    goodput_rows(&t);
    latency_rows(&t, "TTFT, ms", offsetof(struct group_results, ttft_ms));
    latency_rows(&t, "TPOT, ms", offsetof(struct group_results, tpot_ms));
    latency_rows(&t, "E2E, ms", offsetof(struct group_results, e2e_ms));
    distribution_rows(&t, "ITL, ms", NULL, offsetof(struct results, itl_ms), true);
    step_rows(&t);
    reason_lines(&t);
    fprintf(out, "%s SLO by %s: %s\n%s\n", results_attainment_words, slo_kind_name(kind),
            results_slo_words(kind), results_goodput_words);
}
