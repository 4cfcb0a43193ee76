#include "server/slo_options.h"
#include "server/request_slo.h"

#include <string.h>

#define AUTO_TTFT_US       2000000
#define AUTO_TPOT_US       50000 /* at least, and ... */
#define AUTO_TPOT_STEPS    3     /* ... so many steps of a single row */
#define MOST_SINGLE_ROW_US (INT64_MAX / AUTO_TPOT_STEPS)

struct slo_options slo_options_default(void)
{
    return (struct slo_options){"auto", "auto", SLO_AUTO, SLO_AUTO};
}

size_t slo_options_table(struct slo_options *o, struct option_spec *table)
{
    const struct option_spec rows[SLO_OPTION_COUNT] = {
        {"slo-ttft", OPT_STRING, &o->ttft_word, "auto|none|TIME",
         "time until the first token, of requests that name none (default auto: 2s)", 0, 0},
        {"slo-tpot", OPT_STRING, &o->tpot_word, "auto|none|TIME",
         "time for each token after it (default auto: 50ms, or three steps of a\n"
         "single row when that is more)",
         0, 0},
    };
    memcpy(table, rows, sizeof rows);
    return SLO_OPTION_COUNT;
}

static enum status parse_word(const char *name, const char *word, int64_t *us, struct error *err)
{
    if (strcmp(word, "auto") == 0) {
        *us = SLO_AUTO;
    } else if (strcmp(word, "none") == 0) {
        *us = 0;
    } else {
        struct error unused = {0};
        if (parse_time(word, us, &unused) || *us < SLO_LEAST_US || *us > SLO_MOST_US)
            return fail(err, ST_USAGE,
                        "--%s: found '%.40s', allowed are auto, none, or a time from 1us to "
                        "1000000s such as 50ms or 2s",
                        name, word);
    }
    return ST_OK;
}

enum status slo_options_parse(struct slo_options *o, struct error *err)
{
    enum status status = parse_word("slo-ttft", o->ttft_word, &o->ttft_us, err);
    return status ? status : parse_word("slo-tpot", o->tpot_word, &o->tpot_us, err);
}

struct request_slo slo_options_settle(const struct slo_options *o, int64_t single_row_us)
{
    struct request_slo slo = {o->ttft_us, o->tpot_us};
    if (slo.ttft_us == SLO_AUTO) slo.ttft_us = AUTO_TTFT_US;
    if (slo.tpot_us == SLO_AUTO) {
        slo.tpot_us = AUTO_TPOT_US;
        if (single_row_us > MOST_SINGLE_ROW_US) single_row_us = MOST_SINGLE_ROW_US;
        if (single_row_us > AUTO_TPOT_US / AUTO_TPOT_STEPS)
            slo.tpot_us = AUTO_TPOT_STEPS * single_row_us;
    }
    return slo;
}

/* --- words */

static void target_words(struct strbuf *out, const char *name, int64_t us)
{
    if (us)
        strbuf_format(out, "%s %.10g ms", name, (double)us / 1e3);
    else
        strbuf_format(out, "no %s", name);
}

void slo_options_words(const struct slo_options *o, int64_t single_row_us, struct strbuf *out)
{
    struct request_slo slo = slo_options_settle(o, single_row_us);
    strbuf_text(out, "SLO of requests that name none: ");
    target_words(out, "TTFT", slo.ttft_us);
    if (o->ttft_us == SLO_AUTO) strbuf_text(out, " (auto)");
    strbuf_text(out, ", ");
    target_words(out, "TPOT", slo.tpot_us);
    if (o->tpot_us != SLO_AUTO) return;
    if (single_row_us)
        strbuf_format(out, " (auto; a step of one row takes %.10g ms)",
                      (double)single_row_us / 1e3);
    else
        strbuf_text(out, " (auto)");
}

/* A first token takes a step too, and one of a prompt is no shorter. */
bool slo_options_warning(const struct slo_options *o, int64_t single_row_us, struct strbuf *out)
{
    struct request_slo slo = slo_options_settle(o, single_row_us);
    bool late = slo.ttft_us && single_row_us > slo.ttft_us;
    bool slow = slo.tpot_us && single_row_us > slo.tpot_us;
    if (!late && !slow) return false;
    const char *which = !slow ? "--slo-ttft" : late ? "--slo-ttft and --slo-tpot" : "--slo-tpot";
    strbuf_format(
        out,
        "no request can keep to %s here: a step of a single row takes %.10g ms; give more, "
        "or auto",
        which, (double)single_row_us / 1e3);
    return true;
}
