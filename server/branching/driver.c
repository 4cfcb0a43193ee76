#include "base/base.h"
#include "server/branching/driver_private.h"

#include <stdlib.h>
#include <string.h>

/* --- begin and end */

struct stage_driver *stage_driver_create(const struct stage_plan *plan,
                                         const struct stage_need *need, int32_t context,
                                         const int32_t *prompt, int32_t prompt_count, uint64_t seed)
{
    struct stage_driver *driver = try_alloc(1, sizeof *driver);
    if (!driver) return NULL;
    /* The visible part of a cut token may be read as more tokens than were cut. */
    int64_t slack = (int64_t)plan->source.stage_count * (SEQUENCE_APPENDED - 1);
    driver->plan = plan;
    driver->seed = seed;
    driver->limit = need->positions + slack < context ? need->positions + slack : context;
    driver->tokens_left = need->tokens;
    driver->sequences_left = need->sequences;
    driver->blocks = (int32_t)need->blocks;
    driver->prompt_count = prompt_count;
    driver->first.may_fail = driver->appended.may_fail = driver->outline.may_fail = true;
    for (int32_t i = 0; i < prompt_count; i++)
        token_list_append(&driver->first, prompt[i]);
    if (!driver->first.failed && driver_begin(driver)) return driver;
    stage_driver_free(driver);
    return NULL;
}

static void release_sequences(struct stage_driver *driver)
{
    for (int32_t i = 0; driver->sequences && i < driver->now.view.count; i++) {
        struct live_sequence *seq = &driver->sequences[i];
        choice_text_release(&seq->text);
        tag_watcher_release(&seq->tags);
    }
    free(driver->sequences);
    driver->sequences = NULL;
}

void stage_driver_free(struct stage_driver *driver)
{
    if (!driver) return;
    release_sequences(driver);
    ready_release(&driver->now);
    ready_release(&driver->next);
    strbuf_free(&driver->outline);
    strbuf_free(&driver->scratch);
    strbuf_free(&driver->carry);
    free(driver->appended.ids);
    free(driver->first.ids);
    free(driver);
}

static void start_sequence(const struct stage_driver *driver, struct live_sequence *seq)
{
    const struct stage_source *source = &driver->plan->source;
    int32_t stops = driver->now.view.stops;
    if (driver->now.view.hidden)
        choice_text_init(&seq->text, NULL, 0);
    else if (stops >= 0)
        choice_text_init(&seq->text, source->stages[stops].stops, source->stages[stops].stop_count);
    else
        choice_text_init(&seq->text, source->stops, source->stop_count);
    choice_text_keep(&seq->text);
    if (!source->grammar) return;
    enum tag_start start = driver->now.view.parallel      ? TAG_PATH
                           : driver->now.view.number == 0 ? TAG_TRUNK
                                                          : TAG_JOINED;
    tag_watcher_init(&seq->tags, source->grammar, start, source->max_branches);
}

/* A list is often begun for the model: "1." at the end of what it goes on from belongs to the first
 * line that it writes. */
static void begin_outline(struct stage_driver *driver)
{
    const struct branch_params *given = &driver->now.branches[0];
    const int32_t *ids = given->prompt;
    int32_t count = given->prompt_count, most = 8;
    if (!count && driver->now.view.first_index == 0) {
        ids = driver->first.ids;
        count = (int32_t)driver->first.count;
    }
    int32_t from = max_i32(0, count - most);
    struct strbuf text = {0};
    if (count)
        tokenizer_decode(driver->plan->source.tokenizer, ids + from, (size_t)(count - from), false,
                         &text);
    const char *line = strrchr(strbuf_cstr(&text), '\n');
    size_t start = line ? (size_t)(line + 1 - text.data) : 0;
    size_t length = text.length - start;
    strbuf_text(&text, " x");
    struct outline outline;
    outline_parse(text.data + start, length + 2, 1, &outline);
    bool marker = (line || from == 0) && outline.count == 1 && outline.items[0].length == 1;
    if (marker) strbuf_append(&driver->outline, text.data + start, length);
    outline_release(&outline);
    strbuf_free(&text);
}

bool driver_enter(struct stage_driver *driver)
{
    release_sequences(driver);
    ready_release(&driver->now);
    driver->now = driver->next;
    driver->next = (struct ready_stage){0};
    struct stage_view *view = &driver->now.view;
    driver->sequences = try_alloc((size_t)view->count, sizeof *driver->sequences);
    if (!driver->sequences) return false;
    for (int32_t i = 0; i < view->count; i++) {
        start_sequence(driver, &driver->sequences[i]);
        driver->tokens_left -= view->branches[i].prompt_count;
    }
    driver->sequences_left -= view->count;
    driver->unfinished = view->count;
    driver->end = 0;
    strbuf_free(&driver->carry);
    strbuf_clear(&driver->outline);
    if (driver_feeds_outline(driver)) begin_outline(driver);
    return true;
}

void stage_driver_first(const struct stage_driver *driver, struct request_params *params)
{
    params->prompt = driver->first.ids;
    params->prompt_count = (int32_t)driver->first.count;
    params->n = 1;
    params->max_tokens = driver->now.branches[0].max_tokens;
    params->sample.seed = driver->seed;
    params->extent.positions = (int32_t)driver->limit;
    params->extent.blocks = driver->blocks;
}

bool stage_driver_next(struct stage_driver *driver, struct stage_params *stage)
{
    if (driver->failed || !driver->next.view.count) return false;
    if (!driver_enter(driver)) {
        driver->failed = true;
        return false;
    }
    *stage = (struct stage_params){.branches = driver->now.branches,
                                   .count = driver->now.view.count,
                                   .first_index = driver->now.view.first_index,
                                   .parallel = driver->now.view.parallel,
                                   .last = driver->now.last};
    return true;
}

const struct stage_view *stage_driver_view(const struct stage_driver *driver)
{
    return &driver->now.view;
}

struct stage_flags stage_driver_flags(const struct stage_driver *driver)
{
    return driver->flags;
}

bool stage_driver_failed(const struct stage_driver *driver)
{
    return driver->failed;
}

/* --- tokens */

static struct live_sequence *live(struct stage_driver *driver, int32_t index)
{
    int32_t branch = index - driver->now.view.first_index;
    invariant(branch >= 0 && branch < driver->now.view.count, "sequence %d is of no stage", index);
    return &driver->sequences[branch];
}

/* The first event in the text of one more token; *behind: bytes of it behind the tag. */
static enum tag_event watch_tags(struct stage_driver *driver, struct live_sequence *seq,
                                 int32_t token, size_t *behind)
{
    struct strbuf piece = {0};
    detokenizer_push(&seq->tags_seen, driver->plan->source.tokenizer, token, true, &piece);
    const char *bytes = strbuf_cstr(&piece);
    enum tag_event event = tag_watcher_push(&seq->tags, bytes, piece.length, behind);
    if (event == TAG_MALFORMED) {
        driver->flags.malformed = true;
        event = tag_watcher_push(&seq->tags, bytes + piece.length - *behind, *behind, behind);
    }
    /* The paths and the join behind them. */
    if (event == TAG_FORK && seq->tags.count + 1 > driver->sequences_left) {
        driver->flags.malformed = true;
        event = TAG_NONE;
    }
    strbuf_free(&piece);
    return event;
}

/* A tag that ends the sequence does as a stop string does, but stays: what the token shows behind
 * it is cut. Where a stop string begins before the tag's end, the stop string counts. */
static bool ends_by_tag(struct stage_driver *driver, struct live_sequence *seq, int32_t token,
                        uint32_t *cut)
{
    size_t behind;
    enum tag_event event = watch_tags(driver, seq, token, &behind);
    if (event != TAG_FORK && event != TAG_PATH_END) return false;
    struct choice_text *text = &seq->text;
    uint64_t tag_end = text->decoded - (behind < text->decoded ? behind : text->decoded);
    if (text->stopped && text->visible < tag_end) return false;
    seq->event = event;
    if (text->visible <= tag_end) return true;
    size_t bytes = (size_t)(text->visible - tag_end);
    *cut = (uint32_t)(bytes < driver->scratch.length ? bytes : driver->scratch.length);
    choice_text_cut(text, *cut);
    strbuf_truncate(&driver->scratch, driver->scratch.length - *cut);
    return true;
}

enum token_verdict stage_driver_token(struct stage_driver *driver, int32_t index, int32_t token,
                                      bool ends, uint32_t *cut)
{
    const struct stage_source *source = &driver->plan->source;
    struct live_sequence *seq = live(driver, index);
    bool stop = false;
    *cut = 0;
    driver->tokens_left--;
    strbuf_clear(&driver->scratch);
    if (!ends) {
        stop = choice_text_push(&seq->text, source->tokenizer, token, 0, source->include_stop,
                                &driver->scratch);
        if (source->grammar && ends_by_tag(driver, seq, token, cut)) stop = true;
        if (driver_feeds_outline(driver))
            strbuf_append(&driver->outline, strbuf_cstr(&driver->scratch), driver->scratch.length);
    }
    /* Each sequence that runs may report one more. */
    if (driver->tokens_left < driver->unfinished) driver->no_room = stop = true;
    return stop ? TOKEN_STOP : TOKEN_KEEP;
}

const char *stage_driver_text(const struct stage_driver *driver, size_t *length)
{
    *length = driver->scratch.length;
    return strbuf_cstr(&driver->scratch);
}

/* --- ends */

/* What is visible of a token that was cut, read by itself: it stays where the token was. */
static void append_rest(struct stage_driver *driver, struct sequence_ending *ending,
                        uint32_t *shown, const struct strbuf *rest)
{
    struct token_list *appended = &driver->appended;
    appended->count = 0;
    if (!rest->length || !driver_encode(driver, rest->data, rest->length, false, appended)) return;
    if (appended->count > SEQUENCE_APPENDED) appended->count = SEQUENCE_APPENDED;
    if (driver->tokens_left - (int64_t)appended->count < driver->unfinished) {
        driver->no_room = true;
        return;
    }
    driver->tokens_left -= (int64_t)appended->count;
    ending->appended = appended->ids;
    ending->appended_count = (int32_t)appended->count;
    *shown = (uint32_t)rest->length;
}

enum finish_reason stage_driver_finish(struct stage_driver *driver, int32_t index,
                                       struct sequence_ending *ending, uint32_t *shown)
{
    struct live_sequence *seq = live(driver, index);
    const struct stage_view *view = &driver->now.view;
    int32_t number = 0;
    driver->unfinished--;
    *shown = 0;
    strbuf_clear(&driver->scratch);
    if (ending->reason >= FINISH_ABORT) return ending->reason;
    choice_text_end(&seq->text, &driver->scratch);
    if (driver_feeds_outline(driver))
        strbuf_append(&driver->outline, strbuf_cstr(&driver->scratch), driver->scratch.length);
    ending->kept = min_i32(ending->kept, seq->text.kept);

    bool whole = driver->unfinished == 0;
    enum next_kind kind = whole ? driver_choose(driver, &number) : NEXT_SERIAL;
    if (!view->parallel && kind == NEXT_SERIAL)
        strbuf_append(&driver->carry, strbuf_cstr(&seq->text.rest), seq->text.rest.length);
    else /* the last stage's too: the ids of an answer are as long as its text */
        append_rest(driver, ending, shown, &seq->text.rest);
    int32_t branch = index - view->first_index;
    seq->end = driver->now.position + view->branches[branch].prompt_count + ending->kept +
               ending->appended_count;
    if (seq->end > driver->end) driver->end = seq->end;
    if (whole && kind != NEXT_NONE && !driver->failed && !driver->no_room)
        driver_prepare(driver, kind, number);
    return driver->no_room ? FINISH_LENGTH : ending->reason;
}
