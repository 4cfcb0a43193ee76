/* The table for terminals: a label, then one column a run. */
#include "traces/results/rows.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

#define LABEL_WIDTH     24
#define STATISTIC_WIDTH 5
#define LINE_WIDTH      100

struct table {
    FILE *out;
    int width; /* of a column */
    bool begun;
};

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

static void print_left(FILE *out, const char *text, int width)
{
    fputs(text, out);
    pad(out, width - shown_width(text));
}

static void print_right(FILE *out, const char *text, int width)
{
    pad(out, width - shown_width(text));
    fputs(text, out);
}

/* A copy that stays on its line; caller frees. */
static char *printable(const char *text)
{
    char *copy = must_strdup(text);
    make_printable(copy);
    return copy;
}

static void print_heads(struct table *t, const struct results_row *row)
{
    t->width = 11;
    for (size_t i = 0; i < row->cell_count; i++)
        t->width = max_i32(t->width, shown_width(row->heads[i]) + 2);
    if (t->begun) putc('\n', t->out);
    t->begun = true;
    pad(t->out, LABEL_WIDTH + STATISTIC_WIDTH);
    for (size_t i = 0; i < row->cell_count; i++) {
        char *head = printable(row->heads[i]);
        print_right(t->out, head, t->width);
        free(head);
    }
    putc('\n', t->out);
}

static void print_row(void *context, const struct results_row *row)
{
    struct table *t = context;
    char *label = printable(row->label);
    bool part = row->part && *label;
    int width = LABEL_WIDTH + (*row->statistic ? 0 : STATISTIC_WIDTH);
    if (row->heads) print_heads(t, row);
    if (part) fputs("  ", t->out);
    print_left(t->out, label, part ? width - 2 : width);
    if (*row->statistic) print_left(t->out, row->statistic, STATISTIC_WIDTH);
    for (size_t i = 0; i < row->cell_count; i++)
        print_right(t->out, row->cells[i], t->width);
    putc('\n', t->out);
    free(label);
}

static void print_reasons(FILE *out, const char *name, const struct results *results)
{
    char *run = printable(name);
    for (size_t i = 0; i < results->reason_count; i++) {
        const struct reason_count *reason = &results->reasons[i];
        char *text = printable(*reason->reason ? reason->reason : "no reason given");
        fprintf(out, "%s%s%lld %s: %s\n", run, *run ? ": " : "", (long long)reason->count,
                reason->outcome == OUTCOME_REFUSED ? "refused" : "failed", text);
        free(text);
    }
    free(run);
}

/* Lines of at most LINE_WIDTH, broken at spaces. */
static void print_wrapped(FILE *out, const char *text)
{
    while (strlen(text) > LINE_WIDTH) {
        int end = LINE_WIDTH;
        while (end > 0 && text[end] != ' ')
            end--;
        if (end == 0) break;
        fprintf(out, "%.*s\n", end, text);
        text += end + 1;
    }
    fprintf(out, "%s\n", text);
}

static void print_definitions(FILE *out, enum slo_kind kind)
{
    struct strbuf text = {0};
    strbuf_format(&text, "Attainment: %s", results_attainment_words);
    print_wrapped(out, strbuf_cstr(&text));
    strbuf_clear(&text);
    strbuf_format(&text, "SLO by %s: %s", slo_kind_name(kind), results_slo_words(kind));
    print_wrapped(out, strbuf_cstr(&text));
    strbuf_clear(&text);
    strbuf_format(&text, "Goodput: %s", results_goodput_words);
    print_wrapped(out, strbuf_cstr(&text));
    strbuf_free(&text);
}

void results_print(FILE *out, const char *const *names, const struct results *const *results,
                   size_t count, enum slo_kind kind)
{
    struct table t = {.out = out};
    results_each_row(names, results, count, kind, print_row, &t);
    for (size_t i = 0; i < count; i++)
        print_reasons(out, count > 1 ? names[i] : "", results[i]);
    putc('\n', out);
    print_definitions(out, kind);
}
