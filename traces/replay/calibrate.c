#include "traces/replay/calibrate.h"
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH     256 /* words a call */
#define FEW_WORDS 16  /* fewer would make prompts of the same few words */
#define SAMPLES   3

struct asking {
    const struct target *target;
    bool chat;
    bool missing; /* there is no /tokenize */
    struct error err;
};

/* -1: no answer. `ids` may be NULL. */
static int64_t count_tokens(struct asking *asking, const char *text, size_t length, int32_t **ids)
{
    struct token_count found;
    if (ids) *ids = NULL;
    enum tokenize_result result =
        target_tokenize(asking->target, text, length, asking->chat, &found, &asking->err);
    asking->missing |= result == TOKENIZE_MISSING;
    if (result != TOKENIZE_OK) return -1;
    if (ids)
        *ids = found.ids;
    else
        free(found.ids);
    return found.count;
}

static int64_t count_text(struct asking *asking, const char *text)
{
    return count_tokens(asking, text, strlen(text), NULL);
}

/* A blank before the first word costs a token in some tokenizers: then every prompt begins with a
 * word without one. */
static bool find_added(struct asking *asking, struct calibration *out)
{
    int64_t bare = count_text(asking, LEAD_WORD);
    int64_t one = bare < 0 ? -1 : count_text(asking, " " LEAD_WORD);
    int64_t two = one < 0 ? -1 : count_text(asking, " " LEAD_WORD " " LEAD_WORD);
    if (two < 0 || bare < 1 || bare > 10000 || two != one + 1) return false;
    out->lead = bare < one;
    out->added = (int32_t)(out->lead ? bare : one - 1);
    return true;
}

/* " the WORD the WORD ... the": between two of the marker's ids stands what a word is made of. */
static void mark_by_ids(struct word_list *list, size_t first, size_t count, const int32_t *ids,
                        int64_t length, int32_t marker, unsigned char *keep)
{
    int64_t at = 0;
    while (at < length && ids[at] != marker)
        at++;
    for (size_t i = 0; i < count; i++) {
        bool is_marker = !strcmp(list->words[first + i].text, LEAD_WORD);
        int64_t end = at + 1 + is_marker;
        while (end < length && ids[end] != marker)
            end++;
        if (end >= length) return;
        keep[first + i] = end == at + 2;
        list->words[first + i].id = ids[at + 1];
        at = end;
    }
}

static bool check_batch(struct asking *asking, struct word_list *list, size_t first, size_t count,
                        int32_t marker, unsigned char *keep)
{
    struct strbuf text = {0};
    int32_t *ids;
    for (size_t i = 0; i < count; i++)
        strbuf_format(&text, " " LEAD_WORD " %s", list->words[first + i].text);
    strbuf_text(&text, " " LEAD_WORD);
    int64_t found = count_tokens(asking, strbuf_cstr(&text), text.length, &ids);
    if (ids) mark_by_ids(list, first, count, ids, found, marker, keep);
    free(ids);
    strbuf_free(&text);
    return found >= 0;
}

/* false: no answer, or too few words are left. A server that only counts leaves all of them, for
 * the samples to judge. */
static bool check_words(struct asking *asking, struct word_list *list)
{
    int32_t *ids;
    const char two[] = " " LEAD_WORD " " LEAD_WORD;
    int64_t found = count_tokens(asking, two, sizeof two - 1, &ids);
    if (found < 2 || !ids) return free(ids), found >= 2;
    int32_t marker = ids[found - 1];
    for (int64_t i = 0; asking->chat && i + 1 < found; i++)
        if (ids[i] == ids[i + 1]) marker = ids[i]; /* a template's tokens stand around the text */
    free(ids);
    unsigned char *keep = must_alloc(list->count + 1);
    bool answered = true;
    for (size_t i = 0; i < list->count && answered; i += BATCH) {
        size_t count = list->count - i < BATCH ? list->count - i : BATCH;
        answered = check_batch(asking, list, i, count, marker, keep);
    }
    size_t good = 0;
    for (size_t i = 0; i < list->count; i++)
        good += keep[i];
    if (answered && good >= FEW_WORDS) word_list_filter(list, keep);
    free(keep);
    return answered && good >= FEW_WORDS;
}

static void use_letters(struct word_list *list)
{
    word_list_free(list);
    list->count = 26;
    list->words = must_alloc(list->count * sizeof *list->words);
    for (size_t i = 0; i < list->count; i++) {
        list->words[i].text[0] = (char)('a' + i);
        list->words[i].id = -1;
    }
}

/* Random texts of the words that were found have as many tokens as they should. */
static bool sample_fits(struct asking *asking, const struct word_list *list,
                        const struct calibration *how, size_t length, struct rng *rng)
{
    struct strbuf text = {0};
    if (how->lead) strbuf_text(&text, LEAD_WORD);
    for (size_t i = 0; i < length; i++)
        strbuf_format(&text, "%s%s", how->letters ? "" : " ",
                      list->words[rng_below(rng, list->count)].text);
    int64_t found = count_tokens(asking, strbuf_cstr(&text), text.length, NULL);
    strbuf_free(&text);
    return found == (int64_t)length + how->added;
}

static bool samples_fit(struct asking *asking, const struct word_list *list,
                        const struct calibration *how)
{
    struct rng rng = {1};
    int32_t longest = asking->target->max_model_len;
    for (size_t i = 0, length = 7; i < SAMPLES; i++, length *= 11) {
        if (longest > 0 && (int64_t)length + how->added >= longest) break;
        if (!sample_fits(asking, list, how, length, &rng)) return false;
    }
    return true;
}

static bool try_letters(struct asking *asking, struct word_list *list, struct calibration *out)
{
    struct word_list letters = {0};
    int64_t one = count_text(asking, "a");
    if (one < 1 || one > 10000) return false;
    struct calibration how = {.letters = true, .added = (int32_t)one - 1};
    use_letters(&letters);
    if (!samples_fit(asking, &letters, &how)) return word_list_free(&letters), false;
    word_list_free(list);
    *list = letters;
    *out = how;
    out->exact = true;
    return true;
}

void calibrate(const struct target *target, bool chat, struct word_list *list,
               struct calibration *out)
{
    struct asking asking = {.target = target, .chat = chat};
    *out = (struct calibration){0};
    out->exact =
        find_added(&asking, out) && check_words(&asking, list) && samples_fit(&asking, list, out);
    if (out->exact || (!asking.missing && !asking.err.status && try_letters(&asking, list, out)))
        return;
    *out = (struct calibration){0};
    if (asking.missing)
        snprintf(out->words, sizeof out->words, "the server has no /tokenize: %.160s",
                 asking.err.text);
    else if (asking.err.status)
        snprintf(out->words, sizeof out->words, "%.190s", asking.err.text);
    else
        snprintf(out->words, sizeof out->words,
                 "its tokens are neither words nor letters, or merge across them");
}
