/* The tokens of one answer, from the engine's thread (the only writer) to one reader, without a
 * lock.
 *
 * A ring that is sized at admission for everything its request can ever produce: every token of
 * every sequence, what was given to it, one end for each, one beginning for each stage. So it never
 * wraps, never overflows and never makes the tick wait, and a reader may come late. Its pages are
 * touched only as tokens come.
 *
 *     writer:  records[count] = record;  count = count + 1 (release)
 *     reader:  up to count (acquire)
 */
#ifndef SERVER_TOKEN_LOG_H
#define SERVER_TOKEN_LOG_H

#include "scheduler/executor.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A choice without stages has records of the kinds prompt, token and finish only. One with stages
 * begins each by RECORD_STAGE, whose sequences then come, in this order:
 *
 *     given *   branch 0's prompt, then branch 1's, ... (all of them right behind RECORD_STAGE)
 *     token *   of all branches as they were sampled, among each other
 *     given *   of one branch behind its last token: what it shows of a token that was cut, read
 *               again (sequence_ending.appended; all of it `skip`)
 *     end       of one branch
 *
 * A stage begins when every branch of the one before has its end; finish comes once, at last
 * (FINISH_ABORT and FINISH_ERROR: at any time). So there is room wanted for one record a stage and
 * one a sequence, for the prompts, max_tokens, SEQUENCE_APPENDED for a sequence that may be cut,
 * and the finish. */
enum record_kind {
    RECORD_PROMPT, /* a token of the request's prompt with its log probability */
    RECORD_TOKEN,  /* a sampled token */
    RECORD_FINISH, /* the choice is complete */
    RECORD_STAGE,  /* a stage begins: `branch` is how many it has */
    RECORD_GIVEN,  /* a token of the prompt of a stage or branch: shown, not sampled */
    RECORD_END,    /* a sequence of a stage has ended */
};

struct token_record {
    union {
        int32_t token; /* prompt, token, given */
        int32_t stops; /* stage: which of render_options.stop_sets; -1: render_options.stops */
    };
    float logprob;
    int32_t choice;
    /* Bytes that are not shown. Given: of the text from here on, because they were already (they
     * are of a token that was cut). Token: of the text that it made visible, at its end (behind a
     * tag that ends the sequence). */
    uint32_t skip;
    uint32_t link;  /* the reader's own */
    uint16_t stage; /* stage and all behind it: its number in the answer */
    uint16_t branch;
    uint8_t kind; /* enum record_kind */
    union {
        uint8_t ends;     /* token: the sequence's last */
        uint8_t parallel; /* stage */
    };
    uint8_t reason;    /* end, finish: enum finish_reason */
    uint8_t top_count; /* alternatives beside the token */
};

struct token_log {
    struct token_record *records; /* [capacity] */
    struct token_logprob *tops;   /* [capacity][top], or NULL where nobody asked for any */
    size_t capacity, top;
    _Atomic size_t count;
};

/* `top`: the most alternatives a record comes with. false: there is no memory for it (of more than
 * 2^32 - 1 records never). */
bool token_log_init(struct token_log *log, size_t capacity, size_t top);
void token_log_release(struct token_log *log);

/* Writer only. More than `capacity` records is a broken invariant. `top` holds record.top_count
 * alternatives and is copied; NULL is allowed for none. */
void token_log_append(struct token_log *log, struct token_record record,
                      const struct token_logprob *top);

/* The alternatives of record `index`. */
static inline const struct token_logprob *token_log_top(const struct token_log *log, size_t index)
{
    return log->tops ? log->tops + index * log->top : NULL;
}

/* How many records may be read; sequentially consistent, so that "I sleep" and "I wrote" cannot
 * miss each other (exchange.h). */
static inline size_t token_log_count(struct token_log *log)
{
    return atomic_load(&log->count);
}

#endif
