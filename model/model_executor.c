#include "model/model_executor.h"
#include "base/base.h"

#include <stdlib.h>

_Static_assert(KV_BLOCK_SLOTS == BLOCK_SLOTS, "scheduler and kernels count the same blocks");

struct model_executor {
    struct transformer *transformer;
    struct thread_pool *pool;
    struct model_executor_limits limits;
    struct sampler **samplers; /* one a thread */
    float **rows;              /* one row of logits a thread */
    int threads;

    /* the step in flight, in the backend's words */
    int32_t *tokens, *positions;
    int32_t *logit_rows;           /* [max_tokens] ascending */
    const struct plan_row **wants; /* [max_tokens] the plan row of each row of logits */
    int64_t *slots;
    struct attention_sequence *sequences;
    struct attention_span *spans;
    int32_t span_capacity;
    int32_t *first_rows;        /* [row_count] where each plan row's tokens begin */
    struct row_result *results; /* [row_count] */
    struct token_score *scores; /* [max_tokens] of prompt tokens, by the row before them */
    int32_t row_count, logit_count;
    uint64_t submitted, collected;
};

static void capacity(void *self, struct executor_capacity *out)
{
    const struct model_executor *m = self;
    *out = (struct executor_capacity){.depth = 1,
                                      .block_count = m->limits.kv_blocks,
                                      .max_rows = m->limits.max_rows,
                                      .max_tokens = m->limits.max_tokens,
                                      .max_context = m->limits.max_context,
                                      .vocab = m->transformer->config.vocab};
}

/* The pool slot of context slot `at` (0-based) of a view. */
static int64_t slot_of(const struct kv_view *view, int32_t at)
{
    for (int32_t i = 0; i < view->span_count; i++) {
        const struct kv_span *span = &view->spans[i];
        if (at < span->length) {
            int32_t slot = span->first_slot + at;
            return (int64_t)span->blocks[slot / BLOCK_SLOTS] * BLOCK_SLOTS + slot % BLOCK_SLOTS;
        }
        at -= span->length;
    }
    die("context slot %d lies past a view of %d slots", at, view->length);
}

static void reserve_spans(struct model_executor *m, const struct step_plan *plan)
{
    int32_t need = 0;
    for (int32_t i = 0; i < plan->row_count; i++)
        need += plan->rows[i].view.span_count;
    if (need <= m->span_capacity) return;
    m->span_capacity = 2 * need;
    m->spans = must_realloc(m->spans, (size_t)m->span_capacity * sizeof *m->spans);
}

static void translate_row(struct model_executor *m, const struct plan_row *row, int32_t first_row,
                          struct attention_span *spans, struct attention_sequence *sequence)
{
    int32_t vocab = m->transformer->config.vocab;
    for (int32_t i = 0; i < row->view.span_count; i++) {
        const struct kv_span *span = &row->view.spans[i];
        spans[i] = (struct attention_span){span->blocks, span->first_slot, span->length};
    }
    int32_t before = row->view.length - row->count;
    *sequence = (struct attention_sequence){.first_row = first_row,
                                            .rows = row->count,
                                            .context = before + 1,
                                            .spans = spans,
                                            .span_count = row->view.span_count};
    for (int32_t i = 0; i < row->count; i++) {
        int32_t token = row->tokens[i];
        invariant(token >= 0 && token < vocab, "token %d of a vocabulary of %d", token, vocab);
        m->tokens[first_row + i] = token;
        m->positions[first_row + i] = row->first_position + i;
        m->slots[first_row + i] = slot_of(&row->view, before + i);
    }
}

static void want_logits(struct model_executor *m, const struct plan_row *row, int32_t at)
{
    m->wants[m->logit_count] = row;
    m->logit_rows[m->logit_count++] = at;
}

static void translate(struct model_executor *m, const struct step_plan *plan,
                      struct step_input *input)
{
    int32_t at = 0, span_at = 0;
    reserve_spans(m, plan);
    m->logit_count = 0;
    for (int32_t i = 0; i < plan->row_count; i++) {
        const struct plan_row *row = &plan->rows[i];
        translate_row(m, row, at, m->spans + span_at, &m->sequences[i]);
        m->first_rows[i] = at;
        m->results[i] = (struct row_result){.sampled.token = -1, .scores = m->scores + at};
        for (int32_t k = 0; k < row->target_count; k++)
            want_logits(m, row, at + k);
        at += row->count;
        span_at += row->view.span_count;
        if (row->sample) want_logits(m, row, at - 1);
    }
    *input = (struct step_input){.rows = at,
                                 .tokens = m->tokens,
                                 .positions = m->positions,
                                 .slots = m->slots,
                                 .sequences = m->sequences,
                                 .sequence_count = plan->row_count};
}

static void copy_blocks(const struct model_executor *m, const struct step_plan *plan)
{
    struct backend *backend = m->transformer->backend;
    for (int32_t i = 0; i < plan->copy_count; i++) {
        const struct block_copy *copy = &plan->copies[i];
        backend->ops->kv_copy(backend, m->transformer->kv, copy->from, copy->to, copy->slots);
    }
}

struct sampling {
    struct model_executor *m;
    const struct step_plan *plan;
    int32_t first; /* of the rows of logits, those that are computed now */
};

/* One row of logits: the score of a prompt token, or a draw. */
static void use_logits(const struct sampling *job, int32_t index, struct sampler *sampler,
                       float *logits)
{
    struct model_executor *m = job->m;
    const struct plan_row *row = m->wants[index];
    int64_t number = row - job->plan->rows;
    int32_t token = m->logit_rows[index] - m->first_rows[number];
    if (token < row->target_count) {
        m->scores[m->logit_rows[index]] = sampler_score(logits, m->transformer->config.vocab,
                                                        row->targets[token], row->target_top);
        return;
    }
    struct token_history history = {row->history, row->history_count, row->answer_count};
    m->results[number].sampled =
        sampler_draw(sampler, logits, row->sample, history, row->sample_index);
}

static void sample_range(void *argument, int64_t begin, int64_t end, int member)
{
    const struct sampling *job = argument;
    struct model_executor *m = job->m;
    struct backend *backend = m->transformer->backend;
    for (int64_t i = begin; i < end; i++) {
        backend->ops->tensor_read(backend, m->transformer->logits, i, m->rows[member]);
        use_logits(job, job->first + (int32_t)i, m->samplers[member], m->rows[member]);
    }
}

/* All rows of logits that the step wants, as many at a time as there is room for. */
static void sample(struct model_executor *m, const struct step_plan *plan, struct step_input *input)
{
    struct sampling job = {.m = m, .plan = plan};
    for (; job.first < m->logit_count; job.first += input->logit_count) {
        input->logit_rows = m->logit_rows + job.first;
        input->logit_count = min_i32(m->logit_count - job.first, m->transformer->max_logits);
        transformer_head(m->transformer, input);
        thread_pool_for(m->pool, input->logit_count, 1, sample_range, &job);
    }
}

static enum status submit(void *self, const struct step_plan *plan, uint64_t *ticket,
                          struct error *err)
{
    struct model_executor *m = self;
    (void)err;
    invariant(m->submitted == m->collected, "a second step submitted at depth 1");
    invariant(plan->row_count > 0 && plan->row_count <= m->limits.max_rows &&
                  plan->token_count <= m->limits.max_tokens,
              "a step of %d rows and %d tokens, made for %d and %d", plan->row_count,
              plan->token_count, m->limits.max_rows, m->limits.max_tokens);
    struct step_input input;
    translate(m, plan, &input);
    m->row_count = plan->row_count;
    copy_blocks(m, plan);
    transformer_layers(m->transformer, &input);
    sample(m, plan, &input);
    *ticket = ++m->submitted;
    return ST_OK;
}

static enum status collect(void *self, uint64_t ticket, struct row_result *results,
                           struct error *err)
{
    struct model_executor *m = self;
    (void)err;
    invariant(ticket == m->submitted && ticket == m->collected + 1, "ticket %llu is not in flight",
              (unsigned long long)ticket);
    for (int32_t i = 0; i < m->row_count; i++)
        results[i] = m->results[i];
    m->collected = ticket;
    return ST_OK;
}

struct model_executor *model_executor_create(struct transformer *transformer,
                                             struct thread_pool *pool,
                                             const struct model_executor_limits *limits)
{
    struct model_executor *m = must_alloc(sizeof *m);
    size_t tokens = (size_t)limits->max_tokens, rows = (size_t)limits->max_rows;
    *m = (struct model_executor){.transformer = transformer, .pool = pool, .limits = *limits};
    m->tokens = must_alloc(tokens * sizeof *m->tokens);
    m->positions = must_alloc(tokens * sizeof *m->positions);
    m->slots = must_alloc(tokens * sizeof *m->slots);
    m->logit_rows = must_alloc(tokens * sizeof *m->logit_rows);
    m->wants = must_alloc(tokens * sizeof *m->wants);
    m->scores = must_alloc(tokens * sizeof *m->scores);
    m->sequences = must_alloc(rows * sizeof *m->sequences);
    m->first_rows = must_alloc(rows * sizeof *m->first_rows);
    m->results = must_alloc(rows * sizeof *m->results);
    m->threads = thread_pool_size(pool);
    m->samplers = must_alloc((size_t)m->threads * sizeof *m->samplers);
    m->rows = must_alloc((size_t)m->threads * sizeof *m->rows);
    int32_t vocab = transformer->config.vocab;
    for (int i = 0; i < m->threads; i++) {
        m->samplers[i] = sampler_create(vocab);
        m->rows[i] = must_alloc((size_t)vocab * sizeof **m->rows);
    }
    return m;
}

void model_executor_free(struct model_executor *m)
{
    if (!m) return;
    for (int i = 0; i < m->threads; i++) {
        sampler_free(m->samplers[i]);
        free(m->rows[i]);
    }
    void *arrays[] = {m->samplers,  m->rows,       m->tokens,  m->positions,
                      m->slots,     m->logit_rows, m->wants,   m->scores,
                      m->sequences, m->first_rows, m->results, m->spans};
    for (size_t i = 0; i < COUNT_OF(arrays); i++)
        free(arrays[i]);
    free(m);
}

struct executor model_executor_table(struct model_executor *m)
{
    static const struct executor_ops ops = {capacity, submit, collect};
    return (struct executor){.ops = &ops, .self = m};
}
