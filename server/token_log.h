/* The tokens of one answer, from the engine's thread (the only writer) to one reader, without a
 * lock.
 *
 * A ring that is sized at admission for everything its request can ever produce: every token of
 * every sequence and one end for each. So it never wraps, never overflows and never makes the tick
 * wait, and a reader may come late, or twice. Its pages are touched only as tokens come.
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

enum record_kind {
    RECORD_PROMPT, /* a token of the prompt with its log probability */
    RECORD_TOKEN,  /* a sampled token */
    RECORD_FINISH,
};

struct token_record {
    int32_t token;
    float logprob;
    int32_t choice;
    uint8_t kind;      /* enum record_kind */
    uint8_t ends;      /* token: the sequence's last */
    uint8_t reason;    /* finish: enum finish_reason */
    uint8_t top_count; /* alternatives beside the token */
};

struct token_log {
    struct token_record *records; /* [capacity] */
    struct token_logprob *tops;   /* [capacity][top], or NULL where nobody asked for any */
    size_t capacity, top;
    _Atomic size_t count;
};

/* `top`: the most alternatives a record comes with. false: there is no memory for it. */
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
