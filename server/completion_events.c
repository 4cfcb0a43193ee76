/* What the engine's thread does with a completion: short, and without a lock that anyone holds who
 * waits. */
#include "server/completion_private.h"

#include <math.h>

static struct metrics *metrics_of(struct completion *c)
{
    return &c->exchange->server->metrics;
}

/* --- for answers with and without stages */

void completion_time_token(struct part *part, int32_t sequence)
{
    struct completion *c = part->completion;
    struct sequence_watch *watch = &part->watches[sequence];
    struct metrics *metrics = metrics_of(c);
    int64_t now_us = clock_now(&c->exchange->server->options.clock);
    if (watch->tokens++ == 0)
        watch->first_us = now_us;
    else
        metrics_observe(metrics, &metrics->itl, now_us - watch->last_us);
    watch->last_us = c->last_token_us = now_us;
    if (c->first_token_us) return;
    c->first_token_us = now_us;
    metrics_observe(metrics, &metrics->ttft, now_us - c->exchange->received_us);
}

void completion_time_finish(struct part *part, int32_t sequence, enum finish_reason reason)
{
    const struct sequence_watch *watch = &part->watches[sequence];
    struct metrics *metrics = metrics_of(part->completion);
    if (reason < FINISH_ABORT && watch->tokens > 1)
        metrics_observe(metrics, &metrics->tpot,
                        (watch->last_us - watch->first_us) / (watch->tokens - 1));
}

void completion_log_score(struct completion *c, struct token_record record,
                          const struct token_score *score)
{
    record.token = score->token;
    record.logprob = score->logprob;
    record.top_count = (uint8_t)score->top_count;
    token_log_append(&c->log, record, score->top);
    if (c->request.stream && record.kind == RECORD_TOKEN) exchange_notify(c->exchange);
}

static void count_ended(struct completion *c)
{
    struct metrics *m = metrics_of(c);
    atomic_fetch_add_explicit(&m->outcomes[c->worst], 1, memory_order_relaxed);
    metrics_observe(m, &m->prompt_tokens, c->prompt_tokens);
    metrics_observe(m, &m->generated_tokens, c->output_tokens);
    metrics_observe(m, &m->request_n, c->choices);
    if (c->worst >= FINISH_ABORT || !c->first_token_us) return;
    metrics_observe(m, &m->e2e, c->finish_us - c->exchange->received_us);
    metrics_observe(m, &m->queue, c->scheduled_us - c->exchange->received_us);
    metrics_observe(m, &m->prefill, c->first_token_us - c->scheduled_us);
    metrics_observe(m, &m->decode, c->finish_us - c->first_token_us);
}

/* From `since` to `until`, where both were reached. */
static double milliseconds(int64_t since, int64_t until)
{
    return since && until ? (double)(until - since) / 1e3 : NAN;
}

/* Before the reader looks at them: while a part is left. */
static void sum_up(struct completion *c)
{
    struct timings *t = &c->timings;
    int64_t received_us = c->exchange->received_us;
    t->queue_ms = milliseconds(received_us, c->scheduled_us);
    t->ttft_ms = milliseconds(received_us, c->first_token_us);
    t->e2e_ms = milliseconds(received_us, c->finish_us);
    t->tpot_ms = c->output_tokens > 1 ? milliseconds(c->first_token_us, c->last_token_us) /
                                            (double)(c->output_tokens - 1)
                                      : NAN;
}

void completion_done(struct part *part, const struct request_stats *stats)
{
    struct completion *c = part->completion;
    struct exchange *exchange = c->exchange;
    if (!c->scheduled_us || (stats->scheduled_us && stats->scheduled_us < c->scheduled_us))
        c->scheduled_us = stats->scheduled_us;
    if (stats->finish_us > c->finish_us) c->finish_us = stats->finish_us;
    c->output_tokens += stats->output_tokens;
    c->cached_tokens += stats->cached_tokens;
    c->timings.steps += stats->steps;
    c->timings.deferred_branch_steps += stats->deferred_rows;
    if (atomic_load(&c->parts_left) == 1) {
        count_ended(c);
        sum_up(c);
        completion_judge(c);
    }
    if (atomic_fetch_sub(&c->parts_left, 1) == 1) {
        if (c->request.stream)
            exchange_notify(exchange);
        else
            frontend_finish(exchange->server->frontend, exchange);
    }
    exchange_unref(exchange);
}

/* --- without stages */

static void on_score(void *context, int32_t index, int32_t position,
                     const struct token_score *score)
{
    struct part *part = context;
    (void)position; /* they come in order, each once */
    struct token_record record = {.kind = RECORD_PROMPT, .choice = part->first_choice + index};
    completion_log_score(part->completion, record, score);
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct part *part = context;
    struct completion *c = part->completion;
    completion_time_token(part, index);

    enum token_verdict verdict = TOKEN_KEEP;
    if (c->request.stop_count && !ends) {
        strbuf_clear(&c->scratch);
        if (choice_text_push(&part->watches[index].text, c->exchange->server->model.tokenizer,
                             sampled->token, c->request.min_tokens, false, &c->scratch))
            verdict = TOKEN_STOP;
    }
    struct token_record record = {
        .kind = RECORD_TOKEN, .choice = part->first_choice + index, .ends = ends};
    completion_log_score(c, record, sampled);
    return verdict;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct part *part = context;
    struct completion *c = part->completion;
    completion_time_finish(part, index, ending->reason);
    if (ending->reason > c->worst) c->worst = ending->reason;
    struct token_record record = {.choice = part->first_choice + index,
                                  .kind = RECORD_FINISH,
                                  .reason = (uint8_t)ending->reason};
    token_log_append(&c->log, record, NULL);
    if (c->request.stream) exchange_notify(c->exchange);
}

static void on_done(void *context, const struct request_stats *stats)
{
    completion_done(context, stats);
}

struct request_events completion_events(struct part *part)
{
    return (struct request_events){part, on_score, on_token, on_finish, NULL, on_done};
}
