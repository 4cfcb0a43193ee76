/* --slo-ttft and --slo-tpot: words, limits and what is said about them. */
#include "server/slo_options.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct slo_options parsed(const char *ttft, const char *tpot)
{
    struct slo_options options = {.ttft_word = ttft, .tpot_word = tpot};
    struct error err = {0};
    cr_assert_eq(slo_options_parse(&options, &err), ST_OK, "%s", err.text);
    return options;
}

static void expect_slo(const char *ttft, const char *tpot, int64_t single_row_us, int64_t ttft_us,
                       int64_t tpot_us)
{
    struct slo_options options = parsed(ttft, tpot);
    struct request_slo slo = slo_options_settle(&options, single_row_us);
    cr_expect_eq(slo.ttft_us, ttft_us, "%s: %lld", ttft, (long long)slo.ttft_us);
    cr_expect_eq(slo.tpot_us, tpot_us, "%s at %lld: %lld", tpot, (long long)single_row_us,
                 (long long)slo.tpot_us);
}

static void expect_words(const char *ttft, const char *tpot, int64_t single_row_us,
                         const char *words, const char *warning)
{
    struct slo_options options = parsed(ttft, tpot);
    struct strbuf said = {0}, warned = {0};
    slo_options_words(&options, single_row_us, &said);
    cr_expect_str_eq(strbuf_cstr(&said), words);
    cr_expect_eq(slo_options_warning(&options, single_row_us, &warned), warning != NULL);
    cr_expect_str_eq(strbuf_cstr(&warned), warning ? warning : "");
    strbuf_free(&said);
    strbuf_free(&warned);
}

Test(slo_options, limits)
{
    struct slo_options options = slo_options_default();
    struct request_slo slo = slo_options_settle(&options, 0);
    cr_assert(slo.ttft_us == 2000000 && slo.tpot_us == 50000);
    expect_slo("auto", "auto", 0, 2000000, 50000);
    expect_slo("none", "none", 90000, 0, 0);
    expect_slo("250ms", "30ms", 90000, 250000, 30000);
    expect_slo("1us", "1000000s", 0, 1, INT64_C(1000000000000));
    /* three steps of a single row, where they are more */
    expect_slo("auto", "auto", 1000, 2000000, 50000);
    expect_slo("auto", "auto", 16666, 2000000, 50000);
    expect_slo("auto", "auto", 16667, 2000000, 50001);
    expect_slo("auto", "auto", 90000, 2000000, 270000);
    expect_slo("auto", "auto", INT64_MAX, 2000000, INT64_MAX / 3 * 3);
}

Test(slo_options, words_that_are_no_limit)
{
    static const char *const wrong[] = {"",   "Auto",  "50",    "-1ms",     "0",  "0ms",
                                        "5x", "none ", "auto,", "1000001s", "nan"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        for (int tpot = 0; tpot < 2; tpot++) {
            struct slo_options options = slo_options_default();
            struct error err = {0};
            *(tpot ? &options.tpot_word : &options.ttft_word) = wrong[i];
            cr_expect_eq(slo_options_parse(&options, &err), ST_USAGE, "'%s'", wrong[i]);
            cr_expect(strstr(err.text, tpot ? "--slo-tpot: found '" : "--slo-ttft: found '"), "%s",
                      err.text);
            cr_expect(strstr(err.text, wrong[i]) && strstr(err.text, "auto, none, or a time"), "%s",
                      err.text);
        }
}

Test(slo_options, what_is_said)
{
    expect_words("auto", "auto", 0,
                 "SLO of requests that name none: TTFT 2000 ms (auto), TPOT 50 ms (auto)", NULL);
    expect_words("auto", "auto", 61230,
                 "SLO of requests that name none: TTFT 2000 ms (auto), TPOT 183.69 ms (auto; a "
                 "step of one row takes 61.23 ms)",
                 NULL);
    expect_words("none", "none", 61230, "SLO of requests that name none: no TTFT, no TPOT", NULL);
    expect_words("1s", "12500us", 0, "SLO of requests that name none: TTFT 1000 ms, TPOT 12.5 ms",
                 NULL);
}

Test(slo_options, a_limit_that_a_single_row_cannot_meet)
{
    expect_words("1s", "50ms", 50000, "SLO of requests that name none: TTFT 1000 ms, TPOT 50 ms",
                 NULL);
    expect_words(
        "1s", "50ms", 50001, "SLO of requests that name none: TTFT 1000 ms, TPOT 50 ms",
        "no request can keep to --slo-tpot here: a step of a single row takes 50.001 ms; give "
        "more, or auto");
    expect_words("40ms", "none", 61230, "SLO of requests that name none: TTFT 40 ms, no TPOT",
                 "no request can keep to --slo-ttft here: a step of a single row takes 61.23 ms; "
                 "give more, or auto");
    expect_words("40ms", "5ms", 61230, "SLO of requests that name none: TTFT 40 ms, TPOT 5 ms",
                 "no request can keep to --slo-ttft and --slo-tpot here: a step of a single row "
                 "takes 61.23 ms; give more, or auto");
}
