#include "support_watched_taper.h"

#include "scheduler/core.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct watched last;

struct watched *watched_taper_last(void)
{
    return &last;
}

/* --- what the rows of a step cost; rows: [ready.count] whether it has one */

static int32_t context_of(const struct sequence *seq)
{
    return seq->stage->context ? seq->stage->context->slots : 0;
}

/* Planned already, when the policy is asked again: such rows decode. */
static bool has_row(const struct ready *ready, const struct sequence *seq)
{
    return seq->row_step == ready->step;
}

static bool decodes(const struct ready *ready, const struct sequence *seq)
{
    return has_row(ready, seq) || sequence_is_decoding(seq);
}

static void add_decode_load(const struct ready *ready, const bool *rows, struct step_load *load)
{
    const struct request *reader = NULL; /* a row of it decodes, so its context is read */
    for (int32_t i = 0; i < ready->count; i++) {
        const struct sequence *seq = ready->sequences[i];
        if (!rows[i] || !decodes(ready, seq)) continue;
        bool again = reader == seq->request && ready->predictor.shared != SHARED_NONE;
        load->decode_rows++;
        load->context_read += sequence_target(seq) - has_row(ready, seq);
        if (!again) load->context_read += context_of(seq);
        reader = seq->request;
    }
}

/* The baseline in time, the late part of it, then what came beside it. */
static int pass_of(const struct ready *ready, const struct sequence *seq, bool base)
{
    bool late = base && ready->late_last && request_is_late(seq->request, ready->start_us);
    return base ? late : 2;
}

/* In this order. Returns how many rows. */
static int32_t add_prefill_load(const struct ready *ready, const bool *rows, const bool *base,
                                int32_t chunk, struct step_load *load)
{
    int32_t count = 0;
    for (int32_t i = 0; i < ready->count; i++)
        count += rows[i] && !decodes(ready, ready->sequences[i]);
    int32_t behind = count;
    for (int pass = 0; pass < 3; pass++)
        for (int32_t i = 0; i < ready->count; i++) {
            const struct sequence *seq = ready->sequences[i];
            if (!rows[i] || pass_of(ready, seq, base[i]) != pass || decodes(ready, seq)) continue;
            int32_t start = sequence_start(seq), before = context_of(seq);
            int32_t tokens = max_i32(1, chunk - --behind);
            tokens = min_i32(tokens, sequence_target(seq) - start);
            load->prefill_tokens += tokens;
            load->prefill_attention += prefill_attention(tokens, before + start + tokens);
            chunk -= tokens;
        }
    return count;
}

static double predicted_us(const struct ready *ready, const bool *rows, const bool *base,
                           int32_t chunk, int32_t *filling)
{
    struct step_load load = {0};
    add_decode_load(ready, rows, &load);
    *filling = add_prefill_load(ready, rows, base, chunk, &load);
    return ready->fit.bias * ready->predictor.predict(ready->predictor.self, &load);
}

/* --- until when the step may last: docs/taper.md, "The algorithm", 2 */

static void find_limits(const struct ready *ready, double base_us, double *most_us,
                        double *urgent_us)
{
    double slack = INFINITY, serial = INFINITY, any = INFINITY, largest = 0;
    double lost_own = INFINITY;
    for (int32_t i = 0; i < ready->running_count; i++) {
        const struct request *request = ready->running[i];
        const struct request_stats *stats = &request->stats;
        double own = (double)request->params.slo.tpot_us,
               ttft = (double)request->params.slo.ttft_us;
        if (own <= 0 || stats->first_token_us == 0) continue;
        double late = (double)ready->start_us + base_us - (double)stats->first_token_us -
                      0.96 * own * stats->output_tokens;
        bool lost = ttft > 0 && (double)(stats->first_token_us - stats->arrival_us) > ttft;
        lost = lost || late > 1e6 || (late > 0 && base_us > 0.9 * own);
        if (lost) lost_own = fmin(lost_own, own);
        if (lost) continue;
        any = fmin(any, own);
        slack = fmin(slack, -late);
        largest = fmax(largest, own);
        bool waits = request->stage->unfinished == 1 || late >= 0;
        if (waits && base_us <= 0.96 * own) serial = fmin(serial, own);
    }
    double part = ready->every_gap ? fmax(0.7, fmin(0.9, 1 - 3 * ready->fit.spread)) : 1;
    any = isinf(any) ? lost_own : any;
    double own = isinf(serial) ? any : serial;
    largest = fmax(largest, own);
    double clamp = base_us > 0.96 * own ? 2 * base_us : part * own;
    double urgent = base_us > 0.96 * largest ? 2 * base_us : part * largest;
    *most_us = base_us + fmax(0, fmin(0.9 * slack, clamp - base_us));
    *urgent_us = base_us + fmax(0, fmin(0.9 * slack, fmax(clamp, urgent) - base_us));
    if (isinf(any))
        *most_us = *urgent_us = INFINITY;
    else if (!(base_us > 0 && base_us < INFINITY))
        *most_us = *urgent_us = NAN; /* nothing fits */
}

/* --- the check */

/* Of the sequences of one request: has none the step's mark yet, the one that had no row for
 * longest, the first of several. */
static void mark_base(const struct ready *ready, int32_t first, int32_t end, bool *base)
{
    int32_t longest = first;
    for (int32_t i = first; i < end; i++) {
        base[i] = ready->sequences[i]->chosen_step == ready->step;
        if (base[i]) longest = -1;
        if (longest >= 0 && sequence_waits_longer(ready->sequences[i], ready->sequences[longest]))
            longest = i;
    }
    if (longest >= 0) base[longest] = true;
}

static void find_base(const struct ready *ready, bool *base)
{
    for (int32_t first = 0, end; first < ready->count; first = end) {
        for (end = first; end < ready->count &&
                          ready->sequences[end]->request == ready->sequences[first]->request;)
            end++;
        mark_base(ready, first, end, base);
    }
}

static int64_t blocks_for(const struct ready *ready, const bool *rows)
{
    int64_t blocks = 0;
    for (int32_t i = 0; i < ready->count; i++)
        if (rows[i] && !has_row(ready, ready->sequences[i]))
            blocks += block_table_missing(&ready->sequences[i]->table,
                                          sequence_target(ready->sequences[i]));
    return blocks;
}

static void check_choice(const struct ready *ready, const bool *base)
{
    bool *rows = must_alloc(((size_t)ready->count + 1) * sizeof *rows);
    int32_t filling, base_rows = 0, count = 0;
    double base_us = predicted_us(ready, base, base, 0, &filling), urgent_us;
    for (int32_t i = 0; i < ready->count; i++) {
        rows[i] = ready->sequences[i]->chosen_step == ready->step;
        base_rows += base[i];
        count += rows[i];
        invariant(rows[i] || !base[i], "the sequence that waits longest is not chosen");
    }
    int64_t base_blocks = blocks_for(ready, base), blocks = blocks_for(ready, rows);
    last.rows = count;
    last.base_rows = base_rows;
    find_limits(ready, base_us, &last.most_us, &urgent_us);
    last.planned_us = predicted_us(ready, rows, base, ready->prefill_chunk, &filling);
    last.baseline_lacks_room = last.baseline_lacks_room || base_blocks > ready->free_blocks;
    invariant(count <= ready->max_rows || count == base_rows, "%d rows of %d", count,
              ready->max_rows);
    invariant(blocks == base_blocks || blocks <= ready->free_blocks,
              "%lld blocks of %d, the baseline alone %lld", (long long)blocks, ready->free_blocks,
              (long long)base_blocks);
    if (!(last.planned_us <= last.most_us * (1 + 1e-9))) {
        invariant(count == base_rows, "%d rows beside the baseline take %g us of %g",
                  count - base_rows, last.planned_us, last.most_us);
        invariant(filling == 0 || ready->prefill_chunk <= max_i32(16, filling) ||
                      last.planned_us <= urgent_us * (1 + 1e-9),
                  "%d tokens of %d prompts take %g us of %g", ready->prefill_chunk, filling,
                  last.planned_us, last.most_us);
    }
    free(rows);
}

static void choose(const struct policy *policy, struct ready *ready)
{
    bool *base = must_alloc(((size_t)ready->count + 1) * sizeof *base);
    memset(base, 0, (size_t)ready->count * sizeof *base);
    find_base(ready, base);
    if (last.choices++ == 0 && last.scheduler)
        last.preemptions = last.scheduler->counters.preemptions;
    policy_taper.choose(policy, ready);
    check_choice(ready, base);
    free(base);
}

struct policy watched_taper(void)
{
    static const struct policy_ops ops = {"taper, watched", choose, true};
    return (struct policy){.ops = &ops};
}
