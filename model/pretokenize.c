#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenize.h"
#include "base/base.h"
#include "model/pretokenizer_names.h"
#include "model/split_pattern.h"
#include "model/utf8.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEAP_LIMIT  (64u << 10) /* KiB */
#define JIT_STACK   ((size_t)8 << 20)
#define CLOCK_STEPS 1024 /* items of a pattern tried between two looks at the clock */
#define NS          1000000000
#define TIME_START                                                                            \
    ((int64_t)NS / 2)             /* what one text may take: this and TIME_BYTE for each byte \
                                   */
#define TIME_BYTE ((int64_t)1000) /* ns: thirty times what published patterns take */

struct compiled_step {
    pcre2_code *code; /* NULL: nothing is cut */
    bool jit, invert, prefix_space;
    bool watched; /* a pattern that we do not know to be linear */
    enum split_behavior behavior;
};

struct pretokenize {
    struct compiled_step steps[PRETOKENIZE_MAX_STEPS];
    int32_t count;
};

/* --- compiling */

/* `pattern` in PCRE2's syntax; `from` has it as the file does. */
static enum status compile_pattern(const char *pattern, size_t length, uint32_t options,
                                   const struct split_step *from, struct compiled_step *step,
                                   struct error *err)
{
    int code;
    size_t offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return fail(err, ST_NO_MEMORY, "pre-tokenizer: out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    if (step->watched) options |= PCRE2_AUTO_CALLOUT;
    step->code =
        pcre2_compile((PCRE2_SPTR)pattern, length, options | PCRE2_UTF, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!step->code && code == PCRE2_ERROR_HEAP_FAILED)
        return fail(err, ST_NO_MEMORY, "pre-tokenizer: out of memory");
    if (!step->code) {
        PCRE2_UCHAR words[128] = "";
        pcre2_get_error_message(code, words, sizeof words);
        return fail(err, ST_UNSUPPORTED, "pattern '%.*s': %s (PCRE2, byte %zu of its translation)",
                    from->length < 200 ? (int)from->length : 200, from->pattern,
                    (const char *)words, offset);
    }
    step->jit = pcre2_jit_compile(step->code, PCRE2_JIT_COMPLETE) == 0;
    return ST_OK;
}

static enum status compile_step(const struct split_step *from, struct compiled_step *step,
                                struct error *err)
{
    *step = (struct compiled_step){
        .invert = from->invert, .prefix_space = from->prefix_space, .behavior = from->behavior};
    if (!from->pattern) return ST_OK;
    step->watched = !from->literal && !pretokenizer_knows_pattern(from->pattern, from->length);
    if (from->literal)
        return compile_pattern(from->pattern, from->length, PCRE2_LITERAL, from, step, err);
    struct strbuf translated = {0};
    enum status status = split_pattern_translate(from->pattern, from->length, &translated, err);
    if (!status)
        status = compile_pattern(strbuf_cstr(&translated), translated.length,
                                 PCRE2_UCP | PCRE2_MULTILINE, from, step, err);
    strbuf_free(&translated);
    return status;
}

enum status pretokenize_create(const struct tokenizer_spec *spec, struct pretokenize **out,
                               struct error *err)
{
    struct split_step known[PRETOKENIZE_MAX_STEPS];
    const struct split_step *steps = spec->steps;
    int32_t count = spec->step_count;
    if (spec->pretokenizer != PRETOKENIZE_STEPS) {
        steps = known;
        count = pretokenizer_steps(spec->pretokenizer, known);
    }
    invariant(count >= 0 && count <= PRETOKENIZE_MAX_STEPS, "%d steps", count);
    struct pretokenize *pretokenize = must_alloc(sizeof *pretokenize);
    enum status status = ST_OK;
    for (int32_t i = 0; !status && i < count; i++) {
        status = compile_step(&steps[i], &pretokenize->steps[i], err);
        pretokenize->count++;
    }
    if (status) {
        pretokenize_free(pretokenize);
        return fail_prefix(err, "pre-tokenizer");
    }
    *out = pretokenize;
    return ST_OK;
}

void pretokenize_free(struct pretokenize *pretokenize)
{
    if (!pretokenize) return;
    for (int32_t i = 0; i < pretokenize->count; i++)
        pcre2_code_free(pretokenize->steps[i].code);
    free(pretokenize);
}

/* --- the clock that watches an unknown pattern. PCRE2 calls back before it tries an item; between
 * two calls it can do no more than run once along the text. */

static int64_t processor_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * NS + now.tv_nsec;
}

static int watch(pcre2_callout_block *block, void *argument)
{
    (void)block;
    struct pieces *pieces = argument;
    if (++pieces->steps % CLOCK_STEPS) return 0;
    int64_t now = processor_time(), allowed = TIME_START + (int64_t)pieces->total * TIME_BYTE;
    if (!pieces->watched_since) pieces->watched_since = now;
    return now - pieces->watched_since > allowed ? PCRE2_ERROR_CALLOUT : 0;
}

/* --- the walk's memory */

bool pieces_begin(struct pieces *pieces, const struct pretokenize *pretokenize)
{
    *pieces = (struct pieces){.pretokenize = pretokenize, .depth = -1};
    pieces->match = pcre2_match_data_create(1, NULL); /* one pair: where the match is */
    pieces->context = pcre2_match_context_create(NULL);
    if (!pieces->match || !pieces->context) return false;
    pcre2_set_match_limit(pieces->context, UINT32_MAX);
    pcre2_set_heap_limit(pieces->context, HEAP_LIMIT);
    return true;
}

void pieces_start(struct pieces *pieces, const char *text, size_t length)
{
    pieces->text = text;
    pieces->length = length;
    pieces->at = 0;
    pieces->depth = -1;
    pieces->total += length;
    pcre2_set_callout(pieces->context, watch, pieces);
}

void pieces_end(struct pieces *pieces)
{
    pcre2_match_data_free(pieces->match);
    pcre2_match_context_free(pieces->context);
    pcre2_jit_stack_free(pieces->jit_stack);
    for (int32_t i = 0; i < PRETOKENIZE_MAX_STEPS; i++)
        strbuf_free(&pieces->levels[i].spaced);
    pieces->match = pieces->context = pieces->jit_stack = NULL;
}

/* --- searching */

/* One call of PCRE2. The text is whole characters: pcre2_jit_match never looks, pcre2_match is told
 * not to. A match that needs more than the JIT's stack runs again with a larger one, then without
 * the JIT. */
static int search(struct pieces *pieces, const struct compiled_step *step,
                  const struct piece_level *level)
{
    PCRE2_SPTR text = (PCRE2_SPTR)level->text;
    for (bool larger = false; step->jit; larger = true) {
        int rc = pcre2_jit_match(step->code, text, level->length, level->search_from, 0,
                                 pieces->match, pieces->context);
        if (rc != PCRE2_ERROR_JIT_STACKLIMIT) return rc;
        if (larger || pieces->jit_stack) break;
        pieces->jit_stack = pcre2_jit_stack_create(32 << 10, JIT_STACK, NULL);
        if (!pieces->jit_stack) return PCRE2_ERROR_NOMEMORY;
        pcre2_jit_stack_assign(pieces->context, NULL, pieces->jit_stack);
    }
    return pcre2_match(step->code, text, level->length, level->search_from,
                       PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, pieces->match, pieces->context);
}

static size_t next_character(const struct piece_level *level, size_t at)
{
    do
        at++;
    while (at < level->length && ((unsigned char)level->text[at] & 0xc0) == 0x80);
    return at;
}

/* The next match at or after level->search_from: 1, 0 for none, or an error. */
static int find_from(struct pieces *pieces, const struct compiled_step *step,
                     struct piece_level *level)
{
    if (!step->code || level->search_from > level->length) return 0;
    int rc = search(pieces, step, level);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc == PCRE2_ERROR_NOMEMORY) return PIECES_NO_MEMORY;
    if (rc < 0) return PIECES_NO_TIME;
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(pieces->match);
    level->match_start = found[0];
    level->match_end = found[1];
    return 1;
}

/* The next match as Oniguruma's iterator gives them: an empty one directly behind the last match
 * does not count, the search then goes on one character later. */
static int next_match(struct pieces *pieces, const struct compiled_step *step,
                      struct piece_level *level)
{
    for (;;) {
        int found = find_from(pieces, step, level);
        if (found <= 0) return found;
        bool empty = level->match_start == level->match_end;
        if (!empty || level->match_end != level->last_end) break;
        level->search_from = next_character(level, level->search_from);
    }
    level->search_from = level->last_end = level->match_end;
    return 1;
}

/* --- spans (matches and what lies between), and pieces made of them */

struct span {
    size_t start, end;
    bool match;
};

static int next_span(struct pieces *pieces, const struct compiled_step *step,
                     struct piece_level *level, struct span *out)
{
    if (!level->match_waits && !level->searched_all) {
        int found = next_match(pieces, step, level);
        if (found < 0) return found;
        level->match_waits = found;
        level->searched_all = !found;
    }
    size_t gap_end = level->match_waits ? level->match_start : level->length;
    bool gap = level->spans_to < gap_end;
    if (!gap && !level->match_waits) return 0;
    *out = gap ? (struct span){level->spans_to, gap_end, step->invert}
               : (struct span){level->match_start, level->match_end, !step->invert};
    if (!gap) level->match_waits = false;
    level->spans_to = out->end;
    return 1;
}

/* Whether a span goes into the piece that is held. */
static bool joins(enum split_behavior behavior, bool previous_match, bool match)
{
    switch (behavior) {
    case SPLIT_MERGED_WITH_PREVIOUS:
        return match && !previous_match;
    case SPLIT_MERGED_WITH_NEXT:
        return previous_match && !match;
    case SPLIT_CONTIGUOUS:
        return match == previous_match;
    default:
        return false;
    }
}

/* Gives the held piece to *out if it has any bytes. */
static bool let_go(struct piece_level *level, struct span *out)
{
    bool given = level->holding && level->held_start < level->held_end;
    if (given) *out = (struct span){level->held_start, level->held_end, false};
    level->holding = false;
    return given;
}

/* The next piece of this step, never empty: 1, 0 for none, or an error. */
static int level_next(struct pieces *pieces, const struct compiled_step *step,
                      struct piece_level *level, struct span *out)
{
    struct span span;
    int more;
    while ((more = next_span(pieces, step, level, &span)) > 0) {
        if (step->behavior <= SPLIT_REMOVED) {
            if (span.start == span.end || (span.match && step->behavior == SPLIT_REMOVED)) continue;
            *out = span;
            return 1;
        }
        bool grows = level->holding && joins(step->behavior, level->previous_match, span.match);
        level->previous_match = span.match;
        bool given = !grows && let_go(level, out);
        if (!grows) level->held_start = span.start;
        level->held_end = span.end;
        level->holding = true;
        if (given) return 1;
    }
    return more < 0 ? more : let_go(level, out);
}

static void level_start(struct piece_level *level, bool prefix_space, const char *text,
                        size_t length)
{
    struct strbuf spaced = level->spaced;
    if (prefix_space && text[0] != ' ') {
        strbuf_clear(&spaced);
        strbuf_char(&spaced, ' ');
        strbuf_append(&spaced, text, length);
        text = spaced.data;
        length = spaced.length;
    }
    *level = (struct piece_level){
        .text = text, .length = length, .last_end = SIZE_MAX, .spaced = spaced};
}

/* --- the walk */

/* The run of broken bytes at text[0] ends where the next whole character begins. */
static size_t broken_run(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        struct utf8_step step = utf8_step(text + at, length - at);
        if (step.kind == UTF8_WHOLE) break;
        at += step.length;
    }
    return at;
}

/* The next stretch of whole characters goes to the first step; a stretch of broken bytes, or any
 * where there are no steps, is a piece already: 1. 0: nothing is a piece yet. */
static int next_stretch(struct pieces *pieces, const char **piece, size_t *piece_length)
{
    const char *text = pieces->text + pieces->at;
    size_t length = pieces->length - pieces->at;
    size_t valid = utf8_valid_prefix(text, length);
    size_t taken = valid ? valid : broken_run(text, length);
    pieces->at += taken;
    if (valid && pieces->pretokenize->count) {
        bool first = text == pieces->text; /* broken bytes do not begin a text anew */
        level_start(&pieces->levels[0], first && pieces->pretokenize->steps[0].prefix_space, text,
                    valid);
        pieces->depth = 0;
        return 0;
    }
    *piece = text;
    *piece_length = taken;
    return 1;
}

int pieces_next(struct pieces *pieces, const char **piece, size_t *piece_length)
{
    const struct pretokenize *pretokenize = pieces->pretokenize;
    for (;;) {
        if (pieces->depth < 0) {
            if (pieces->at == pieces->length) return 0;
            if (next_stretch(pieces, piece, piece_length)) return 1;
        }
        struct piece_level *level = &pieces->levels[pieces->depth];
        struct span span;
        int more = level_next(pieces, &pretokenize->steps[pieces->depth], level, &span);
        if (more < 0) return more;
        if (more == 0) {
            pieces->depth--;
            continue;
        }
        *piece = level->text + span.start;
        *piece_length = span.end - span.start;
        if (pieces->depth + 1 == pretokenize->count) return 1;
        pieces->depth++;
        level_start(&pieces->levels[pieces->depth], pretokenize->steps[pieces->depth].prefix_space,
                    *piece, *piece_length);
    }
}
