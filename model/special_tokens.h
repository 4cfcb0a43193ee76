/* Tokens that are found by their text before anything else is done: control tokens and added words.
 *
 * At every position the longest match wins (leftmost-longest, as Hugging Face's tokenizers do). The
 * texts lie sorted, so one narrowing range finds the longest in O(its length * log n).
 */
#ifndef MODEL_SPECIAL_TOKENS_H
#define MODEL_SPECIAL_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct special_token {
    const char *text; /* borrowed from whoever fills the set */
    uint32_t length;  /* > 0 */
    int32_t id;
};

struct special_tokens {
    struct special_token *list; /* [count], sorted by special_tokens_sort */
    size_t count;
    bool starts[256]; /* first bytes that occur */
};

/* Room for `count`; false when out of memory. */
bool special_tokens_init(struct special_tokens *set, size_t count);
void special_tokens_release(struct special_tokens *set);

/* At most `count` calls, then one sort. */
void special_tokens_add(struct special_tokens *set, const char *text, uint32_t length, int32_t id);
void special_tokens_sort(struct special_tokens *set);

/* The longest token that text[length] begins with, or NULL. */
const struct special_token *special_tokens_at(const struct special_tokens *set, const char *text,
                                              size_t length);

/* The first match at or after text[from], its place in *at; NULL (and *at = length) when there is
 * none. */
const struct special_token *special_tokens_next(const struct special_tokens *set, const char *text,
                                                size_t length, size_t from, size_t *at);

#endif
