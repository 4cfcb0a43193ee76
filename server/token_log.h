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

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind { RECORD_TOKEN, RECORD_FINISH };

struct token_record {
    int32_t token;
    float logprob;
    int32_t choice;
    uint8_t kind;   /* enum record_kind */
    uint8_t ends;   /* token: the sequence's last */
    uint8_t reason; /* finish: enum finish_reason */
};

struct token_log {
    struct token_record *records;
    size_t capacity;
    _Atomic size_t count;
};

/* false: there is no memory for it. */
bool token_log_init(struct token_log *log, size_t capacity);
void token_log_release(struct token_log *log);

/* Writer only. More than `capacity` records is a broken invariant. */
void token_log_append(struct token_log *log, struct token_record record);

/* How many records may be read; sequentially consistent, so that "I sleep" and "I wrote" cannot
 * miss each other (exchange.h). */
static inline size_t token_log_count(struct token_log *log)
{
    return atomic_load(&log->count);
}

#endif
