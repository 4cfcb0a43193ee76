#include "traces/results/rows.h"

#include "base/base.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL 32

struct table {
    const struct results *const *results;
    size_t count; /* of runs */
    enum slo_kind kind;
    void (*row)(void *context, const struct results_row *row);
    void *context;
    const char *const *heads; /* of the table that begins with the next row, or NULL */
    size_t cell_count;        /* of a row of this table */
    char (*text)[CELL];       /* [cell_count] of the row in work */
    const char **cells;       /* [cell_count] text[i] */
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

void results_number_text(char *text, size_t size, double value)
{
    int decimals = value >= 99.95 || value == 0 ? 0 : value >= 9.995 ? 1 : value >= 1 ? 2 : 3;
    snprintf(text, size, "%.*f", decimals, value);
}

void results_rate_text(char *text, size_t size, double value)
{
    snprintf(text, size, value >= 9999.5 ? "%.0f" : "%.4g", value);
}

static void set_number(struct table *t, size_t run, double value, bool defined)
{
    strcpy(t->text[run], "-");
    if (defined) results_number_text(t->text[run], CELL, value);
}

static void set_percent(struct table *t, size_t run, double share, bool defined)
{
    strcpy(t->text[run], "-");
    if (defined) snprintf(t->text[run], CELL, "%.2f %%", 100 * share);
}

static void set_count(struct table *t, size_t run, int64_t count)
{
    snprintf(t->text[run], CELL, "%lld", (long long)count);
}

static void emit(struct table *t, const char *label, const char *statistic, bool part)
{
    struct results_row row = {t->heads, label, statistic, part, t->cells, t->cell_count};
    t->row(t->context, &row);
    t->heads = NULL;
}

static void outcome_row(struct table *t, const char *label, enum outcome outcome)
{
    bool any = outcome == OUTCOME_COMPLETED;
    for (size_t i = 0; i < t->count; i++) {
        any |= t->results[i]->all.outcomes[outcome] > 0;
        set_count(t, i, t->results[i]->all.outcomes[outcome]);
    }
    if (any) emit(t, label, "", true);
}

static void request_rows(struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        set_count(t, i, t->results[i]->all.requests);
    emit(t, "requests", "", false);
    outcome_row(t, "completed", OUTCOME_COMPLETED);
    outcome_row(t, "refused", OUTCOME_REFUSED);
    outcome_row(t, "failed", OUTCOME_FAILED);
    outcome_row(t, "unfinished", OUTCOME_UNFINISHED);
}

static bool any_requests(const struct table *t, group_of *group, const char *name)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct group_results *g = group(t->results[i], name);
        if (g && g->requests) return true;
    }
    return false;
}

static void attainment_row(struct table *t, const char *label, group_of *group, const char *name,
                           enum slo_kind kind, bool part)
{
    if (group != all_of && !any_requests(t, group, name)) return;
    for (size_t i = 0; i < t->count; i++) {
        const struct group_results *g = group(t->results[i], name);
        set_percent(t, i, g ? g->slo[kind].attainment : 0, g && g->requests);
    }
    emit(t, label, "", part);
}

/* Classes of all runs, each once. */
static void class_rows(struct table *t)
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
            strbuf_format(&label, "%s%s", *name ? "class " : "no class", name);
            attainment_row(t, strbuf_cstr(&label), class_of, name, t->kind, true);
        }
    strbuf_free(&label);
}

static void attainment_rows(struct table *t)
{
    char label[64];
    snprintf(label, sizeof label, "SLO attainment, by %s", slo_kind_name(t->kind));
    attainment_row(t, label, all_of, NULL, t->kind, false);
    attainment_row(t, "serial requests", serial_of, NULL, t->kind, true);
    attainment_row(t, "branching requests", branching_of, NULL, t->kind, true);
    class_rows(t);
    for (int k = 0; k < SLO_KINDS; k++) {
        if (k == (int)t->kind) continue;
        snprintf(label, sizeof label, "all, by %s", slo_kind_name((enum slo_kind)k));
        attainment_row(t, label, all_of, NULL, (enum slo_kind)k, true);
    }
}

static void goodput_row(struct table *t, const char *label, group_of *group, bool tokens)
{
    if (group != all_of && !any_requests(t, group, NULL)) return;
    for (size_t i = 0; i < t->count; i++) {
        const struct slo_result *slo = &group(t->results[i], NULL)->slo[t->kind];
        set_number(t, i, tokens ? slo->tokens_per_s : slo->requests_per_s,
                   t->results[i]->scored_s > 0);
    }
    emit(t, label, "", group != all_of);
}

static void searched_rows(struct table *t)
{
    bool any = false;
    for (size_t i = 0; i < t->count; i++) {
        any |= t->results[i]->searched;
        set_number(t, i, t->results[i]->max_rate, t->results[i]->searched);
    }
    if (!any) return;
    emit(t, "goodput, highest rate/s", "", false);
    for (size_t i = 0; i < t->count; i++) {
        char low[CELL / 2 - 2], high[CELL / 2 - 2];
        results_number_text(low, sizeof low, t->results[i]->max_rate_low);
        results_number_text(high, sizeof high, t->results[i]->max_rate_high);
        strcpy(t->text[i], "-");
        if (!t->results[i]->searched || isnan(t->results[i]->max_rate_low)) continue;
        bool open = !isfinite(t->results[i]->max_rate_high);
        snprintf(t->text[i], CELL, open ? "%s or more" : "%s..%s", low, high);
    }
    emit(t, "its interval", "", true);
}

static void goodput_rows(struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        set_number(t, i, t->results[i]->offered_rate, isfinite(t->results[i]->offered_rate));
    emit(t, "offered, requests/s", "", false);
    goodput_row(t, "goodput, requests/s", all_of, false);
    goodput_row(t, "serial requests", serial_of, false);
    goodput_row(t, "branching requests", branching_of, false);
    goodput_row(t, "goodput, tokens/s", all_of, true);
    goodput_row(t, "serial requests", serial_of, true);
    goodput_row(t, "branching requests", branching_of, true);
    searched_rows(t);
}

/* A distribution of a group, or of a run where `group` is NULL, by its place in the struct. */
static const struct distribution *distribution_at(const struct results *results, group_of *group,
                                                  size_t offset)
{
    const char *base = group ? (const char *)group(results, NULL) : (const char *)results;
    return (const struct distribution *)(const void *)(base + offset);
}

#define STATISTICS 5

static const struct {
    size_t field;
    bool always;
} statistics[STATISTICS] = {
    {offsetof(struct distribution, mean), false}, {offsetof(struct distribution, p50), true},
    {offsetof(struct distribution, p90), false},  {offsetof(struct distribution, p99), true},
    {offsetof(struct distribution, max), false},
};

static const char *const statistic_names[STATISTICS] = {"mean", "p50", "p90", "p99", "max"};

static void set_statistic(struct table *t, size_t cell, const struct distribution *d, size_t s)
{
    const char *field = (const char *)d + statistics[s].field;
    set_number(t, cell, *(const double *)(const void *)field, d->count > 0);
}

/* Of one run: a row, its statistics in columns. */
static void distribution_row(struct table *t, const char *label, const struct distribution *d,
                             bool part)
{
    if (t->cell_count != STATISTICS) t->heads = statistic_names;
    t->cell_count = STATISTICS;
    for (size_t s = 0; s < STATISTICS; s++)
        set_statistic(t, s, d, s);
    emit(t, label, "", part);
}

static void distribution_rows(struct table *t, const char *label, group_of *group, size_t offset,
                              bool part)
{
    bool any = false;
    for (size_t i = 0; i < t->count; i++)
        any |= distribution_at(t->results[i], group, offset)->count > 0;
    if (!any) return;
    if (t->count == 1) {
        distribution_row(t, label, distribution_at(t->results[0], group, offset), part);
        return;
    }
    for (size_t s = 0; s < STATISTICS; s++) {
        if (part && !statistics[s].always) continue;
        for (size_t i = 0; i < t->count; i++)
            set_statistic(t, i, distribution_at(t->results[i], group, offset), s);
        emit(t, label, statistic_names[s], part);
        label = "";
    }
}

static void latency_rows(struct table *t, const char *label, size_t offset)
{
    distribution_rows(t, label, all_of, offset, false);
    if (!any_requests(t, serial_of, NULL) || !any_requests(t, branching_of, NULL)) return;
    distribution_rows(t, "serial requests", serial_of, offset, true);
    distribution_rows(t, "branching requests", branching_of, offset, true);
}

static void prediction_row(struct table *t)
{
    bool any = false;
    for (size_t i = 0; i < t->count; i++) {
        const struct step_results *steps = &t->results[i]->steps;
        any |= steps->predictions > 0;
        set_percent(t, i, steps->predicted_error, steps->predictions > 0);
    }
    if (any) emit(t, "step prediction off by", "", false);
}

void results_each_row(const char *const *names, const struct results *const *results, size_t count,
                      enum slo_kind kind, void (*row)(void *context, const struct results_row *row),
                      void *context)
{
    size_t room = count > STATISTICS ? count : STATISTICS;
    struct table t = {.results = results,
                      .count = count,
                      .kind = kind,
                      .row = row,
                      .context = context,
                      .heads = names,
                      .cell_count = count,
                      .text = must_alloc(room * CELL),
                      .cells = must_alloc(room * sizeof *t.cells)};
    for (size_t i = 0; i < room; i++)
        t.cells[i] = t.text[i];
    request_rows(&t);
    attainment_rows(&t);
    goodput_rows(&t);
    prediction_row(&t);
    latency_rows(&t, "TTFT, ms", offsetof(struct group_results, ttft_ms));
    latency_rows(&t, "TPOT, ms", offsetof(struct group_results, tpot_ms));
    latency_rows(&t, "E2E, ms", offsetof(struct group_results, e2e_ms));
    distribution_rows(&t, "ITL, ms", NULL, offsetof(struct results, itl_ms), false);
    distribution_rows(&t, "step, ms", NULL, offsetof(struct results, steps.latency_ms), false);
    distribution_rows(&t, "rows of a step", NULL, offsetof(struct results, steps.width), false);
    free(t.text);
    free(t.cells);
}
