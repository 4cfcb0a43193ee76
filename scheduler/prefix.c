/* Prefix reuse: a sequence takes what the prefix tree has of its context, and leaves there what it
 * has computed.
 *
 * Taking happens at admission, and again before each chunk of prefill, because another sequence may
 * have computed the same prompt meanwhile. The last token known is always computed: its logits are
 * wanted. A prompt that is scored takes nothing: the logits of all of it are wanted.
 *
 * A branch's first block descends from the blocks of what it forked from, which are another
 * sequence's: it takes and leaves only when those are in the tree.
 *
 * Of a prompt the executor may have more (request_params.cached_tokens): it counts as computed as
 * soon as it has blocks, and is left in the tree at once.
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

/* The sequence whose block stands before own block `*index`, which becomes its index there. NULL:
 * none, the block descends from a root or a join. */
static const struct sequence *owner_before(const struct sequence *seq, int32_t *index)
{
    while (*index == 0) {
        const struct context *context = seq->stage->context;
        if (!context || !context->parent.sequence) return NULL;
        seq = context->parent.sequence;
        *index = context->shared / KV_BLOCK_SLOTS;
    }
    --*index;
    return seq;
}

static int32_t parent_of(const struct sequence *seq, int32_t index)
{
    const struct sequence *owner = owner_before(seq, &index);
    return owner ? owner->table.blocks[index] : -1;
}

/* What the sequence's first block descends from is in the tree. */
static bool ancestors_chained(const struct sequence *seq)
{
    int32_t index = 0;
    const struct sequence *owner = owner_before(seq, &index);
    return !owner || owner->chained > index;
}

void prefix_reset(struct sequence *seq)
{
    seq->chain = sequence_root(seq);
    seq->chained = 0;
    seq->detached = false;
}

void prefix_cut(struct scheduler *s, struct sequence *seq, int32_t blocks)
{
    const struct block_hasher *hasher = &s->limits.hasher;
    seq->chained = 0; /* the keys below are computed anew */
    struct block_key chain = seq->chain = sequence_root(seq), before = chain;
    for (int32_t i = 0; i < blocks; i++) {
        before = chain;
        chain = block_key_next(hasher, chain, sequence_first_position(seq) + i * KV_BLOCK_SLOTS,
                               block_tokens(seq, i));
    }
    seq->chain = chain;
    seq->before = before;
    seq->chained = blocks;
}

/* Own slots that may come from the tree: of a live sequence all but the last known, whose logits
 * are wanted. */
static int32_t takeable(const struct sequence *seq)
{
    return seq->finished ? seq->needed : seq->length - 1;
}

/* The sequence's next block as the tree has it, and its key; -1: not there, or not to be taken. */
static int32_t find_next(const struct scheduler *s, const struct sequence *seq,
                         struct block_key *key)
{
    int32_t index = seq->chained;
    int32_t position = sequence_first_position(seq) + index * KV_BLOCK_SLOTS;
    if (seq->request->params.score_prompt || seq->detached || seq->pending > 0) return -1;
    if ((index + 1) * KV_BLOCK_SLOTS > takeable(seq) || !ancestors_chained(seq)) return -1;
    const int32_t *tokens = block_tokens(seq, index);
    *key = block_key_next(&s->limits.hasher, seq->chain, position, tokens);
    return prefix_tree_find(s->pool, *key, parent_of(seq, index), position, tokens);
}

static void link_block(struct sequence *seq, struct block_key key)
{
    seq->before = seq->chain;
    seq->chain = key;
    seq->chained++;
}

/* Own tokens before these are no prompt of this sequence: a fork's copied ones and, but for the
 * first branch, the parent's last. */
int32_t own_prompt(const struct sequence *seq)
{
    const struct context *context = seq->stage->context;
    if (!context || !context->parent.sequence) return 0;
    return context->copied + (seq->branch > 0 || seq->request->params.events.next);
}

/* What the tree had instead of being computed. The client's share is that of its own prompt. */
static void count_found(struct scheduler *s, struct sequence *seq, int32_t from)
{
    struct request *request = seq->request;
    int32_t found =
        min_i32(seq->computed, seq->given) - max_i32(max_i32(from, seq->furthest), own_prompt(seq));
    seq->furthest = max_i32(seq->furthest, seq->computed);
    if (found <= 0) return;
    s->counters.cached_tokens += found;
    if (seq == request_begin(request))
        request->stats.cached_tokens =
            min_i32(request->stats.cached_tokens + found, request->params.prompt_count);
}

static void skip_to_chained(struct scheduler *s, struct sequence *seq)
{
    int32_t from = seq->computed;
    seq->computed = seq->landed = seq->chained * KV_BLOCK_SLOTS;
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

/* Own slots whose KV the executor has in a store of its own. */
static int32_t stored(const struct sequence *seq)
{
    const struct request_params *params = &seq->request->params;
    if (seq != request_begin(seq->request) || params->score_prompt) return 0;
    return min_i32(params->cached_tokens, takeable(seq));
}

void prefix_taken(struct scheduler *s, struct sequence *seq)
{
    if (seq->chained > 0) skip_to_chained(s, seq);
    int32_t from = seq->computed, end = stored(seq);
    if (end <= from) return;
    seq->computed = seq->landed = end;
    count_found(s, seq, from);
    prefix_leave(s, seq);
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

void prefix_leave(struct scheduler *s, struct sequence *seq)
{
    if (!ancestors_chained(seq)) seq->detached = true;
    while (!seq->detached && (seq->chained + 1) * KV_BLOCK_SLOTS <= seq->landed) {
        int32_t index = seq->chained;
        int32_t position = sequence_first_position(seq) + index * KV_BLOCK_SLOTS;
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
        if (s->known) known_blocks_add(s->known, key);
    }
}

/* `owner`, which has a row in a step, is at the block that `seq` would compute next, with the same
 * tokens. What stands before that block is not compared: a wrong guess costs a step. */
static bool computes_next(const struct sequence *owner, const struct sequence *seq)
{
    int32_t slot = seq->chained * KV_BLOCK_SLOTS;
    return owner != seq && owner->state == SEQUENCE_RESIDENT && !owner->detached &&
           owner->request->state == REQUEST_RUNNING &&
           block_key_equal(sequence_root(owner), sequence_root(seq)) && owner->computed > slot &&
           owner->length >= slot + KV_BLOCK_SLOTS &&
           memcmp(owner->tokens + slot, seq->tokens + slot, KV_BLOCK_SLOTS * sizeof *seq->tokens) ==
               0;
}

static bool step_computes(const struct step *step, const struct sequence *seq)
{
    for (int32_t at = 0; at < step->plan.row_count; at++)
        if (computes_next(step->owners[at], seq)) return true;
    return false;
}

bool prefix_is_coming(const struct scheduler *s, const struct step *step,
                      const struct sequence *seq)
{
    int32_t end = (seq->chained + 1) * KV_BLOCK_SLOTS;
    if (seq->request->params.score_prompt || seq->detached || end > takeable(seq) ||
        !ancestors_chained(seq))
        return false;
    for (int32_t i = 0; i < s->in_flight; i++)
        if (step_computes(&s->steps[(s->oldest + i) % s->capacity.depth], seq)) return true;
    return step_computes(step, seq);
}
