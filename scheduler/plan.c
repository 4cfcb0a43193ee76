/* Schedule: what becomes a step.
 *
 * Whoever can be admitted comes in, and leaves a free block for each sequence that is there. Then
 * decode rows, because each is one token that a reader waits for; then prefill in the chunk. All in
 * the one order of request_before, so the request that stands first has a row in every step, and
 * that is why everything accepted comes to its end. Running requests never exceed max_rows, and
 * max_rows never the executor's tokens, so each has at least one row; in prefill it may be one
 * token long when the chunk is used up. A predictor (step_load.h) may make the chunk smaller, so
 * that the step keeps to a target.
 *
 * The policy (policy.h) says which sequences of a request may have a row, and may make the chunk
 * smaller; it is asked again when somebody was preempted. At least one of a request's is chosen,
 * whatever the policy; one in prefill may still wait for another that computes the same prompt.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

bool step_init(struct step *step, int32_t max_rows, int32_t max_tokens)
{
    size_t rows = (size_t)max_rows;
    *step = (struct step){.max_rows = max_rows, .max_tokens = max_tokens};
    step->rows = try_alloc(rows, sizeof *step->rows);
    step->spans = try_alloc(rows, sizeof *step->spans);
    step->runs = try_alloc(rows, sizeof *step->runs);
    step->copies = try_alloc(rows, sizeof *step->copies);
    step->owners = try_alloc(rows, sizeof *step->owners);
    step->results = try_alloc(rows, sizeof *step->results);
    step->span_capacity = max_rows;
    return step->rows && step->spans && step->runs && step->copies && step->owners && step->results;
}

void step_release(struct step *step)
{
    void *arrays[] = {step->rows,   step->spans,  step->runs,
                      step->copies, step->owners, step->results};
    for (size_t i = 0; i < COUNT_OF(arrays); i++)
        free(arrays[i]);
}

/* Nothing points at the old ones: the step is not in flight. */
static void reserve_spans(struct step *step, int32_t need)
{
    if (need <= step->span_capacity) return;
    struct kv_span *spans = try_realloc(step->spans, (size_t)need, sizeof *spans);
    if (spans) step->spans = spans;
    struct token_run *runs = try_realloc(step->runs, (size_t)need, sizeof *runs);
    if (runs) step->runs = runs;
    if (spans && runs) step->span_capacity = need;
}

void step_begin(struct step *step, uint64_t number, int32_t spans)
{
    reserve_spans(step, spans);
    step->plan = (struct step_plan){.rows = step->rows, .copies = step->copies};
    step->span_count = 0;
    step->number = number;
}

static int32_t span_count(const struct sequence *seq)
{
    return 1 + (seq->stage->context ? seq->stage->context->count : 0);
}

bool step_has_spans(const struct step *step, const struct sequence *seq)
{
    return step->span_count + span_count(seq) <= step->span_capacity;
}

/* The prompt's tokens whose log probability this row finds and nobody has reported yet. */
static void add_targets(struct plan_row *row, const struct sequence *seq)
{
    const struct request_params *params = &seq->request->params;
    row->targets = NULL;
    row->target_count = row->target_top = 0;
    if (!params->score_prompt || seq != request_begin(seq->request)) return;
    if (row->first_position + row->count <= seq->scored) return;
    int32_t count = min_i32(row->count, params->prompt_count - 1 - row->first_position);
    if (count <= 0) return;
    row->target_count = count;
    row->targets = seq->tokens + row->first_position + 1;
    row->target_top = params->sample.top_logprobs;
}

/* A fork's first row: the parent's slots that the branch's own first block begins with. */
static void add_copy(struct step *step, const struct sequence *seq)
{
    const struct context *context = seq->stage->context;
    int32_t slots = sequence_start(seq);
    if (seq->computed > 0 || !context || slots <= 0) return;
    const struct block_table *from = &context->parent.sequence->table;
    step->copies[step->plan.copy_count++] =
        (struct block_copy){.from = from->blocks[context->shared / KV_BLOCK_SLOTS],
                            .to = seq->table.blocks[0],
                            .slots = slots};
}

/* The spans of the context, then its own `end` slots; their tokens beside them. */
static void add_view(struct step *step, struct plan_row *row, const struct sequence *seq,
                     int32_t end)
{
    const struct context *context = seq->stage->context;
    struct kv_span *spans = step->spans + step->span_count;
    struct token_run *runs = step->runs + step->span_count;
    int32_t before = context ? context->count : 0;
    if (before) {
        memcpy(spans, context->spans, (size_t)before * sizeof *spans);
        memcpy(runs, context->runs, (size_t)before * sizeof *runs);
    }
    spans[before] = block_table_span(&seq->table, end);
    spans[before].first_position = sequence_first_position(seq);
    runs[before] = (struct token_run){seq->tokens, seq->finished ? seq->needed : seq->length};
    step->span_count += before + 1;
    row->view = (struct kv_view){spans, before + 1, end + (context ? context->slots : 0)};
    row->history = runs;
    row->history_count = before + 1;
}

void step_add_row(struct step *step, struct sequence *seq, int32_t count)
{
    struct step_plan *plan = &step->plan;
    int32_t at = plan->row_count, start = sequence_start(seq), end = start + count;
    invariant(at < step->max_rows && count <= step->max_tokens - plan->token_count,
              "row %d of %d, tokens %d + %d of %d", at, step->max_rows, plan->token_count, count,
              step->max_tokens);

    bool from_flight = seq->pending > 0; /* then the only token left is the one being sampled */
    bool samples = !seq->finished && seq->max_tokens > 0 && end == sequence_target(seq);
    struct plan_row *row = &step->rows[at];
    add_copy(step, seq);
    step->owners[at] = seq;
    row->sequence = seq->name;
    row->tokens = from_flight ? NULL : seq->tokens + start;
    row->count = count;
    row->previous_row = from_flight ? seq->row : -1;
    row->first_position = sequence_first_position(seq) + start;
    row->sample = samples ? &seq->sample : NULL;
    row->sample_index = (uint64_t)(seq->generated + seq->pending);
    row->answer_count = seq->finished ? 0 : seq->generated;
    add_view(step, row, seq, end);
    add_targets(row, seq);
    plan->row_count++;
    plan->token_count += count;

    seq->computed = end;
    seq->pending += samples;
    seq->in_flight++;
    seq->request->in_flight++;
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
    int32_t prompt_end = min_i32(seq->computed, seq->given);
    fresh_from = max_i32(fresh_from, own_prompt(seq));
    if (prompt_end > fresh_from) s->counters.prompt_tokens += prompt_end - fresh_from;
    seq->furthest = max_i32(seq->furthest, seq->computed);
    if (request->stats_step != s->step_number) request->stats.steps++;
    request->stats_step = s->step_number;
}

/* Of the stages before the one that runs, behind ready[count]; returns the new count. One that
 * wanted a row and has it in this step's plan lacks nothing any more, so what is known of the
 * others is kept for the next step. */
static int32_t collect_ended(struct scheduler *s, struct request *request, int32_t count)
{
    bool lacks = false;
    for (struct stage *stage = request->first_stage; stage != request->stage; stage = stage->next)
        for (int32_t i = 0; i < stage->count; i++) {
            struct sequence *seq = &stage->sequences[i];
            bool has_row = seq->row_step == s->step_number;
            lacks = lacks || sequence_lacks(seq) || has_row;
            if ((has_row || sequence_wants_row(seq)) && count < s->ready_capacity)
                s->ready[count++] = seq;
        }
    for (int32_t i = 0; i < request->stage->count; i++)
        lacks = lacks || sequence_lacks(&request->stage->sequences[i]);
    request->ended_want = lacks;
    return count;
}

/* Of the stage that runs. */
static int32_t collect_live(struct scheduler *s, struct stage *stage, int32_t count)
{
    struct sequence *end = stage->sequences + stage->count, **ready = s->ready;
    int32_t capacity = s->ready_capacity;
    uint64_t step = s->step_number;
    bool landed = stage_context_landed(stage);
    for (struct sequence *seq = stage->sequences; seq < end; seq++)
        if (((landed && sequence_lacks_row(seq)) || seq->row_step == step) && count < capacity)
            ready[count++] = seq;
    return count;
}

/* Request by request, in the order of their stages: all that could use a row now, or have one. What
 * ended and is still to be computed for the stages behind is among them. (A sequence whose last row
 * is in flight, and ends it, wants none: it is not deferred.) */
static void collect_ready(struct scheduler *s)
{
    int32_t count = 0;
    for (int32_t i = 0; i < s->running_count; i++) {
        struct request *request = s->running[i];
        if (request->ended_want) count = collect_ended(s, request, count);
        count = collect_live(s, request->stage, count);
    }
    s->ready_count = count;
}

/* How many of them the policy chose already, when it was asked before in this step. */
static int32_t count_chosen(const struct scheduler *s)
{
    int32_t chosen = 0;
    for (int32_t i = 0; i < s->ready_count; i++)
        chosen += s->ready[i]->chosen_step == s->step_number;
    return chosen;
}

/* When the step that is planned will begin, as far as anybody can tell. */
static int64_t start_of_step(const struct scheduler *s)
{
    if (s->in_flight == 0) return s->began_us;
    const struct step *before = &s->steps[s->oldest];
    int64_t since = max_i64(before->began_us, s->collected_us);
    return max_i64(s->began_us, since + (int64_t)(s->fit.bias * before->predicted_us));
}

static void choose(struct scheduler *s, bool again)
{
    collect_ready(s);
    s->start_us = start_of_step(s);
    struct ready ready = {.sequences = s->ready,
                          .count = s->ready_count,
                          .chosen = again ? count_chosen(s) : 0,
                          .max_rows = s->max_rows,
                          .step = s->step_number,
                          .scratch = s->scratch,
                          .running = s->running,
                          .running_count = s->running_count,
                          .start_us = s->start_us,
                          .free_blocks = block_pool_available(s->pool),
                          .waiting = s->waiting.count,
                          .predictor = s->predictor,
                          .fit = s->fit,
                          .every_gap = s->every_gap,
                          .prefill_chunk = s->prefill_chunk};
    policy_choose(&s->policy, &ready);
    s->step_chunk = ready.prefill_chunk;
    s->late_last = ready.late_last;
    note_urgent(s, &ready);
    int32_t count = 0;
    for (int32_t i = 0; i < s->ready_count; i++)
        if (s->ready[i]->chosen_step == s->step_number) s->chosen[count++] = s->ready[i];
    s->chosen_count = count;
    s->any_deferred = count < s->ready_count;
}

/* Of one that was chosen. */
static bool may_have_row(const struct scheduler *s, const struct sequence *seq)
{
    return seq->row_step != s->step_number && seq->request->state == REQUEST_RUNNING &&
           sequence_wants_row(seq);
}

/* Those that were ready and not chosen. `same`: nobody came or went since the policy was asked. */
static void count_deferred(struct scheduler *s, bool same)
{
    for (int32_t i = 0; i < s->ready_count; i++) {
        struct sequence *seq = s->ready[i];
        if (seq->chosen_step == s->step_number || !(same || sequence_wants_row(seq))) continue;
        s->counters.deferred_rows++;
        seq->request->stats.deferred_rows++;
    }
}

static void add_row(struct scheduler *s, struct step *step, struct sequence *seq, int32_t count)
{
    int32_t from = sequence_start(seq);
    step_add_row(step, seq, count);
    count_row(s, seq, from);
}

/* One token for each sequence that has one left (its target is the slot behind). Making room
 * preempts only what stands behind, so what has a row keeps it. */
static void add_decode_rows(struct scheduler *s, struct step *step)
{
    for (int32_t i = 0; i < s->chosen_count; i++) {
        struct sequence *seq = s->chosen[i];
        if (!may_have_row(s, seq) || !step_has_spans(step, seq)) continue;
        /* What was appended when a sequence ended needs room too; its row comes with the prefill.
         */
        bool decodes = sequence_is_decoding(seq);
        if (!decodes && !seq->finished) continue;
        if (make_room(s, seq, sequence_target(seq)) && decodes) add_row(s, step, seq, 1);
    }
}

/* Of those chosen in place of others, whose blocks are there. */
static void add_new_decode_rows(struct scheduler *s, struct step *step)
{
    for (int32_t i = 0; i < s->chosen_count; i++) {
        struct sequence *seq = s->chosen[i];
        if (!may_have_row(s, seq) || !sequence_is_decoding(seq)) continue;
        /* (One chosen before that was away meanwhile comes on top of those chosen in its place.) */
        if (step->plan.row_count == step->max_rows) return;
        if (!step_has_spans(step, seq) || step->plan.token_count == step->max_tokens) continue;
        if (block_table_missing(&seq->table, sequence_start(seq) + 1) == 0)
            add_row(s, step, seq, 1);
    }
}

/* Of those chosen, keeps the ones that are still to have a row, which is prefill, in the order in
 * which they fill the chunk. */
static void keep_prefill(struct scheduler *s)
{
    int32_t count = 0, late = 0;
    for (int32_t i = 0; i < s->chosen_count; i++) {
        struct sequence *seq = s->chosen[i];
        if (!may_have_row(s, seq) || sequence_is_decoding(seq)) continue;
        if (s->late_last && request_is_late(seq->request, s->start_us))
            s->scratch[late++] = seq;
        else
            s->chosen[count++] = seq;
    }
    for (int32_t i = 0; i < late; i++)
        s->chosen[count++] = s->scratch[i];
    s->chosen_count = count;
}

/* Adds what the prefill rows of a chunk of `room` tokens would be, as add_prefill_rows fills it. */
static void add_prefill_load(const struct scheduler *s, int32_t room, struct step_load *load)
{
    int32_t left = s->chosen_count;
    for (int32_t i = 0; i < s->chosen_count; i++) {
        const struct sequence *seq = s->chosen[i];
        const struct context *context = seq->stage->context;
        int32_t start = sequence_start(seq), before = context ? context->slots : 0;
        int32_t count = min_i32(max_i32(1, room - --left), sequence_target(seq) - start);
        if (block_table_missing(&seq->table, sequence_target(seq)) > 0) continue;
        load->prefill_tokens += count;
        load->prefill_attention += prefill_attention(count, before + start + count);
        room -= count;
    }
}

static bool keeps_to_target(const struct scheduler *s, const struct step_load *decode, int32_t room)
{
    struct step_load load = *decode;
    add_prefill_load(s, room, &load);
    return s->predictor.predict(s->predictor.self, &load) <= s->step_target_us;
}

/* The tokens that prefill may have in this step: prefill_chunk, or as many as fit the target beside
 * the rows that are planned already. By bisection: where a longer step is predicted to be shorter
 * (an edge of a tile), it may be a little less than the most. */
static int32_t chunk_of_step(const struct scheduler *s, const struct step *step)
{
    int32_t high = min_i32(s->step_chunk, s->capacity.max_tokens - step->plan.token_count);
    if (s->step_target_us <= 0 || high <= LEAST_CHUNK || s->chosen_count == 0) return high;
    struct step_load decode = load_meter_measure(s->meter, step->rows, step->plan.row_count);
    if (keeps_to_target(s, &decode, high)) return high;
    int32_t low = LEAST_CHUNK; /* taken whatever it costs */
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (keeps_to_target(s, &decode, middle))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The chunk, filled in order, but each sequence that was chosen gets one token at least. Admission
 * took the blocks; a decoding sequence that found no block has none here either. Returns whether
 * one needs no row any more, because the tree had all that was left. */
static bool add_prefill_rows(struct scheduler *s, struct step *step)
{
    bool found = false;
    keep_prefill(s);
    int32_t left = s->chosen_count;
    int32_t room = chunk_of_step(s, step);
    for (int32_t i = 0; i < s->chosen_count; i++) {
        struct sequence *seq = s->chosen[i];
        left--;
        if (block_table_missing(&seq->table, sequence_target(seq)) > 0) continue;
        prefix_catch_up(s, seq);
        stage_pass_trunk(s, seq->request);
        if (!sequence_wants_row(seq)) {
            found = true;
            continue;
        }
        if (prefix_is_coming(s, step, seq) || !step_has_spans(step, seq)) continue;
        int32_t count = max_i32(1, room - left);
        count = min_i32(count, sequence_target(seq) - sequence_start(seq));
        count = min_i32(count, step->max_tokens - step->plan.token_count);
        if (count <= 0 || step->plan.row_count == step->max_rows) break;
        add_row(s, step, seq, count);
        room -= count;
    }
    return found;
}

/* Room for the most sequences that may be ready in a plan of now; blocks admit more only below. */
static void reserve_ready(struct scheduler *s)
{
    if (s->sequence_count <= s->ready_capacity) return;
    size_t count = (size_t)s->sequence_count;
    struct sequence **ready = try_realloc(s->ready, count, sizeof *ready);
    if (ready) s->ready = ready;
    struct sequence **chosen = try_realloc(s->chosen, count, sizeof *chosen);
    if (chosen) s->chosen = chosen;
    struct sequence **scratch = try_realloc(s->scratch, 2 * count, sizeof *scratch);
    if (scratch) s->scratch = scratch;
    if (ready && chosen && scratch) s->ready_capacity = (int32_t)count;
}

/* Each running request comes to a stage that has something to compute, and a sequence of it in. */
static bool pass_stages(struct scheduler *s)
{
    bool any = false;
    admit_firsts(s);
    for (int32_t i = 0; i < s->running_count; i++) {
        struct request *request = s->running[i];
        if (request->stage->sequences[0].max_tokens > 0) continue; /* it samples */
        request_hold(request);
        any = request_pass_stage(s, request) || any;
        if (request->state != REQUEST_RUNNING) i--;
        request_release(s, request);
    }
    return any;
}

bool plan_step(struct scheduler *s, struct step *step)
{
    while (pass_stages(s)) {
    }
    reserve_ready(s);
    step_begin(step, ++s->step_number, (int32_t)s->span_count);
    admit_waiting(s);
    uint64_t change = s->residency_change;
    choose(s, false);
    add_decode_rows(s, step);
    bool again = s->residency_change != change; /* else the choice would be the same */
    do { /* again when the choice fell only on what needs no row: the policy leaves others out */
        if (again) choose(s, true);
        if (again) add_new_decode_rows(s, step);
        again = true;
    } while (add_prefill_rows(s, step) && step->plan.row_count == 0);
    if (s->any_deferred) count_deferred(s, s->residency_change == change);
    return step->plan.row_count > 0;
}
