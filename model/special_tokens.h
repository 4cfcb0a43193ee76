/* Tokens that are found by their text before anything else is done: control tokens and added words.
 *
 * At every position the longest match wins (leftmost-longest), and a match may be refused or grow
 * by its token's flags, all as Hugging Face's tokenizers do. The texts lie sorted, so one narrowing
 * range finds the longest in O(its length * log n).
 */
#ifndef MODEL_SPECIAL_TOKENS_H
#define MODEL_SPECIAL_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct special_token {
    const char *text;
    uint32_t length; /* > 0 */
    int32_t id;
    bool special;        /* a control token: only a scan that parses them gives it */
    bool single_word;    /* only where no letter, digit or the like stands beside it */
    bool lstrip, rstrip; /* takes the white space before, behind it */
};

struct special_tokens {
    struct special_token *list; /* [count], sorted by special_tokens_sort */
    size_t count;
    bool starts[256]; /* first bytes that occur */
};

/* Room for `count`; false when out of memory. */
bool special_tokens_init(struct special_tokens *set, size_t count);
void special_tokens_release(struct special_tokens *set);

/* At most `count` calls, then one sort. The text is copied; false when out of memory. */
bool special_tokens_add(struct special_tokens *set, const struct special_token *token);
void special_tokens_sort(struct special_tokens *set);

/* The longest token that text[length] begins with, or NULL. */
const struct special_token *special_tokens_at(const struct special_tokens *set, const char *text,
                                              size_t length);

/* The token of exactly this text, or NULL. */
const struct special_token *special_tokens_find(const struct special_tokens *set, const char *text,
                                                size_t length);

/* A walk over the matches in text[length]; fill the first four and leave the rest zero. The text of
 * a control token that is not parsed hides every token inside it. */
struct special_scan {
    const struct special_tokens *set;
    const char *text;
    size_t length;
    bool parse_special;
    size_t from;  /* the search goes on here */
    size_t taken; /* end of the last match, with the space it took */
};

/* The next match, its place [*start, *end); NULL when there is none. */
const struct special_token *special_scan_next(struct special_scan *scan, size_t *start,
                                              size_t *end);

#endif
