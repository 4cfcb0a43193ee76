#include "traces/replay/prompts.h"
#include "base/base.h"
#include "traces/replay/calibrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids that any vocabulary has as ordinary tokens, where the server names none of its own. */
#define PLAIN_ID_FIRST 100
#define PLAIN_IDS      128

struct prompts {
    struct prompt_options options;
    struct word_list list;
    struct calibration how;
    uint64_t seed;
    enum prompt_check check;
};

enum status prompts_create(const struct prompt_options *options, const struct target *target,
                           struct prompts **out, struct error *err)
{
    struct prompts *prompts = must_alloc(sizeof *prompts);
    prompts->options = *options;
    enum status status = ST_OK;
    if (options->corpus)
        status = word_list_read(options->corpus, &prompts->list, err);
    else
        word_list_common(&prompts->list);
    if (status) return free(prompts), status;
    calibrate(target, options->chat, &prompts->list, &prompts->how);
    prompts->check = options->ids         ? PROMPTS_BY_IDS
                     : prompts->how.exact ? PROMPTS_EXACT
                                          : PROMPTS_ESTIMATED;
    *out = prompts;
    return ST_OK;
}

void prompts_free(struct prompts *prompts)
{
    if (!prompts) return;
    word_list_free(&prompts->list);
    free(prompts);
}

void prompts_set_seed(struct prompts *prompts, uint64_t seed)
{
    prompts->seed = seed;
}

static const struct word *word_at(const struct prompts *prompts, uint64_t text, uint64_t i)
{
    const struct word_list *list = &prompts->list;
    if (list->order_count) { /* a stretch of the corpus */
        uint64_t first = rng_at(text, 0) % list->order_count;
        return &list->words[list->order[(first + i) % list->order_count]];
    }
    return &list->words[rng_at(text, i) % list->count];
}

struct writer {
    const struct prompts *prompts;
    struct strbuf *out;
    int32_t left; /* tokens */
    bool any;
};

/* Words are letters only, so nothing needs an escape. */
static void write_one(struct writer *w, uint64_t text, uint64_t i)
{
    const struct prompts *prompts = w->prompts;
    const struct word *word = word_at(prompts, text, i);
    char number[16];
    if (prompts->options.ids) {
        bool known = prompts->how.exact && word->id >= 0;
        int32_t id = known ? word->id : PLAIN_ID_FIRST + (int32_t)(rng_at(text, i) % PLAIN_IDS);
        int length = snprintf(number, sizeof number, w->any ? ",%d" : "%d", id);
        strbuf_append(w->out, number, (size_t)length);
    } else {
        if (!prompts->how.letters) strbuf_char(w->out, ' ');
        strbuf_text(w->out, word->text);
    }
    w->any = true;
    w->left--;
}

static void write_text(struct writer *w, uint64_t text, int64_t count)
{
    for (int64_t i = 0; i < count && w->left > 0; i++)
        write_one(w, text, (uint64_t)i);
}

int32_t prompts_write(const struct prompts *prompts, const struct trace_request *request,
                      uint64_t own, struct strbuf *out)
{
    const struct prompt_options *options = &prompts->options;
    int32_t tokens = request->prompt_tokens, added = prompts_added(prompts);
    if (options->max_tokens && tokens > options->max_tokens) tokens = options->max_tokens;
    if (tokens <= added) tokens = added + 1;
    struct writer w = {prompts, out, tokens - added, false};
    strbuf_char(out, options->ids ? '[' : '"');
    if (prompts->how.lead && !options->ids) strbuf_text(out, LEAD_WORD);
    for (int32_t p = 0; p < request->prefix_count; p++) {
        const struct trace_prefix *prefix = &request->prefixes[p];
        write_text(&w, mix64(prompts->seed ^ mix64(prefix->id + 1)), prefix->tokens);
    }
    /* Its own part begins elsewhere than any shared text: another hash, no sum of the same two. */
    write_text(&w, mix64(mix64(own ^ 0x6f776e) + prompts->seed), w.left);
    strbuf_char(out, options->ids ? ']' : '"');
    return tokens;
}

enum prompt_check prompts_check(const struct prompts *prompts)
{
    return prompts->check;
}

const char *prompts_check_words(const struct prompts *prompts)
{
    static const char *const words[] = {
        [PROMPTS_EXACT] = "checked with /tokenize",
        [PROMPTS_BY_IDS] = "token ids",
    };
    return prompts->check == PROMPTS_ESTIMATED ? prompts->how.words : words[prompts->check];
}

const char *prompts_source(const struct prompts *prompts)
{
    if (prompts->options.ids) return "ids";
    if (prompts->how.letters) return "letters";
    return prompts->options.corpus ? "corpus" : "words";
}

int32_t prompts_added(const struct prompts *prompts)
{
    return prompts->options.ids ? 0 : prompts->how.added;
}
