/* Process: what a collected step means.
 *
 * Row by row, in the plan's order: the row lands (it is no longer in flight), its token is taken if
 * its sequence still wants one, and a sequence that left or ended gives its blocks back. With depth
 * 2 a sequence that ends here may have a row in the next step already; that row's token is dropped
 * when it lands, because the sequence is in state ended by then.
 */
#include "scheduler/core.h"

#include "base/base.h"

static void land(struct sequence *seq, const struct plan_row *row)
{
    seq->in_flight--;
    if (row->sample) seq->pending--;
}

static void take_token(struct scheduler *s, struct sequence *seq, struct row_result result,
                       int64_t now_us)
{
    struct request *request = seq->request;
    const struct request_events *events = &request->params.events;
    seq->generated[seq->generated_count++] = result.token;
    request->stats.output_tokens++;
    s->counters.generated_tokens++;
    if (request->stats.first_token_us == 0) request->stats.first_token_us = now_us;

    bool ends = sequence_ends_with(seq, result.token);
    enum token_verdict verdict =
        events->token(events->context, seq->index, result.token, result.logprob, ends);
    if (ends || verdict == TOKEN_STOP)
        sequence_end(s, seq, FINISH_STOP);
    else if (seq->generated_count == request->params.max_tokens)
        sequence_end(s, seq, FINISH_LENGTH);
}

static void process_row(struct scheduler *s, struct sequence *seq, const struct plan_row *row,
                        struct row_result result, int64_t now_us)
{
    struct request *request = seq->request;
    request_hold(request);
    land(seq, row);
    if (row->sample && seq->state != SEQUENCE_ENDED) {
        if (result.token >= 0 && result.token < s->capacity.vocab) {
            take_token(s, seq, result, now_us);
        } else {
            log_warn("request %llu ends: the executor sampled token %d of a vocabulary of %d",
                     (unsigned long long)request->id, result.token, s->capacity.vocab);
            request_end(s, request, FINISH_ERROR);
        }
    }
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
        request_end(s, request, FINISH_ERROR);
        row_landed(s, seq);
        request_release(s, request);
    }
}

void process(struct scheduler *s)
{
    struct step *step = &s->steps[s->oldest];
    struct error err = {0};
    enum status status =
        s->executor.ops->collect(s->executor.self, step->ticket, step->results, &err);
    s->oldest = (s->oldest + 1) % s->capacity.depth;
    s->in_flight--;
    if (status) {
        fail_step(s, step, status, &err);
        return;
    }
    int64_t now_us = clock_now(&s->clock);
    for (int32_t at = 0; at < step->plan.row_count; at++)
        process_row(s, step->owners[at], &step->rows[at], step->results[at], now_us);
}
