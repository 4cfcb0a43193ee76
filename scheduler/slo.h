/* Service level objectives: how soon a request's first token should come (TTFT), and how soon on
 * average each one after it (TPOT). The definition that counts is `mean` of docs/results.md (D1 of
 * controller.md): the server's timings and metrics and the results of replay and simulate all ask
 * here. Whole microseconds, no rounding; equal is met.
 */
#ifndef SCHEDULER_SLO_H
#define SCHEDULER_SLO_H

#include <stdbool.h>
#include <stdint.h>

/* What a request is to keep to; 0: no limit, and it constrains nobody. */
struct request_slo {
    int64_t ttft_us, tpot_us;
};

static inline bool slo_is_none(const struct request_slo *slo)
{
    return slo->ttft_us == 0 && slo->tpot_us == 0;
}

/* (last - first) / (tokens - 1) <= tpot_us, over all output tokens, those of branches too; one
 * token meets any TPOT, none misses. */
bool slo_tpot_met(int64_t tpot_us, int64_t first_us, int64_t last_us, int64_t tokens);

/* A complete answer of so many tokens, the first and last of them at these times (any, with 0
 * tokens: that misses every limit). */
bool slo_met(const struct request_slo *slo, int64_t arrival_us, int64_t first_us, int64_t last_us,
             int64_t tokens);

#endif
