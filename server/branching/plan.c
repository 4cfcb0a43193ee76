#include "base/base.h"
#include "server/branching/driver_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- prompts as ids */

static enum status encode(const struct stage_plan *plan, const char *text, size_t length,
                          bool special, struct token_list *out, struct error *err)
{
    out->may_fail = true;
    enum status status = tokenizer_encode(plan->source.tokenizer, text, length, special, out, err);
    if (!status && out->failed) return fail(err, ST_NO_MEMORY, "there is no memory for its tokens");
    return status;
}

/* The ids around the items; the number at its longest. */
static enum status encode_template(const struct stage_plan *plan, const char *text, size_t length,
                                   int32_t most, bool special, struct token_list *out,
                                   struct error *err)
{
    struct strbuf filled = {.may_fail = true};
    outline_fill(text, length, "", 0, most, &filled);
    enum status status = filled.failed
                             ? fail(err, ST_NO_MEMORY, "there is no memory for its text")
                             : encode(plan, strbuf_cstr(&filled), filled.length, special, out, err);
    strbuf_free(&filled);
    return status;
}

static enum status encode_prompt(const struct stage_plan *plan, const struct api_prompt *prompt,
                                 struct token_list *out, struct error *err)
{
    if (prompt->text)
        return encode(plan, prompt->text, prompt->length, plan->source.parse_special, out, err);
    out->may_fail = true;
    for (size_t i = 0; i < prompt->id_count; i++)
        token_list_append(out, prompt->ids[i]);
    return out->failed ? fail(err, ST_NO_MEMORY, "there is no memory for its tokens") : ST_OK;
}

static enum status encode_stage(struct stage_plan *plan, size_t index, struct error *err)
{
    const struct api_stage *stage = &plan->source.stages[index];
    plan->prompts[index] = try_alloc(stage->branch_count, sizeof **plan->prompts);
    if (!plan->prompts[index]) return fail(err, ST_NO_MEMORY, "there is no memory for its prompts");
    for (size_t i = 0; i < stage->branch_count; i++) {
        const struct api_prompt *prompt = &stage->branches[i].prompt;
        struct token_list *out = &plan->prompts[index][i];
        enum status status =
            stage->outline ? encode_template(plan, prompt->text, prompt->length, stage->outline_max,
                                             plan->source.parse_special, out, err)
                           : encode_prompt(plan, prompt, out, err);
        if (status) return status;
    }
    return ST_OK;
}

static enum status encode_stages(struct stage_plan *plan, struct error *err)
{
    size_t count = plan->source.stage_count;
    plan->prompts = try_alloc(count, sizeof *plan->prompts);
    if (!plan->prompts) return fail(err, ST_NO_MEMORY, "there is no memory for %zu stages", count);
    for (size_t i = 0; i < count; i++) {
        struct error why = {0};
        enum status status = encode_stage(plan, i, &why);
        if (status) return fail(err, status, "stages[%zu]: %s", i, why.text);
    }
    return ST_OK;
}

static size_t count_items(const char *text, size_t length)
{
    static const char word[] = "{item}";
    size_t count = 0, size = sizeof word - 1;
    for (size_t at = 0; at + size <= length; at++)
        if (!memcmp(text + at, word, size)) count++;
    return count;
}

static enum status encode_grammar(struct stage_plan *plan, struct error *err)
{
    const struct tag_grammar *grammar = plan->source.grammar;
    struct token_list path = {0};
    size_t length = strlen(grammar->path_prompt);
    enum status status =
        encode(plan, grammar->join_prompt, strlen(grammar->join_prompt), true, &plan->join, err);
    if (!status)
        status = encode_template(plan, grammar->path_prompt, length, plan->source.max_branches,
                                 true, &path, err);
    plan->path_tokens = path.count;
    plan->path_items = count_items(grammar->path_prompt, length);
    free(path.ids);
    return status;
}

static void copy_stops(struct stage_plan *plan)
{
    size_t count = plan->source.stop_count;
    if (!count) return;
    plan->stops = must_alloc(count * sizeof *plan->stops);
    for (size_t i = 0; i < count; i++)
        plan->stops[i] = must_strdup(plan->source.stops[i]);
    plan->source.stops = (const char *const *)plan->stops;
}

enum status stage_plan_create(const struct stage_source *source, struct stage_plan **out,
                              struct error *err)
{
    struct stage_plan *plan = must_alloc(sizeof *plan);
    plan->source = *source;
    copy_stops(plan);
    enum status status = source->grammar ? encode_grammar(plan, err) : encode_stages(plan, err);
    if (status) {
        stage_plan_free(plan);
        return status;
    }
    *out = plan;
    return ST_OK;
}

void stage_plan_free(struct stage_plan *plan)
{
    if (!plan) return;
    for (size_t i = 0; plan->prompts && i < plan->source.stage_count; i++) {
        for (size_t j = 0; plan->prompts[i] && j < plan->source.stages[i].branch_count; j++)
            free(plan->prompts[i][j].ids);
        free(plan->prompts[i]);
    }
    for (size_t i = 0; plan->stops && i < plan->source.stop_count; i++)
        free(plan->stops[i]);
    free(plan->prompts);
    free(plan->stops);
    free(plan->join.ids);
    free(plan);
}

const char *const *stage_plan_stops(const struct stage_plan *plan)
{
    return plan->source.stops;
}

/* --- the most an answer can need */

/* Walks the stages as if each sequence came to its max_tokens. */
struct walk {
    struct stage_need need;
    int64_t position; /* behind the stage so far */
    int64_t own;      /* slots of the last serial sequence... */
    bool exact;       /* ...always so many */
    bool joins;       /* the stage so far is parallel */
    int32_t written;  /* max_tokens of the last serial stage */
};

static int64_t blocks_of(int64_t slots)
{
    return (slots + KV_BLOCK_SLOTS - 1) / KV_BLOCK_SLOTS;
}

/* What stands before a fork's prompt in its own slots: what is copied, and the last token. */
static int64_t copied_slots(const struct walk *w)
{
    return w->exact ? (w->own - 1) % KV_BLOCK_SLOTS + 1 : KV_BLOCK_SLOTS;
}

static void count_sequences(struct walk *w, int64_t count, int64_t tokens)
{
    w->need.sequences += count;
    w->need.tokens += tokens + count * SEQUENCE_APPENDED;
}

/* A stage without tokens of its own that joins the branches before it. */
static void walk_join(struct walk *w)
{
    w->own = 1; /* the last token, read again */
    w->exact = true;
    w->position += 1;
    w->need.blocks += 1;
    count_sequences(w, 1, 0);
}

static void walk_serial(struct walk *w, int64_t given, int32_t max_tokens, bool first,
                        bool may_skip)
{
    int64_t before = first       ? w->own
                     : !w->joins ? copied_slots(w)
                     : may_skip  ? KV_BLOCK_SLOTS /* as much where there was no outline */
                                 : given == 0;
    bool fixed = first || w->joins || w->exact;
    w->own = before + given + max_tokens;
    w->position += given + max_tokens + (w->joins && given == 0);
    w->exact = fixed && !may_skip && max_tokens == 0;
    w->written = max_tokens;
    w->need.blocks +=
        blocks_of(w->own - (max_tokens > 0)); /* the last one sampled is not computed */
    w->joins = false;
    count_sequences(w, 1, given + max_tokens);
}

static void walk_branches(struct walk *w, const struct api_stage *stage,
                          const struct token_list *prompts, bool last)
{
    int64_t copied = copied_slots(w), longest = 0;
    for (size_t i = 0; i < stage->branch_count; i++) {
        int64_t own = (int64_t)prompts[i].count + stage->branches[i].max_tokens;
        if (own > longest) longest = own;
        w->need.blocks += blocks_of(copied + own - (last && stage->branches[i].max_tokens > 0));
        count_sequences(w, 1, own);
    }
    w->need.width = max_i32(w->need.width, (int32_t)stage->branch_count);
    w->position += longest;
}

/* All its items together are no longer than what they were read from. */
static void walk_outline(struct walk *w, const struct api_stage *stage,
                         const struct token_list *template)
{
    const struct api_branch *branch = &stage->branches[0];
    int64_t own = (int64_t) template->count + branch->max_tokens;
    int64_t items = (int64_t)count_items(branch->prompt.text, branch->prompt.length) * w->written;
    int64_t slots = stage->outline_max * (copied_slots(w) + own + KV_BLOCK_SLOTS - 1) + items;
    w->need.blocks += slots / KV_BLOCK_SLOTS;
    w->need.width = max_i32(w->need.width, stage->outline_max);
    w->position += own + items;
    count_sequences(w, stage->outline_max, stage->outline_max * own + items);
}

static void walk_stages(struct walk *w, const struct stage_plan *plan)
{
    const struct api_stage *stages = plan->source.stages;
    for (size_t i = 0; i < plan->source.stage_count; i++) {
        const struct token_list *prompts = plan->prompts[i];
        if (!stages[i].parallel) {
            walk_serial(w, (int64_t)prompts[0].count, stages[i].branches[0].max_tokens, i == 0,
                        i > 0 && stages[i - 1].outline);
            continue;
        }
        if (i == 0) walk_serial(w, 0, 0, true, false); /* the prompt alone */
        if (w->joins) walk_join(w);
        if (stages[i].outline)
            walk_outline(w, &stages[i], prompts);
        else
            walk_branches(w, &stages[i], prompts, i + 1 == plan->source.stage_count);
        w->joins = true;
    }
}

static struct stage_need grammar_need(const struct stage_plan *plan, int64_t prompt_count,
                                      int32_t max_tokens, int64_t pool_slots)
{
    struct stage_need need = {.positions = prompt_count + max_tokens,
                              .sequences = plan->source.max_sequences,
                              .width = plan->source.max_branches};
    int64_t by_positions = need.sequences * max_tokens;
    need.tokens = (by_positions < pool_slots ? by_positions : pool_slots) +
                  need.sequences * SEQUENCE_APPENDED;
    need.records = need.tokens + 2 * need.sequences + 1;
    return need;
}

struct stage_need stage_plan_need(const struct stage_plan *plan, int64_t prompt_count,
                                  int32_t max_tokens, int64_t pool_slots)
{
    if (plan->source.grammar) return grammar_need(plan, prompt_count, max_tokens, pool_slots);
    struct walk w = {.need = {.width = 1}, .position = prompt_count, .own = prompt_count};
    walk_stages(&w, plan);
    w.need.positions = w.position;
    w.need.records = w.need.tokens + (int64_t)plan->source.stage_count + w.need.sequences + 1;
    return w.need;
}
