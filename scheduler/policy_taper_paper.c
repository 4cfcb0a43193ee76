/* TAPER as its description reads literally (arXiv 2605.06914; the algorithm by a reader's notes,
 * ../shared/reference/branches-and-slo.md section 1): for comparison with policy_taper.c.
 *
 * t0 = T(baseline); the step may last t0 + 0.8 * max(0, least slack - t0), the least over all
 * requests of (deadline - now), where token j is due at arrival + TTFT + j * TPOT. Rows are given
 * by the gain in utility, log(1 + width), per predicted millisecond; rows cost much the same, so
 * that is a second row for each request, then a third. A request whose next row exceeds the budget
 * is out. No clamp, and one late request leaves the baseline alone.
 */
#include "scheduler/sequence.h"
#include "scheduler/taper_batch.h"

#include "base/base.h"

#include <math.h>

#define SPEND 0.8

static double least_slack_us(const struct ready *ready)
{
    double least = INFINITY;
    for (int32_t i = 0; i < ready->running_count; i++) {
        const struct request *request = ready->running[i];
        const struct request_slo *slo = &request->params.slo;
        bool decodes = request->stats.first_token_us > 0;
        if (!slo->tpot_us && (decodes || !slo->ttft_us)) continue;
        int64_t due =
            request->stats.arrival_us + slo->ttft_us + slo->tpot_us * request->stats.output_tokens;
        least = fmin(least, (double)(due - ready->start_us));
    }
    return least;
}

/* One more row for each request whose next row still fits; false: for none. */
static bool widen(struct taper_batch *batch, double most_us)
{
    const struct ready *ready = batch->ready;
    bool any = false;
    for (int32_t first = 0, end; first < ready->count && batch->left_rows > 0; first = end) {
        struct taper_line line = taper_line_of(ready, first, &end);
        taper_line_order(&line);
        struct sequence *seq = taper_line_pop(&line);
        if (!seq || !taper_has_room(batch, seq)) continue;
        if (taper_row_us(batch, &line, seq) > most_us) continue;
        taper_choose(batch, &line, seq);
        any = true;
    }
    return any;
}

static void choose(const struct policy *policy, struct ready *ready)
{
    struct taper_batch batch;
    (void)policy;
    taper_begin(&batch, ready);
    taper_set_chunk(&batch, min_i32(batch.wanted, ready->prefill_chunk));
    double base_us = taper_now_us(&batch);
    double most_us = base_us + SPEND * fmax(0, least_slack_us(ready) - base_us);
    while (batch.rows < ready->count && widen(&batch, most_us)) {
    }
}

const struct policy_ops policy_taper_paper = {"taper-paper", choose, true};
