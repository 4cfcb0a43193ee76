/* Which words are one token to a server, and what it adds to a prompt by itself. */
#ifndef TRACES_REPLAY_CALIBRATE_H
#define TRACES_REPLAY_CALIBRATE_H

#include "traces/replay/target.h"
#include "traces/replay/word_list.h"

struct calibration {
    bool exact;      /* all words left in the list are one token each, wherever they stand */
    bool letters;    /* the list was replaced by letters, to be written without blanks */
    bool lead;       /* a text must begin with LEAD_WORD without a blank; `added` counts it */
    int32_t added;   /* tokens of a prompt beside its words */
    char words[200]; /* why not exact, for people */
};

#define LEAD_WORD "the"

/* Filters the list. Without a /tokenize that answers, or where its counts are not those of words or
 * letters, the list stays and `exact` is false. */
void calibrate(const struct target *target, bool chat, struct word_list *list,
               struct calibration *out);

#endif
