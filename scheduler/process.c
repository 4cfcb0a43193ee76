/* Process: what a collected step means.
 *
 * Row by row, in the plan's order: the row lands (it is no longer in flight), its complete blocks
 * go to the prefix tree, its prompt's scores are reported, its token is taken if its sequence still
 * wants one, and a sequence that left or ended gives its blocks back. With depth 2 a sequence that
 * ends here may have a row in the next step already; that row's token is dropped when it lands,
 * because the sequence has finished by then.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <math.h>

static void land(struct sequence *seq, const struct plan_row *row)
{
    seq->in_flight--;
    seq->request->in_flight--;
    if (row->sample) seq->pending--;
}

/* The slots that the row wrote, as far as they are of tokens that are known and kept. */
static void note_landed(struct sequence *seq, const struct plan_row *row)
{
    int32_t end = row->first_position + row->count - sequence_first_position(seq);
    seq->landed = max_i32(seq->landed, min_i32(end, seq->finished ? seq->same : seq->length));
}

/* Computed again after a preemption, a prompt's scores were reported before. */
static void report_scores(struct sequence *seq, const struct plan_row *row,
                          const struct row_result *result)
{
    const struct request_events *events = &seq->request->params.events;
    for (int32_t i = 0; i < row->target_count; i++) {
        int32_t position = row->first_position + 1 + i;
        if (position <= seq->scored) continue;
        /* A trunk speaks for all the answers behind it. */
        int32_t first = max_i32(seq->index, 0);
        int32_t end = seq->index < 0 ? seq->request->params.n : first + 1;
        for (int32_t index = first; index < end; index++)
            events->score(events->context, index, position, &result->scores[i]);
        seq->scored = position;
    }
}

static void take_token(struct scheduler *s, struct sequence *seq, const struct token_score *sampled,
                       int64_t now_us)
{
    struct request *request = seq->request;
    const struct request_events *events = &request->params.events;
    seq->tokens[seq->length++] = sampled->token;
    seq->generated++;
    request->stats.output_tokens++;
    s->counters.generated_tokens++;
    if (request->stats.first_token_us == 0) request->stats.first_token_us = now_us;

    bool ends = sequence_ends_with(seq, sampled->token);
    enum token_verdict verdict = events->token(events->context, seq->index, sampled, ends);
    if (ends || verdict == TOKEN_STOP)
        sequence_end(s, seq, FINISH_STOP, ends);
    else if (seq->generated == seq->max_tokens)
        sequence_end(s, seq, FINISH_LENGTH, false);
}

/* max_tokens 0: the last of the prompt was all there is to compute. */
static void end_without_tokens(struct scheduler *s, struct sequence *seq)
{
    if (seq->max_tokens > 0 || seq->finished || seq->landed < sequence_target(seq)) return;
    if (seq->index < 0)
        stage_pass_trunk(s, seq->request);
    else
        sequence_end(s, seq, FINISH_LENGTH, false);
}

static void process_row(struct scheduler *s, struct sequence *seq, const struct plan_row *row,
                        const struct row_result *result, int64_t now_us)
{
    struct request *request = seq->request;
    int32_t token = result->sampled.token;
    request_hold(request);
    land(seq, row);
    note_landed(seq, row);
    prefix_leave(s, seq);
    if (!seq->finished) report_scores(seq, row, result);
    if (row->sample && !seq->finished) {
        if (token >= 0 && token < s->capacity.vocab) {
            take_token(s, seq, &result->sampled, now_us);
        } else {
            log_warn("request %llu ends: the executor sampled token %d of a vocabulary of %d",
                     (unsigned long long)request->id, token, s->capacity.vocab);
            request_end(s, request, FINISH_ERROR);
        }
    }
    end_without_tokens(s, seq);
    row_landed(s, seq);
    request_release(s, request);
}

void fail_step(struct scheduler *s, struct step *step, enum status status, const struct error *err)
{
    s->counters.failed_steps++;
    log_warn("a step of %d rows failed and ends their requests: %s", step->plan.row_count,
             err->text[0] ? err->text : status_words(status));
    for (int32_t at = 0; at < step->plan.row_count; at++) {
        struct sequence *seq = step->owners[at];
        struct request *request = seq->request;
        request_hold(request);
        land(seq, &step->rows[at]);
        seq->detached = true; /* a later step may have a row of it: it must leave nothing either */
        request_end(s, request, FINISH_ERROR);
        row_landed(s, seq);
        request_release(s, request);
    }
}

#define FIT_MEMORY 0.02 /* a step's part in what a prediction is worth: the last 50 count */
#define FIT_ERROR  0.25 /* what is further off than that says no more of the usual error */
#define FIT_MOST   1e3  /* no predictor is further off than that */

/* A single step counts as twice or half of what was expected at most. */
static void note_fit(struct prediction_fit *fit, double said_us, double us)
{
    if (!(said_us > 0) || us <= 0) return;
    double off = fmin(fmax(us / (fit->bias * said_us), 0.5), 2) - 1;
    fit->spread += FIT_MEMORY * (fmin(fabs(off), FIT_ERROR) - fit->spread);
    fit->bias = fmin(fmax(fit->bias * (1 + FIT_MEMORY * off), 1 / FIT_MOST), FIT_MOST);
}

/* What the step took, for the predictor and for those who want to know how good it is. */
static void learn(struct scheduler *s, const struct step *step, double us)
{
    note_fit(&s->fit, step->predicted_us, us);
    if (s->predictor.observe) s->predictor.observe(s->predictor.self, &step->load, us);
    if (step->predicted_us <= 0 || us <= 0) return;
    s->counters.predicted_steps++;
    s->counters.predicted_us += step->predicted_us;
    s->counters.measured_us += us;
    s->counters.prediction_error += fabs(step->predicted_us / us - 1);
}

void process(struct scheduler *s)
{
    struct step *step = &s->steps[s->oldest];
    struct error err = {0};
    int64_t since_us = clock_now(&s->clock);
    enum status status =
        s->executor.ops->collect(s->executor.self, step->ticket, step->results, &err);
    int64_t now_us = clock_now(&s->clock);
    s->counters.executor_us += now_us - since_us;
    s->oldest = (s->oldest + 1) % s->capacity.depth;
    s->in_flight--;
    int64_t latency_us = now_us - max_i64(s->collected_us, step->began_us);
    s->collected_us = now_us;
    if (status) {
        fail_step(s, step, status, &err);
        return;
    }
    learn(s, step, (double)latency_us);
    for (int32_t at = 0; at < step->plan.row_count; at++)
        process_row(s, step->owners[at], &step->rows[at], &step->results[at], now_us);
}
