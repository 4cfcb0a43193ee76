/* Schedule: what becomes a step.
 *
 * Decode rows first, because each is one token that a reader waits for; then whoever can be
 * admitted; then prefill in what is left of the chunk. All in the one order of sequence_before, so
 * the sequence that stands first has a row in every step, and that is why everything accepted comes
 * to its end. Running sequences never exceed max_rows, and max_rows never the executor's tokens, so
 * a sequence in prefill always finds at least one token's room beside the decode rows.
 *
 * The policy (policy.h) says which sequences of a request may have a row: before the decode rows,
 * and again for those that were admitted. At least one of a request's is chosen, whatever the
 * policy; one in prefill may still find the chunk used up, or wait for another with its prompt.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <stdlib.h>

bool step_init(struct step *step, int32_t max_rows, int32_t max_tokens)
{
    size_t rows = (size_t)max_rows;
    *step = (struct step){.max_rows = max_rows, .max_tokens = max_tokens};
    step->rows = try_alloc(rows, sizeof *step->rows);
    step->spans = try_alloc(rows, sizeof *step->spans);
    step->runs = try_alloc(rows, sizeof *step->runs);
    step->owners = try_alloc(rows, sizeof *step->owners);
    step->results = try_alloc(rows, sizeof *step->results);
    return step->rows && step->spans && step->runs && step->owners && step->results;
}

void step_release(struct step *step)
{
    free(step->rows);
    free(step->spans);
    free(step->runs);
    free(step->owners);
    free(step->results);
}

void step_begin(struct step *step, uint64_t number)
{
    step->plan = (struct step_plan){.rows = step->rows};
    step->number = number;
}

/* The prompt's tokens whose log probability this row finds and nobody has reported yet. */
static void add_targets(struct plan_row *row, const struct sequence *seq)
{
    const struct request_params *params = &seq->request->params;
    if (!params->score_prompt || row->first_position + row->count <= seq->scored) return;
    row->target_count = min_i32(row->count, params->prompt_count - 1 - row->first_position);
    if (row->target_count <= 0) {
        row->target_count = 0;
        return;
    }
    row->targets = seq->tokens + row->first_position + 1;
    row->target_top = params->sample.top_logprobs;
}

void step_add_row(struct step *step, struct sequence *seq, int32_t count)
{
    const struct request_params *params = &seq->request->params;
    struct step_plan *plan = &step->plan;
    int32_t at = plan->row_count, end = seq->computed + count;
    invariant(at < step->max_rows && count <= step->max_tokens - plan->token_count,
              "row %d of %d, tokens %d + %d of %d", at, step->max_rows, plan->token_count, count,
              step->max_tokens);

    bool from_flight = seq->pending > 0; /* then the only token left is the one being sampled */
    bool samples = end == sequence_context(seq) && params->max_tokens > 0;
    step->spans[at] = block_table_span(&seq->table, end);
    step->runs[at] = (struct token_run){seq->tokens, sequence_known(seq)};
    step->owners[at] = seq;
    step->rows[at] = (struct plan_row){
        .sequence = seq->name,
        .tokens = from_flight ? NULL : seq->tokens + seq->computed,
        .count = count,
        .previous_row = from_flight ? seq->row : -1,
        .first_position = seq->computed,
        .view = {.spans = &step->spans[at], .span_count = 1, .length = end},
        .sample = samples ? &seq->sample : NULL,
        .sample_index = (uint64_t)(seq->generated_count + seq->pending),
        .history = &step->runs[at],
        .history_count = 1,
        .answer_count = seq->generated_count,
    };
    add_targets(&step->rows[at], seq);
    plan->row_count++;
    plan->token_count += count;

    seq->computed = end;
    seq->pending += samples;
    seq->in_flight++;
    seq->row = at;
    seq->row_step = step->number;
}

/* Prompt tokens computed for the first time, and tokens computed again after a preemption. */
static void count_row(struct scheduler *s, struct sequence *seq, int32_t from)
{
    struct request *request = seq->request;
    int32_t fresh_from = max_i32(from, seq->furthest);
    int32_t again = min_i32(seq->computed, seq->furthest) - from;
    if (again > 0) s->counters.recomputed_tokens += again;
    int32_t prompt_end = min_i32(seq->computed, request->params.prompt_count);
    if (prompt_end > fresh_from) s->counters.prompt_tokens += prompt_end - fresh_from;
    seq->furthest = max_i32(seq->furthest, seq->computed);
    if (request->stats_step != s->step_number) request->stats.steps++;
    request->stats_step = s->step_number;
}

/* A sequence whose last row is in flight, and ends it, wants none: it is not deferred. */
static void choose(struct scheduler *s)
{
    struct ready ready = {.sequences = s->ready, .step = s->step_number};
    for (int32_t i = 0; i < s->running_count; i++)
        if (sequence_wants_row(s->running[i])) s->ready[ready.count++] = s->running[i];
    policy_choose(&s->policy, &ready);
}

static bool may_have_row(const struct scheduler *s, const struct sequence *seq)
{
    return seq->chosen_step == s->step_number && sequence_wants_row(seq);
}

static void count_deferred(struct scheduler *s)
{
    for (int32_t i = 0; i < s->running_count; i++) {
        struct sequence *seq = s->running[i];
        if (seq->chosen_step == s->step_number || !sequence_wants_row(seq)) continue;
        s->counters.deferred_rows++;
        seq->request->stats.deferred_rows++;
    }
}

static void add_row(struct scheduler *s, struct step *step, struct sequence *seq, int32_t count)
{
    int32_t from = seq->computed;
    step_add_row(step, seq, count);
    count_row(s, seq, from);
}

/* One token for each sequence that is decoding. Preemption takes from the back of `running`, so
 * what stands before `i` keeps its row. */
static void add_decode_rows(struct scheduler *s, struct step *step)
{
    for (int32_t i = 0; i < s->running_count; i++) {
        struct sequence *seq = s->running[i];
        if (!sequence_is_decoding(seq) || !may_have_row(s, seq)) continue;
        if (make_room(s, seq, seq->computed + 1)) add_row(s, step, seq, 1);
    }
}

/* The chunk, filled in order. Admission took the blocks; a decoding sequence that found no block
 * has none here either. */
static void add_prefill_rows(struct scheduler *s, struct step *step)
{
    int32_t room = min_i32(s->prefill_chunk, step->max_tokens - step->plan.token_count);
    for (int32_t i = 0; i < s->running_count && room > 0; i++) {
        struct sequence *seq = s->running[i];
        if (sequence_is_decoding(seq) || !may_have_row(s, seq)) continue;
        prefix_catch_up(s, seq);
        if (prefix_is_coming(s, step, seq)) continue;
        int32_t count = min_i32(sequence_context(seq) - seq->computed, room);
        add_row(s, step, seq, count);
        room -= count;
    }
}

bool plan_step(struct scheduler *s, struct step *step)
{
    step_begin(step, ++s->step_number);
    choose(s);
    add_decode_rows(s, step);
    admit_waiting(s);
    choose(s);
    add_prefill_rows(s, step);
    count_deferred(s);
    return step->plan.row_count > 0;
}
