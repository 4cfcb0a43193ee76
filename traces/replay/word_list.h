/* Words that are one token in nearly every tokenizer, and those of a text. */
#ifndef TRACES_REPLAY_WORD_LIST_H
#define TRACES_REPLAY_WORD_LIST_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define WORD_ROOM 24 /* bytes of a word and its NUL */

struct word {
    char text[WORD_ROOM];
    int32_t id; /* its token with a blank before it; -1: not known */
};

struct word_list {
    struct word *words; /* [count] different ones */
    size_t count;
    uint32_t *order; /* [order_count] which word stands where; NULL: as they are */
    size_t order_count;
};

void word_list_common(struct word_list *list);

/* The words of a text file, letters only and shorter than WORD_ROOM, at most 8192 different ones
 * of its first 4 MiB. */
enum status word_list_read(const char *path, struct word_list *list, struct error *err);

/* Drops the words for which keep[i] is 0, and their places. */
void word_list_filter(struct word_list *list, const unsigned char *keep);
void word_list_free(struct word_list *list);

#endif
