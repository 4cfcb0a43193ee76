/* Prefix reuse: a sequence takes what the prefix tree has of its context, and leaves there what it
 * has computed.
 *
 * Taking happens at admission, and again before each chunk of prefill, because another sequence may
 * have computed the same prompt meanwhile. The last token known is always computed: its logits are
 * wanted. A prompt that is scored takes nothing: the logits of all of it are wanted.
 *
 * Leaving happens when a row was collected, so that a step that fails leaves nothing behind.
 * Generated tokens are left too: the next turn of a chat begins with them.
 *
 * The promise to the tree: a sequence holds the whole chain of what it leaves, and gives blocks
 * back deepest first. Where the tree has the same content in another block already, the sequence
 * changes over to that one; while a row of it is in flight, whose plan names the old block, it
 * cannot, and stops leaving blocks (`detached`) until it starts anew.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <string.h>

static const int32_t *block_tokens(const struct sequence *seq, int32_t index)
{
    return seq->tokens + index * KV_BLOCK_SLOTS;
}

static int32_t parent_of(const struct sequence *seq, int32_t index)
{
    return index > 0 ? seq->table.blocks[index - 1] : -1;
}

void prefix_reset(struct sequence *seq)
{
    seq->chain = seq->request->root;
    seq->chained = 0;
    seq->detached = false;
}

/* The sequence's next block as the tree has it, and its key; -1: not there, or not to be taken. */
static int32_t find_next(const struct scheduler *s, const struct sequence *seq,
                         struct block_key *key)
{
    int32_t index = seq->chained, position = index * KV_BLOCK_SLOTS;
    if (seq->request->params.score_prompt || seq->detached || seq->pending > 0) return -1;
    if (position + KV_BLOCK_SLOTS >= sequence_known(seq)) return -1;
    const int32_t *tokens = block_tokens(seq, index);
    *key = block_key_next(&s->limits.hasher, seq->chain, position, tokens);
    return prefix_tree_find(s->pool, *key, parent_of(seq, index), position, tokens);
}

static void link_block(struct sequence *seq, struct block_key key)
{
    seq->chain = key;
    seq->chained++;
}

/* What the tree had instead of being computed. The client's share is counted once, for the first
 * sequence: the others find what that one computed. */
static void count_found(struct scheduler *s, struct sequence *seq, int32_t from)
{
    struct request *request = seq->request;
    int32_t end = min_i32(seq->computed, request->params.prompt_count);
    int32_t found = end - max_i32(from, seq->furthest);
    seq->furthest = max_i32(seq->furthest, seq->computed);
    if (found <= 0) return;
    s->counters.cached_tokens += found;
    if (seq->index == 0) request->stats.cached_tokens += found;
}

static void skip_to_chained(struct scheduler *s, struct sequence *seq)
{
    int32_t from = seq->computed;
    seq->computed = seq->chained * KV_BLOCK_SLOTS;
    count_found(s, seq, from);
}

void prefix_take(struct scheduler *s, struct sequence *seq)
{
    struct block_key key;
    int32_t block;
    invariant(seq->table.count == 0 && seq->computed == 0, "sequence %llu.%d takes its prefix late",
              (unsigned long long)seq->request->id, seq->index);
    prefix_reset(seq);
    while ((block = find_next(s, seq, &key)) >= 0) {
        block_pool_share(s->pool, block);
        block_table_append(&seq->table, block);
        link_block(seq, key);
    }
}

void prefix_taken(struct scheduler *s, struct sequence *seq)
{
    if (seq->chained > 0) skip_to_chained(s, seq);
}

static void change_block(struct scheduler *s, struct sequence *seq, int32_t index, int32_t block)
{
    block_pool_share(s->pool, block);
    block_pool_drop(s->pool, seq->table.blocks[index]);
    seq->table.blocks[index] = block;
}

void prefix_catch_up(struct scheduler *s, struct sequence *seq)
{
    struct block_key key;
    int32_t block, before = seq->chained;
    if (seq->in_flight > 0) return;
    while ((block = find_next(s, seq, &key)) >= 0) {
        change_block(s, seq, seq->chained, block);
        link_block(seq, key);
    }
    if (seq->chained > before) skip_to_chained(s, seq);
}

void prefix_leave(struct scheduler *s, struct sequence *seq, int32_t landed)
{
    /* At depth 2 a row may have computed a token that was refused then: nobody can name its slot.
     */
    landed = min_i32(landed, sequence_known(seq));
    while (!seq->detached && (seq->chained + 1) * KV_BLOCK_SLOTS <= landed) {
        int32_t index = seq->chained, position = index * KV_BLOCK_SLOTS;
        const int32_t *tokens = block_tokens(seq, index);
        struct block_key key = block_key_next(&s->limits.hasher, seq->chain, position, tokens);
        int32_t own = seq->table.blocks[index];
        int32_t there =
            prefix_tree_insert(s->pool, own, key, parent_of(seq, index), position, tokens);
        if (there != own) {
            seq->detached = there < 0 || seq->in_flight > 0;
            if (seq->detached) return;
            change_block(s, seq, index, there);
        }
        link_block(seq, key);
    }
}

/* A row computes the whole block that `seq` would compute next, from the same tokens. What stands
 * before that block is not compared: a wrong guess costs one step. */
static bool row_computes(const struct plan_row *row, const struct sequence *owner,
                         const struct sequence *seq)
{
    int32_t position = seq->chained * KV_BLOCK_SLOTS;
    return owner != seq && owner->state == SEQUENCE_RUNNING && !owner->detached &&
           block_key_equal(owner->request->root, seq->request->root) &&
           row->first_position <= position &&
           row->first_position + row->count >= position + KV_BLOCK_SLOTS &&
           memcmp(owner->tokens + position, seq->tokens + position,
                  KV_BLOCK_SLOTS * sizeof *seq->tokens) == 0;
}

static bool step_computes(const struct step *step, const struct sequence *seq)
{
    for (int32_t at = 0; at < step->plan.row_count; at++)
        if (row_computes(&step->rows[at], step->owners[at], seq)) return true;
    return false;
}

bool prefix_is_coming(const struct scheduler *s, const struct step *step,
                      const struct sequence *seq)
{
    int32_t end = (seq->chained + 1) * KV_BLOCK_SLOTS;
    if (seq->request->params.score_prompt || seq->detached || end >= sequence_known(seq))
        return false;
    for (int32_t i = 0; i < s->in_flight; i++)
        if (step_computes(&s->steps[(s->oldest + i) % s->capacity.depth], seq)) return true;
    return step_computes(step, seq);
}
