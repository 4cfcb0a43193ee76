/* Stages: how what ended becomes the context of what comes next. sequence.h has fork and join in
 * words. */
#include "scheduler/sequence.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

/* --- keys */

struct block_key sequence_key(const struct block_hasher *hasher, const struct sequence *seq,
                              int32_t blocks)
{
    if (blocks == seq->chained) return seq->chain;
    if (blocks + 1 == seq->chained) return seq->before;
    struct block_key key = sequence_root(seq);
    for (int32_t i = 0; i < blocks; i++) {
        int32_t slot = i * KV_BLOCK_SLOTS;
        key = block_key_next(hasher, key, sequence_first_position(seq) + slot, seq->tokens + slot);
    }
    return key;
}

static struct block_key join_key(const struct block_hasher *hasher, const struct stage *branches)
{
    const struct context *context = branches->context;
    struct block_joiner joiner;
    block_joiner_begin(&joiner, hasher, context->key);
    for (int32_t i = 0; i < branches->count; i++) {
        const struct sequence *seq = &branches->sequences[i];
        int32_t blocks = seq->length / KV_BLOCK_SLOTS, first = i ? context->copied + 1 : 0;
        block_joiner_add(&joiner, sequence_key(hasher, seq, blocks),
                         seq->tokens + blocks * KV_BLOCK_SLOTS, seq->length % KV_BLOCK_SLOTS,
                         first % KV_BLOCK_SLOTS, seq->length - first);
    }
    return block_joiner_end(&joiner);
}

/* Branches of `stages` have a domain of their own, so that no flat prompt finds them; those of
 * n > 1 are flat prompts themselves. */
static struct block_key fork_key(const struct block_hasher *hasher, const struct request *request,
                                 const struct stage *stage)
{
    const struct context *context = stage->context;
    struct block_key key =
        sequence_key(hasher, context->parent.sequence, context->shared / KV_BLOCK_SLOTS);
    bool flat = !stage->parallel || !request->params.events.next;
    return flat ? key : block_key_branch(hasher, key);
}

/* --- contexts */

static void context_free(struct context *context)
{
    if (!context) return;
    free(context->spans);
    free(context->runs);
    free(context->pieces);
    free(context);
}

static struct context *context_alloc(int32_t pieces)
{
    struct context *context = try_alloc(1, sizeof *context);
    if (!context || pieces == 0) return context;
    context->spans = try_alloc((size_t)pieces, sizeof *context->spans);
    context->runs = try_alloc((size_t)pieces, sizeof *context->runs);
    context->pieces = try_alloc((size_t)pieces, sizeof *context->pieces);
    if (context->spans && context->runs && context->pieces) return context;
    context_free(context);
    return NULL;
}

static void add_pieces(struct context *context, const struct context *from)
{
    if (!from || from->count == 0) return;
    size_t count = (size_t)from->count;
    memcpy(context->spans + context->count, from->spans, count * sizeof *from->spans);
    memcpy(context->runs + context->count, from->runs, count * sizeof *from->runs);
    memcpy(context->pieces + context->count, from->pieces, count * sizeof *from->pieces);
    context->count += from->count;
    context->slots += from->slots;
}

/* The slots [first, end) of a sequence. */
static void add_piece(struct context *context, const struct sequence *seq, int32_t first,
                      int32_t end, int32_t need)
{
    if (first >= end) return;
    int32_t at = context->count++;
    context->spans[at] = (struct kv_span){.blocks = seq->table.blocks + first / KV_BLOCK_SLOTS,
                                          .first_slot = first % KV_BLOCK_SLOTS,
                                          .length = end - first,
                                          .first_position = sequence_first_position(seq) + first};
    context->runs[at] = (struct token_run){seq->tokens + first, end - first};
    context->pieces[at] = (struct piece){seq, need};
    context->slots += end - first;
}

static struct context *fork_context(const struct sequence *parent)
{
    const struct context *before = parent->stage->context;
    struct context *context = context_alloc((before ? before->count : 0) + 1);
    if (!context) return NULL;
    int32_t fork = parent->length - 1;
    context->parent = (struct piece){parent, fork};
    context->copied = fork % KV_BLOCK_SLOTS;
    context->shared = fork - context->copied;
    context->position = sequence_first_position(parent) + context->shared;
    add_pieces(context, before);
    add_piece(context, parent, 0, context->shared, fork);
    return context;
}

static struct context *join_context(const struct stage *branches)
{
    const struct context *before = branches->context;
    struct context *context = context_alloc(before->count + branches->count);
    if (!context) return NULL;
    add_pieces(context, before);
    for (int32_t i = 0; i < branches->count; i++) {
        const struct sequence *seq = &branches->sequences[i];
        add_piece(context, seq, i ? before->copied + 1 : 0, seq->length, seq->length);
        int32_t end = sequence_first_position(seq) + seq->length;
        if (end > context->position) context->position = end;
    }
    return context;
}

bool context_pieces_landed(const struct context *context)
{
    const struct piece *parent = &context->parent;
    if (parent->sequence && parent->sequence->landed < parent->need) return false;
    for (int32_t i = 0; i < context->count; i++)
        if (context->pieces[i].sequence->landed < context->pieces[i].need) return false;
    return true;
}

/* --- the sequences of a stage */

/* Tokens that would end the answer are not drawn before min_tokens, as in vLLM. */
static void withhold_stops(struct sample_spec *sample, const struct request_params *params)
{
    int32_t first = params->ignore_eos ? params->eos_count : 0;
    sample->withheld_until = params->min_tokens;
    sample->withheld_count = params->min_tokens > 0 ? params->stop_count - first : 0;
    sample->withheld = sample->withheld_count ? params->stop_ids + first : NULL;
}

/* What stands before a branch's prompt in its own slots: [*count]. */
static const int32_t *tokens_before(const struct context *context, int32_t prompt_count,
                                    int32_t *count)
{
    *count = 0;
    if (!context) return NULL;
    if (context->parent.sequence) {
        *count = context->copied + 1;
        return context->parent.sequence->tokens + context->shared;
    }
    /* Behind a join without a prompt: the last token is read once more, to have logits. */
    const struct token_run *last = &context->runs[context->count - 1];
    *count = prompt_count == 0;
    return last->tokens + last->count - 1;
}

/* Positions behind what is given, by the extent that the request declared. */
static int32_t positions_left(const struct sequence *seq)
{
    return seq->request->params.extent.positions - sequence_first_position(seq) - seq->given;
}

static bool sequence_init(struct sequence *seq, struct request *request, struct stage *stage,
                          const struct branch_params *branch)
{
    const struct request_params *params = &request->params;
    int32_t before;
    const int32_t *copied = tokens_before(stage->context, branch->prompt_count, &before);
    seq->request = request;
    seq->stage = stage;
    seq->sample = params->sample;
    seq->sample.seed = branch->seed;
    withhold_stops(&seq->sample, params);
    seq->given = seq->length = before + branch->prompt_count;
    seq->max_tokens = branch->max_tokens;
    if (params->events.next)
        seq->max_tokens = min_i32(branch->max_tokens, max_i32(0, positions_left(seq)));
    seq->capacity = seq->given + seq->max_tokens;
    bool may_append = params->events.next && !stage->last;
    if (may_append) seq->capacity += SEQUENCE_APPENDED;
    seq->tokens = try_alloc((size_t)seq->capacity, sizeof *seq->tokens);
    if (may_append) seq->spare = try_alloc((size_t)seq->capacity, sizeof *seq->spare);
    if (!seq->tokens || (may_append && !seq->spare) ||
        !block_table_init(&seq->table, seq->capacity))
        return false;
    if (before) memcpy(seq->tokens, copied, (size_t)before * sizeof *seq->tokens);
    if (branch->prompt_count)
        memcpy(seq->tokens + before, branch->prompt,
               (size_t)branch->prompt_count * sizeof *seq->tokens);
    return true;
}

/* false: out of memory. The first stage has no context. */
static bool make_context(const struct request *request, struct stage *stage)
{
    const struct stage *before = request->stage;
    if (!before) return true;
    invariant(!before->parallel || (!stage->parallel && before->context),
              "request %llu: a parallel stage behind a parallel one",
              (unsigned long long)request->id);
    stage->context = before->parallel ? join_context(before) : fork_context(&before->sequences[0]);
    return stage->context != NULL;
}

struct stage *stage_create(struct request *request, const struct stage_params *params)
{
    struct stage *stage =
        try_alloc(1, sizeof *stage + (size_t)params->count * sizeof stage->sequences[0]);
    if (!stage) return NULL;
    stage->parallel = params->parallel;
    stage->last = params->last;
    stage->count = stage->unfinished = params->count;
    bool made = make_context(request, stage);
    for (int32_t i = 0; i < params->count && made; i++) {
        stage->sequences[i].branch = i;
        stage->sequences[i].index = params->first_index + i;
        made = sequence_init(&stage->sequences[i], request, stage, &params->branches[i]);
    }
    if (made) return stage;
    stage_free(stage);
    return NULL;
}

void stage_free(struct stage *stage)
{
    if (!stage) return;
    for (int32_t i = 0; i < stage->count; i++) {
        block_table_free_memory(&stage->sequences[i].table);
        free(stage->sequences[i].tokens);
        free(stage->sequences[i].spare);
    }
    context_free(stage->context);
    free(stage);
}

void stage_append(const struct block_hasher *hasher, struct request *request, struct stage *stage)
{
    struct stage *before = request->stage;
    if (before) {
        stage->context->key = stage->context->parent.sequence ? fork_key(hasher, request, stage)
                                                              : join_key(hasher, before);
        before->next = stage;
    } else {
        request->first_stage = stage;
    }
    request->stage = stage;
    request->any_absent = true;
    for (int32_t i = 0; i < stage->count; i++)
        stage->sequences[i].chain = sequence_root(&stage->sequences[i]);
}
