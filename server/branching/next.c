#include "base/base.h"
#include "server/branching/driver_private.h"

#include <stdlib.h>
#include <string.h>

void ready_release(struct ready_stage *ready)
{
    for (int32_t i = 0; ready->prompts && i < ready->view.count; i++)
        free(ready->prompts[i].ids);
    free(ready->prompts);
    free(ready->branches);
    *ready = (struct ready_stage){0};
}

bool driver_encode(struct stage_driver *driver, const char *text, size_t length, bool special,
                   struct token_list *out)
{
    struct error err = {0};
    out->may_fail = true;
    if (!tokenizer_encode(driver->plan->source.tokenizer, text, length, special, out, &err) &&
        !out->failed)
        return true;
    log_warn("an answer with stages ends: %s", out->failed ? "no memory for a prompt" : err.text);
    driver->failed = true;
    return false;
}

/* --- which stage comes next */

bool driver_feeds_outline(const struct stage_driver *driver)
{
    const struct stage_source *source = &driver->plan->source;
    size_t next = (size_t)driver->now.view.number + 1;
    return !driver->now.view.hidden && next < source->stage_count && source->stages[next].outline;
}

static enum next_kind choose_by_grammar(const struct stage_driver *driver, int32_t *number)
{
    *number = driver->now.view.number + 1;
    if (driver->now.view.parallel) return NEXT_SERIAL;
    return driver->sequences[0].event == TAG_FORK ? NEXT_PARALLEL : NEXT_NONE;
}

static bool has_items(struct stage_driver *driver)
{
    struct outline outline;
    outline_parse(strbuf_cstr(&driver->outline), driver->outline.length, 1, &outline);
    bool some = outline.count > 0;
    outline_release(&outline);
    if (!some) driver->flags.empty_outline = true;
    return some;
}

enum next_kind driver_choose(struct stage_driver *driver, int32_t *number)
{
    const struct stage_source *source = &driver->plan->source;
    if (source->grammar) return choose_by_grammar(driver, number);
    if (driver->outline.failed) driver->failed = true;
    size_t next = (size_t)(driver->now.view.number + 1);
    if (driver_feeds_outline(driver) && !has_items(driver)) next++;
    if (next >= source->stage_count) return NEXT_NONE;
    *number = (int32_t)next;
    bool parallel = source->stages[next].parallel;
    /* Behind a parallel stage its branches are joined first. */
    return parallel && !driver->now.view.parallel ? NEXT_PARALLEL : NEXT_SERIAL;
}

/* --- the prompts of its branches */

static bool make_room(struct stage_driver *driver, int32_t count, bool own_prompts)
{
    struct ready_stage *next = &driver->next;
    next->branches = try_alloc((size_t)count, sizeof *next->branches);
    next->prompts = own_prompts ? try_alloc((size_t)count, sizeof *next->prompts) : NULL;
    if (next->branches && (next->prompts || !own_prompts)) {
        next->view.count = count;
        next->view.branches = next->branches;
        return true;
    }
    driver->failed = true;
    return false;
}

static void set_prompt(struct ready_stage *next, int32_t branch, const struct token_list *ids)
{
    next->branches[branch].prompt = ids->ids;
    next->branches[branch].prompt_count = (int32_t)ids->count;
}

/* What a stop string left of the serial stage before goes before the prompt and is read with it. */
static bool carry_on(struct stage_driver *driver, const struct api_prompt *prompt,
                     struct token_list *out)
{
    bool special = driver->plan->source.parse_special;
    struct strbuf *text = &driver->carry;
    driver->next.view.skip = (uint32_t)text->length;
    if (prompt->text) strbuf_append(text, prompt->text, prompt->length);
    if (!driver_encode(driver, strbuf_cstr(text), text->length, special && prompt->text, out))
        return false;
    for (size_t i = 0; !prompt->text && i < prompt->id_count; i++)
        token_list_append(out, prompt->ids[i]);
    if (out->failed) driver->failed = true;
    return !out->failed;
}

static bool prepare_list(struct stage_driver *driver, const struct api_stage *stage, int32_t number)
{
    bool carries = driver->carry.length > 0;
    if (!make_room(driver, (int32_t)stage->branch_count, carries)) return false;
    struct ready_stage *next = &driver->next;
    for (int32_t i = 0; i < next->view.count; i++) {
        next->branches[i].max_tokens = stage->branches[i].max_tokens;
        set_prompt(next, i, &driver->plan->prompts[number][i]);
    }
    if (!carries) return true;
    if (!carry_on(driver, &stage->branches[0].prompt, &next->prompts[0])) return false;
    set_prompt(next, 0, &next->prompts[0]);
    return true;
}

/* The template with an item in it, as ids. */
static bool fill_prompt(struct stage_driver *driver, int32_t branch, const struct api_prompt *with,
                        const char *item, size_t length, bool special)
{
    struct ready_stage *next = &driver->next;
    struct strbuf text = {.may_fail = true};
    outline_fill(with->text, with->length, item, length, branch + 1, &text);
    if (text.failed) driver->failed = true;
    bool filled = !text.failed && driver_encode(driver, strbuf_cstr(&text), text.length, special,
                                                &next->prompts[branch]);
    strbuf_free(&text);
    if (filled) set_prompt(next, branch, &next->prompts[branch]);
    return filled;
}

static bool prepare_outline(struct stage_driver *driver, const struct api_stage *stage)
{
    const struct api_branch *branch = &stage->branches[0];
    const char *text = strbuf_cstr(&driver->outline);
    struct outline outline;
    outline_parse(text, driver->outline.length, stage->outline_max, &outline);
    bool made = make_room(driver, outline.count, true);
    for (int32_t i = 0; i < outline.count && made; i++) {
        const struct outline_item *item = &outline.items[i];
        driver->next.branches[i].max_tokens = branch->max_tokens;
        made = fill_prompt(driver, i, &branch->prompt, text + item->offset, item->length,
                           driver->plan->source.parse_special);
    }
    driver->flags.outline_beyond += outline.beyond;
    outline_release(&outline);
    return made;
}

static bool prepare_paths(struct stage_driver *driver)
{
    const struct tag_watcher *tags = &driver->sequences[0].tags;
    const char *prompt = driver->plan->source.grammar->path_prompt;
    const struct api_prompt with = {.text = prompt, .length = strlen(prompt)};
    bool made = make_room(driver, tags->count, true);
    for (int32_t i = 0; i < tags->count && made; i++)
        made = fill_prompt(driver, i, &with, strbuf_cstr(&tags->text) + tags->items[i].offset,
                           tags->items[i].length, true);
    return made;
}

static bool prepare_prompts(struct stage_driver *driver, enum next_kind kind, int32_t number)
{
    const struct stage_plan *plan = driver->plan;
    if (driver->next.view.hidden) return make_room(driver, 1, false);
    if (driver_by_grammar(driver)) {
        if (kind == NEXT_PARALLEL) return prepare_paths(driver);
        if (!make_room(driver, 1, false)) return false;
        set_prompt(&driver->next, 0, &plan->join);
        return true;
    }
    const struct api_stage *stage = &plan->source.stages[number];
    return stage->outline ? prepare_outline(driver, stage) : prepare_list(driver, stage, number);
}

/* --- room */

/* Whether it fits into what was promised; gives what a grammar writes freely all that is left. */
static bool take_room(struct stage_driver *driver)
{
    struct ready_stage *next = &driver->next;
    int64_t given = next->view.count;
    for (int32_t i = 0; i < next->view.count; i++) {
        struct branch_params *branch = &next->branches[i];
        int64_t left = driver->limit - next->position - branch->prompt_count;
        if (driver_by_grammar(driver)) branch->max_tokens = (int32_t)left;
        if (left < driver_by_grammar(driver)) return false;
        given += branch->prompt_count;
    }
    return given <= driver->tokens_left && next->view.count <= driver->sequences_left;
}

/* As n > 1 does in the first stage; each stage behind it from a number of its own. */
static void set_seeds(struct stage_driver *driver)
{
    struct ready_stage *next = &driver->next;
    uint64_t stage = (uint64_t)next->view.number;
    uint64_t base = stage ? rng_at(driver->seed, stage + (UINT64_C(1) << 32)) : driver->seed;
    for (int32_t i = 0; i < next->view.count; i++)
        next->branches[i].seed = i ? rng_at(base, (uint64_t)i) : base;
}

void driver_prepare(struct stage_driver *driver, enum next_kind kind, int32_t number)
{
    struct ready_stage *next = &driver->next;
    const struct stage_source *source = &driver->plan->source;
    bool joins = driver->now.view.parallel;
    bool hidden = !source->grammar && joins && source->stages[number].parallel;
    next->view = (struct stage_view){
        .number = hidden ? number - 1 : number,
        .stops = source->grammar ? -1 : number,
        .parallel = kind == NEXT_PARALLEL,
        .hidden = hidden,
        .first_index = driver->now.view.first_index + driver->now.view.count,
    };
    next->last = !source->grammar && !hidden && (size_t)number + 1 == source->stage_count;
    if (!prepare_prompts(driver, kind, number)) {
        ready_release(next);
        return;
    }
    /* Without a prompt the first token behind a join is one that is read again. */
    next->position = driver->end + (joins && next->branches[0].prompt_count == 0);
    set_seeds(driver);
    if (take_room(driver)) return;
    driver->no_room = true;
    ready_release(next);
}

bool driver_begin(struct stage_driver *driver)
{
    const struct stage_source *source = &driver->plan->source;
    struct ready_stage *next = &driver->next;
    bool hidden = !source->grammar && source->stages[0].parallel;
    next->view = (struct stage_view){
        .number = hidden ? -1 : 0, .stops = source->grammar || hidden ? -1 : 0, .hidden = hidden};
    next->position = driver->prompt_count;
    if (!make_room(driver, 1, false)) return false;
    if (source->grammar) {
        next->branches[0].max_tokens = (int32_t)(driver->limit - driver->prompt_count);
    } else if (!hidden) {
        set_prompt(next, 0, &driver->plan->prompts[0][0]);
        next->branches[0].max_tokens = source->stages[0].branches[0].max_tokens;
        for (size_t i = 0; i < driver->plan->prompts[0][0].count; i++)
            token_list_append(&driver->first, driver->plan->prompts[0][0].ids[i]);
        if (driver->first.failed) return false;
        next->last = source->stage_count == 1;
    }
    next->branches[0].seed = driver->seed;
    return driver_enter(driver);
}
