/* TAPER: extra rows only while their predicted cost fits the slack of the batch (arXiv 2605.06914,
 * with the changes that docs/taper.md gives the reasons for).
 *
 * One budget for what can be put off. A step has its baseline, one row for each request, and may
 * last until the least slack of those who decode, and never longer than the clamp: the smallest
 * TPOT of those who wait for their next token, or a part of it where TPOT is for each gap between
 * tokens. Where the baseline alone takes longer, no width keeps to it; what helps then is to have
 * requests done, and the clamp is twice the baseline. What is left of the step is spent
 *   first   on the prompt tokens that must be computed now for the first tokens to come in time,
 *   then    on further rows of requests with branches, the request that came first before others,
 *   last    on as many more prompt tokens as fit.
 *
 * Slack. Token j of a request is due j * TPOT after its first one, all its branches' tokens
 * counted: a request that runs ahead has time to give. Who has missed its SLO for good, or is late
 * and loses more in every baseline, bounds nobody any more; the clamp stays even if all have.
 *
 * Classes. Each request bounds the step by its own TPOT. The clamp is for readers who wait for the
 * next token, as far as the baseline keeps it; a request whose branches run ahead, or whose clamp
 * is exceeded whatever is chosen, is kept by its slack alone. Prompts that cannot wait may make the
 * step as long as the largest TPOT bears, as far as the slack of all reaches.
 *
 * Prompts whose first token is late come behind those that can be in time, unless others wait for
 * room: blocks are not to lie idle then.
 *
 * Nobody starves. Every request has a row in every step, the branch that had none for longest, so
 * of w branches each has one within w steps; a prompt of p tokens that is admitted has one token a
 * step at least and is computed within p steps. Rows beside the baseline are chosen only where the
 * pool has a free block for them: they preempt nobody.
 *
 * The predictor is not trusted further than it has proved right: what it says is corrected by what
 * steps took of late (struct prediction_fit), and the clamp leaves room for the error that is left
 * where it would cost somebody a gap. A mean bears it.
 */
#include "scheduler/sequence.h"
#include "scheduler/taper_batch.h"

#include "base/base.h"

#include <math.h>

#define SPEND       0.9  /* of the least slack, in one step */
#define AIM         0.96 /* deadlines are set as if TPOT were so much of itself */
#define CATCH_UP    0.9  /* of TPOT: with a longer baseline who is late does not catch up */
#define DRAIN       2.0  /* of a baseline that does not keep TPOT: the longest step */
#define CLAMP       0.9  /* of the smallest TPOT, where each gap counts: the longest step... */
#define MARGIN      3.0  /* ...less so many times the usual error of a prediction... */
#define CLAMP_LEAST 0.7  /* ...down to here */
#define HURRY       0.5  /* of the time until its TTFT is a prompt planned to take */
#define LOST_US     1e6  /* later than that, a request cannot catch up */
#define LEAST_CHUNK 16   /* prompt tokens a step, however late all are... */
#define LEAST_COST  1.05 /* ...as far as they make the baseline so much longer at most */
#define SKIPS       32   /* rows that do not fit, until nobody is asked any more */

/* --- until when the step may last */

/* Of those who decode under a TPOT. */
struct bounds {
    double slack_us;    /* least, beyond the baseline's end */
    double serial_us;   /* smallest TPOT, that the baseline keeps, of who waits for a token */
    double smallest_us; /* of all that are not lost */
    double largest_us;  /* of them */
    double lost_us;     /* smallest of those that are */
};

/* Late, and so late, or with a baseline so long, that it does not catch up. */
static bool is_lost(const struct request *request, double late_us, double base_us)
{
    const struct request_slo *slo = &request->params.slo;
    const struct request_stats *stats = &request->stats;
    if (slo->ttft_us && stats->first_token_us - stats->arrival_us > slo->ttft_us) return true;
    return late_us > LOST_US || (late_us > 0 && base_us > CATCH_UP * (double)slo->tpot_us);
}

static void bound_by(struct bounds *bounds, const struct request *request, int64_t start_us,
                     double base_us)
{
    const struct request_stats *stats = &request->stats;
    double tpot_us = (double)request->params.slo.tpot_us;
    if (tpot_us <= 0 || stats->first_token_us == 0) return;
    double due_us = (double)stats->first_token_us + AIM * tpot_us * stats->output_tokens;
    double slack_us = due_us - ((double)start_us + base_us);
    if (is_lost(request, -slack_us, base_us)) {
        bounds->lost_us = fmin(bounds->lost_us, tpot_us);
        return;
    }
    bounds->smallest_us = fmin(bounds->smallest_us, tpot_us);
    bounds->slack_us = fmin(bounds->slack_us, slack_us);
    bounds->largest_us = fmax(bounds->largest_us, tpot_us);
    bool waits = request->stage->unfinished == 1 || slack_us <= 0;
    if (waits && base_us <= AIM * tpot_us) /* else no width keeps it there */
        bounds->serial_us = fmin(bounds->serial_us, tpot_us);
}

/* The latency that the step may be planned to have; without prefill at least the baseline's. */
struct limits {
    double most_us;
    double urgent_us; /* for prompts that cannot wait */
};

/* The longest step for who waits under this TPOT. Where the baseline alone is too long, no width
 * keeps it: what helps is that requests end, and more rows a step have more of them done. */
static double clamp_us(const struct ready *ready, double base_us, double tpot_us)
{
    if (base_us > AIM * tpot_us) return DRAIN * base_us;
    if (!ready->every_gap) return tpot_us;
    return fmax(fmin(CLAMP, 1 - MARGIN * ready->fit.spread), CLAMP_LEAST) * tpot_us;
}

static double limit_us(double base_us, double slack_us, double longest_us)
{
    return base_us + fmax(0, fmin(SPEND * slack_us, longest_us - base_us));
}

/* Of a predictor that has no number for the baseline nothing is believed: NAN, which nothing fits.
 */
static struct limits limits_of(const struct ready *ready, double base_us)
{
    struct bounds bounds = {INFINITY, INFINITY, INFINITY, 0, INFINITY};
    for (int32_t i = 0; i < ready->running_count; i++)
        bound_by(&bounds, ready->running[i], ready->start_us, base_us);
    double tpot_us = bounds.serial_us;
    if (isinf(tpot_us)) tpot_us = bounds.smallest_us;
    if (isinf(tpot_us)) tpot_us = bounds.lost_us;
    if (isinf(tpot_us)) return (struct limits){INFINITY, INFINITY};
    if (!(base_us > 0 && base_us < INFINITY)) return (struct limits){NAN, NAN};
    double usual_us = clamp_us(ready, base_us, tpot_us);
    double urgent_us = fmax(usual_us, clamp_us(ready, base_us, fmax(tpot_us, bounds.largest_us)));
    return (struct limits){limit_us(base_us, bounds.slack_us, usual_us),
                           limit_us(base_us, bounds.slack_us, urgent_us)};
}

/* --- prompts */

/* Tokens that the chunk must have for each prompt to be done in half the time it has left, if steps
 * take step_us: those before it come first. */
static double chunk_in_time(const struct taper_batch *batch, double step_us)
{
    double needed = 0, tokens = 0;
    for (int32_t i = 0; i < batch->filling_count; i++) {
        const struct sequence *seq = batch->filling[i];
        const struct request *request = seq->request;
        int64_t ttft_us = request->params.slo.ttft_us;
        tokens += sequence_target(seq) - sequence_start(seq);
        if (ttft_us == 0 || request->stats.first_token_us) continue;
        double left_us = (double)(request->stats.arrival_us + ttft_us - batch->ready->start_us);
        if (left_us < 0) continue;
        double steps = fmax(1, floor(HURRY * left_us / step_us));
        needed = fmax(needed, tokens / steps);
    }
    return needed;
}

/* --- branches */

static void add_rows(struct taper_batch *batch, double most)
{
    const struct ready *ready = batch->ready;
    int32_t skips = 0;
    for (int32_t first = 0, end; first < ready->count && batch->left_rows > 0; first = end) {
        struct taper_line line = taper_line_of(ready, first, &end);
        struct sequence *seq;
        if (taper_choose_line(batch, &line, most)) continue;
        taper_line_order(&line);
        while (batch->left_rows > 0 && (seq = taper_line_pop(&line))) {
            if (!taper_has_room(batch, seq)) return;
            if (taper_row_us(batch, &line, seq) <= most)
                taper_choose(batch, &line, seq);
            else if (++skips > SKIPS)
                return;
        }
    }
}

static void choose(const struct policy *policy, struct ready *ready)
{
    struct taper_batch batch;
    (void)policy;
    ready->late_last = ready->waiting == 0;
    taper_begin(&batch, ready);
    double base_us = taper_now_us(&batch);
    struct limits limits = limits_of(ready, base_us);
    int32_t least = min_i32(LEAST_CHUNK, taper_fit_chunk(&batch, 1, LEAST_COST * base_us));
    double needed = ceil(chunk_in_time(&batch, limits.most_us));
    int32_t fits = taper_fit_chunk(&batch, least, limits.most_us);
    if (needed > fits) fits = taper_fit_chunk(&batch, least, limits.urgent_us);
    if (fits < batch.wanted) {
        taper_set_chunk(&batch, fits);
        ready->urgent_chunk = fits;
        ready->urgent_us = taper_now_us(&batch);
    }
    taper_set_chunk(&batch, needed < fits ? max_i32(least, (int32_t)needed) : fits);
    if (batch.rows < ready->count) add_rows(&batch, limits.most_us);
    ready->prefill_chunk = taper_fit_chunk(&batch, batch.chunk, limits.most_us);
}

const struct policy_ops policy_taper = {"taper", choose, true};
