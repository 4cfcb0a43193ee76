/* --slo-ttft and --slo-tpot of `espalier serve`: what a request that names no SLO is to keep to.
 *
 * Each is a time, `none`, or `auto`: 2 s until the first token, and for each one after it 50 ms, or
 * three steps of a single row where the machine is so slow that this is more. So words come first
 * (parse), the limits when the machine is known (settle).
 */
#ifndef SERVER_SLO_OPTIONS_H
#define SERVER_SLO_OPTIONS_H

#include "base/options.h"
#include "base/strbuf.h"
#include "scheduler/slo.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLO_AUTO (-1)

struct slo_options {
    const char *ttft_word, *tpot_word; /* as given */
    int64_t ttft_us, tpot_us;          /* after slo_options_parse: SLO_AUTO, 0 (none), or a time */
};
struct slo_options slo_options_default(void); /* auto, auto */

/* The rows of --help and the parser, to a table that has room for SLO_OPTION_COUNT; returns how
 * many. */
#define SLO_OPTION_COUNT 2
size_t slo_options_table(struct slo_options *options, struct option_spec *table);

/* ST_USAGE: which option, what was found, what is allowed. */
enum status slo_options_parse(struct slo_options *options, struct error *err);

/* The limits on this machine, where a step of a single decode row takes single_row_us; 0: nobody
 * has measured it. */
struct request_slo slo_options_settle(const struct slo_options *options, int64_t single_row_us);

/* Appends the line for the start: both limits, and how those of `auto` were found. */
void slo_options_words(const struct slo_options *options, int64_t single_row_us,
                       struct strbuf *out);

/* A limit that a request alone on the machine would miss: appends a line with the measured step.
 * false: there is none, or no step was measured. */
bool slo_options_warning(const struct slo_options *options, int64_t single_row_us,
                         struct strbuf *out);

#endif
