#include "support_simulated_executor.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    int32_t token, position;
    int64_t written; /* the step that wrote it */
};

struct flight {
    const struct step_plan *plan;
    uint64_t ticket, sum;
    struct row_result *results; /* [max_rows], kept for the next step's previous_row */
    struct token_score *scores; /* [max_tokens], what results[].scores point into */
};

struct simulated {
    struct simulated_options options;
    struct rng rng;
    struct slot *slots; /* [block_count * KV_BLOCK_SLOTS] */
    struct flight flights[2];
    int32_t oldest, in_flight;
    struct row_result *last_results; /* of the step collected last */
    uint64_t tickets;
    struct simulated_counts counts;
};

uint64_t simulated_hash_start(void)
{
    return 0x243f6a8885a308d3u;
}

uint64_t simulated_hash(uint64_t hash, int32_t token, int32_t position)
{
    return mix64(hash ^ ((uint64_t)(uint32_t)token << 32 | (uint32_t)position)) + 1;
}

static bool is_withheld(const struct sample_spec *spec, int32_t token, uint64_t index)
{
    if (index >= (uint64_t)spec->withheld_until) return false;
    for (int32_t i = 0; i < spec->withheld_count; i++)
        if (spec->withheld[i] == token) return true;
    return false;
}

struct token_score simulated_draw(int32_t vocab, uint64_t hash, const struct sample_spec *spec,
                                  uint64_t index)
{
    if (spec->temperature > 0) hash ^= rng_at(spec->seed, index);
    struct token_score result = {.token = (int32_t)(mix64(hash) % (uint64_t)vocab)};
    for (int32_t i = 0; i < vocab && is_withheld(spec, result.token, index); i++)
        result.token = (result.token + 1) % vocab;
    if (spec->want_logprob) result.logprob = -1.0f - (float)result.token;
    result.top_count = min_i32(spec->top_logprobs, vocab);
    return result;
}

/* The score of `token` after a context with this hash. */
static struct token_score score_after(uint64_t hash, int32_t token, int32_t top)
{
    uint64_t bits = mix64(hash ^ (uint64_t)token);
    return (struct token_score){
        .token = token, .logprob = -(float)(bits % 4096) / 64, .top_count = top};
}

float simulated_prompt_logprob(const int32_t *prompt, int32_t position)
{
    uint64_t hash = simulated_hash_start();
    for (int32_t i = 0; i < position; i++)
        hash = simulated_hash(hash, prompt[i], i);
    return score_after(hash, prompt[position], 0).logprob;
}

void simulated_answer(int32_t vocab, const int32_t *prompt, int32_t prompt_count,
                      const struct sample_spec *spec, int32_t count, int32_t *out)
{
    uint64_t hash = simulated_hash_start();
    int32_t position = 0;
    for (; position < prompt_count; position++)
        hash = simulated_hash(hash, prompt[position], position);
    for (int32_t i = 0; i < count; i++, position++) {
        out[i] = simulated_draw(vocab, hash, spec, (uint64_t)i).token;
        hash = simulated_hash(hash, out[i], position);
    }
}

struct simulated *simulated_create(const struct simulated_options *options)
{
    struct simulated *sim = must_alloc(sizeof *sim);
    const struct executor_capacity *capacity = &options->capacity;
    sim->options = *options;
    sim->rng = (struct rng){options->seed};
    sim->slots = must_alloc((size_t)capacity->block_count * KV_BLOCK_SLOTS * sizeof *sim->slots);
    size_t bytes = (size_t)capacity->max_rows * sizeof(struct row_result);
    sim->last_results = must_alloc(bytes);
    for (int i = 0; i < 2; i++) {
        sim->flights[i].results = must_alloc(bytes);
        sim->flights[i].scores =
            must_alloc((size_t)capacity->max_tokens * sizeof(struct token_score));
    }
    for (int32_t block = 0; block < capacity->block_count; block++)
        simulated_poison(sim, block);
    return sim;
}

void simulated_free(struct simulated *sim)
{
    invariant(sim->in_flight == 0, "%d steps are in flight at the end", sim->in_flight);
    for (int i = 0; i < 2; i++) {
        free(sim->flights[i].results);
        free(sim->flights[i].scores);
    }
    free(sim->last_results);
    free(sim->slots);
    free(sim);
}

struct simulated_counts simulated_counts(const struct simulated *sim)
{
    return sim->counts;
}

static void poison_slot(struct slot *slot)
{
    *slot = (struct slot){.token = -7, .position = -7};
}

void simulated_poison(struct simulated *sim, int32_t block)
{
    for (int32_t i = 0; i < KV_BLOCK_SLOTS; i++)
        poison_slot(&sim->slots[block * KV_BLOCK_SLOTS + i]);
}

/* --- what a plan must keep to */

static int32_t span_blocks(const struct kv_span *span)
{
    return (span->first_slot + span->length + KV_BLOCK_SLOTS - 1) / KV_BLOCK_SLOTS;
}

static uint64_t sum_bytes(uint64_t sum, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum = (sum ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return sum;
}

/* Of everything the plan points at. Field by field where a struct has padding. */
static uint64_t sum_plan(const struct step_plan *plan)
{
    uint64_t sum = sum_bytes(1, &plan->row_count, sizeof plan->row_count);
    for (int32_t r = 0; r < plan->row_count; r++) {
        const struct plan_row *row = &plan->rows[r];
        sum = sum_bytes(sum, &row->sequence, sizeof row->sequence);
        sum = sum_bytes(sum, &row->sample_index, sizeof row->sample_index);
        int32_t numbers[] = {row->count, row->previous_row, row->first_position,
                             row->view.span_count, row->view.length};
        sum = sum_bytes(sum, numbers, sizeof numbers);
        if (row->previous_row < 0)
            sum = sum_bytes(sum, row->tokens, (size_t)row->count * sizeof *row->tokens);
        for (int32_t i = 0; i < row->view.span_count; i++) {
            const struct kv_span *span = &row->view.spans[i];
            sum = sum_bytes(sum, &span->first_slot, 3 * sizeof(int32_t));
            sum = sum_bytes(sum, span->blocks, (size_t)span_blocks(span) * sizeof *span->blocks);
        }
        if (row->sample) sum = sum_bytes(sum, &row->sample->seed, sizeof row->sample->seed);
        for (int32_t i = 0; i < row->history_count; i++)
            sum = sum_bytes(sum, row->history[i].tokens,
                            (size_t)row->history[i].count * sizeof(int32_t));
        if (row->target_count)
            sum = sum_bytes(sum, row->targets, (size_t)row->target_count * sizeof *row->targets);
    }
    for (int32_t i = 0; i < plan->copy_count; i++)
        sum = sum_bytes(sum, &plan->copies[i], sizeof plan->copies[i]);
    return sum;
}

static void check_view(const struct simulated *sim, const struct plan_row *row)
{
    int32_t length = 0;
    for (int32_t i = 0; i < row->view.span_count; i++) {
        const struct kv_span *span = &row->view.spans[i];
        invariant(span->first_slot >= 0 && span->first_slot < KV_BLOCK_SLOTS && span->length > 0,
                  "a span of %d slots from %d", span->length, span->first_slot);
        for (int32_t b = 0; b < span_blocks(span); b++)
            invariant(span->blocks[b] >= 0 && span->blocks[b] < sim->options.capacity.block_count,
                      "block %d of %d", span->blocks[b], sim->options.capacity.block_count);
        length += span->length;
    }
    invariant(length == row->view.length && row->count >= 1 && row->count <= length,
              "%d new tokens in a view of %d, spans of %d", row->count, row->view.length, length);
    invariant(row->first_position >= 0 &&
                  row->first_position + row->count <= sim->options.capacity.max_context,
              "positions %d + %d of %d", row->first_position, row->count,
              sim->options.capacity.max_context);
}

/* previous_row may name a row of the one other step in flight that samples for the same sequence.
 */
static void check_previous(const struct simulated *sim, const struct plan_row *row)
{
    if (row->previous_row < 0) {
        for (int32_t i = 0; i < row->count; i++)
            invariant(row->tokens[i] >= 0 && row->tokens[i] < sim->options.capacity.vocab,
                      "token %d of a vocabulary of %d", row->tokens[i],
                      sim->options.capacity.vocab);
        return;
    }
    invariant(sim->in_flight == 1, "previous_row with %d steps in flight", sim->in_flight);
    const struct step_plan *before = sim->flights[sim->oldest].plan;
    invariant(row->previous_row < before->row_count && row->count == 1, "previous_row %d of %d",
              row->previous_row, before->row_count);
    const struct plan_row *source = &before->rows[row->previous_row];
    invariant(source->sample && source->sequence == row->sequence,
              "row %d of the step before belongs to sequence %llu, not %llu", row->previous_row,
              (unsigned long long)source->sequence, (unsigned long long)row->sequence);
}

static void check_plan(const struct simulated *sim, const struct step_plan *plan)
{
    const struct executor_capacity *capacity = &sim->options.capacity;
    int32_t tokens = 0;
    invariant(plan->row_count >= 1 && plan->row_count <= capacity->max_rows, "%d rows of %d",
              plan->row_count, capacity->max_rows);
    for (int32_t r = 0; r < plan->row_count; r++) {
        check_view(sim, &plan->rows[r]);
        check_previous(sim, &plan->rows[r]);
        tokens += plan->rows[r].count;
        for (int32_t other = 0; other < r; other++)
            invariant(plan->rows[other].sequence != plan->rows[r].sequence,
                      "sequence %llu has two rows", (unsigned long long)plan->rows[r].sequence);
    }
    invariant(tokens == plan->token_count && tokens <= capacity->max_tokens,
              "%d tokens, %d planned, %d allowed", tokens, plan->token_count, capacity->max_tokens);
}

/* --- the step itself */

static struct slot *context_slot(struct simulated *sim, const struct kv_view *view, int32_t at)
{
    const struct kv_span *span = view->spans;
    while (at >= span->length)
        at -= span++->length;
    int32_t slot = span->first_slot + at;
    return &sim->slots[span->blocks[slot / KV_BLOCK_SLOTS] * KV_BLOCK_SLOTS +
                       slot % KV_BLOCK_SLOTS];
}

static void write_row(struct simulated *sim, const struct flight *flight,
                      const struct plan_row *row)
{
    for (int32_t i = 0; i < row->count; i++) {
        struct slot *slot = context_slot(sim, &row->view, row->view.length - row->count + i);
        invariant(slot->written != (int64_t)flight->ticket, "a slot is written twice in a step");
        int32_t token = row->previous_row < 0 ? row->tokens[i]
                                              : sim->last_results[row->previous_row].sampled.token;
        *slot = (struct slot){token, row->first_position + i, (int64_t)flight->ticket};
    }
}

/* The history is what the view exposes, span by span, but for the token that was still in flight.
 * (After a failed step the slots of rows that are dropped hold garbage.) */
static void check_history(struct simulated *sim, const struct plan_row *row)
{
    int32_t at = 0, last = row->history_count - 1;
    invariant(row->history_count == row->view.span_count, "%d runs of history beside %d spans",
              row->history_count, row->view.span_count);
    for (int32_t r = 0; r <= last; r++) {
        const struct token_run *run = &row->history[r];
        int32_t length = row->view.spans[r].length;
        int32_t known = run->count + (r == last && row->previous_row >= 0);
        invariant(r == last ? known >= length && row->answer_count <= run->count : known == length,
                  "run %d of the history has %d tokens, %d of the answer, its span %d", r,
                  run->count, row->answer_count, length);
        int32_t comparable = sim->counts.failures ? 0 : min_i32(run->count, length);
        for (int32_t i = 0; i < comparable; i++)
            invariant(context_slot(sim, &row->view, at + i)->token == run->tokens[i],
                      "token %d of run %d of the history is %d, the view has %d", i, r,
                      run->tokens[i], context_slot(sim, &row->view, at + i)->token);
        at += length;
    }
}

/* Whatever is copied was written by a step before this one. */
static void copy_blocks(struct simulated *sim, const struct flight *flight)
{
    for (int32_t i = 0; i < flight->plan->copy_count; i++) {
        const struct block_copy *copy = &flight->plan->copies[i];
        invariant(copy->slots > 0 && copy->slots < KV_BLOCK_SLOTS && copy->from != copy->to,
                  "a copy of %d slots from block %d to %d", copy->slots, copy->from, copy->to);
        for (int32_t slot = 0; slot < copy->slots; slot++) {
            struct slot *to = &sim->slots[copy->to * KV_BLOCK_SLOTS + slot];
            const struct slot *from = &sim->slots[copy->from * KV_BLOCK_SLOTS + slot];
            invariant(from->written != (int64_t)flight->ticket &&
                          to->written != (int64_t)flight->ticket,
                      "block %d is copied to %d, and another copy of the step writes one of them",
                      copy->from, copy->to);
            invariant(from->position >= 0 || sim->counts.failures, "slot %d of block %d is empty",
                      slot, copy->from);
            *to = *from;
            to->written = (int64_t)flight->ticket;
            sim->counts.copied_slots++;
        }
    }
}

/* Walks the view once: the scores of the row's targets on the way, the sampled token at its end. */
static struct row_result compute_row(struct simulated *sim, const struct plan_row *row,
                                     struct token_score *scores)
{
    struct row_result result = {.sampled.token = -1, .scores = scores};
    uint64_t hash = simulated_hash_start();
    int32_t before = row->view.length - row->count;
    check_history(sim, row);
    for (int32_t i = 0; i < row->view.length; i++) {
        const struct slot *slot = context_slot(sim, &row->view, i);
        hash = simulated_hash(hash, slot->token, slot->position);
        if (i >= before && i - before < row->target_count)
            scores[i - before] = score_after(hash, row->targets[i - before], row->target_top);
    }
    if (!row->sample) return result;
    result.sampled =
        simulated_draw(sim->options.capacity.vocab, hash, row->sample, row->sample_index);
    if (sim->options.bad_tokens > 0 && rng_unit(&sim->rng) < sim->options.bad_tokens)
        result.sampled.token = sim->options.capacity.vocab;
    return result;
}

static void compute_step(struct simulated *sim, struct flight *flight, struct row_result *results)
{
    const struct step_plan *plan = flight->plan;
    struct token_score *scores = flight->scores;
    copy_blocks(sim, flight);
    for (int32_t r = 0; r < plan->row_count; r++)
        write_row(sim, flight, &plan->rows[r]);
    for (int32_t r = 0; r < plan->row_count; r++) {
        results[r] = flight->results[r] = compute_row(sim, &plan->rows[r], scores);
        scores += plan->rows[r].count;
    }
}

static void simulated_capacity(void *self, struct executor_capacity *capacity)
{
    *capacity = ((struct simulated *)self)->options.capacity;
}

static bool fails(struct simulated *sim, double share)
{
    bool failed = share > 0 && rng_unit(&sim->rng) < share;
    sim->counts.failures += failed;
    return failed;
}

static enum status simulated_submit(void *self, const struct step_plan *plan, uint64_t *ticket,
                                    struct error *err)
{
    struct simulated *sim = self;
    invariant(sim->in_flight < sim->options.capacity.depth, "%d steps are in flight already",
              sim->in_flight);
    check_plan(sim, plan);
    if (fails(sim, sim->options.submit_failures)) return fail(err, ST_NO_DEVICE, "no submit today");
    struct flight *flight = &sim->flights[(sim->oldest + sim->in_flight++) % 2];
    flight->plan = plan;
    flight->sum = sum_plan(plan);
    flight->ticket = *ticket = ++sim->tickets;
    sim->counts.most_in_flight = max_i32(sim->counts.most_in_flight, sim->in_flight);
    return ST_OK;
}

static void count_step(struct simulated *sim, const struct step_plan *plan)
{
    struct simulated_counts *counts = &sim->counts;
    counts->steps++;
    counts->rows += plan->row_count;
    counts->tokens += plan->token_count;
    counts->copies += plan->copy_count;
    counts->most_rows = max_i32(counts->most_rows, plan->row_count);
    counts->most_tokens = max_i32(counts->most_tokens, plan->token_count);
    if (sim->options.now_us) *sim->options.now_us += 1000 + 10 * plan->token_count;
}

static void spoil_step(struct simulated *sim, const struct flight *flight)
{
    const struct step_plan *plan = flight->plan;
    for (int32_t r = 0; r < plan->row_count; r++) {
        const struct plan_row *row = &plan->rows[r];
        for (int32_t i = 0; i < row->count; i++)
            poison_slot(context_slot(sim, &row->view, row->view.length - 1 - i));
        flight->results[r] = (struct row_result){.sampled.token = 0};
    }
}

static enum status simulated_collect(void *self, uint64_t ticket, struct row_result *results,
                                     struct error *err)
{
    struct simulated *sim = self;
    struct flight *flight = &sim->flights[sim->oldest];
    const struct step_plan *plan = flight->plan;
    invariant(sim->in_flight > 0 && flight->ticket == ticket, "ticket %llu is not the oldest",
              (unsigned long long)ticket);
    invariant(flight->sum == sum_plan(plan), "the plan changed while it was in flight");
    bool failed = fails(sim, sim->options.collect_failures);
    if (failed)
        spoil_step(sim, flight);
    else
        compute_step(sim, flight, results);
    count_step(sim, plan);
    memcpy(sim->last_results, flight->results, (size_t)plan->row_count * sizeof *results);
    sim->oldest = (sim->oldest + 1) % 2;
    sim->in_flight--;
    return failed ? fail(err, ST_INTERNAL, "the device fell over") : ST_OK;
}

struct executor simulated_executor(struct simulated *sim)
{
    static const struct executor_ops ops = {simulated_capacity, simulated_submit,
                                            simulated_collect};
    return (struct executor){&ops, sim};
}
