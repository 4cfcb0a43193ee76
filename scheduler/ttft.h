/* When the first token of a request that comes now would come, and whether it is taken.
 *
 * What is predicted is a lower bound, because a request that is refused and could have been served
 * in time is worse than one that is late:
 *
 *   fill   prompts are computed in order, a chunk a step, beside the rows that decode now: all that
 *          stands before the request and its own prompt, at the latency that the step predictor
 *          gives such steps, or in such steps as the policy says it makes (policy.h)
 *   place  with more requests before it than places (max_rows), or more KV blocks needed than free,
 *          some must end first. k of them end after k - sqrt(k) times the mean time between two
 *          ends (that of late from admission to end, shared by those that run): were ends random in
 *          time, k would come sooner in one case of six
 *
 * The later of the two counts, and its own prompt after its place. So it ignores what can only make
 * the wait longer or is not known: requests of higher priority that come later, branches that will
 * run beside it, what those that run will take, prompts of later stages, preemptions. It is too
 * late where load falls away while it waits, and where its prompt is cached and the table of known
 * blocks has forgotten it. Before somebody has ended, no place is predicted to be late.
 *
 * Plain numbers, made by the scheduler (outlook.c) and read by any thread.
 */
#ifndef SCHEDULER_TTFT_H
#define SCHEDULER_TTFT_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum admission {
    ADMISSION_QUEUE,  /* whoever finds a place in the queue waits */
    ADMISSION_REFUSE, /* ST_LATE when the prediction exceeds a request's TTFT */
};

enum status admission_parse(const char *text, enum admission *admission, struct error *err);

/* Of one request or of several, before the first token. */
struct ttft_work {
    int64_t tokens;   /* to compute */
    double attention; /* as step_load.prefill_attention */
    int64_t blocks;   /* of KV, to be admitted; 0 of those that run */
    int32_t requests; /* that need a place; 0 of those that run */
};

/* By priority: what stands before a request is what is of its priority or a lower number. Of more
 * than TTFT_LEVELS priorities some are taken for a higher number, which makes less stand before. */
#define TTFT_LEVELS 8
struct ttft_line {
    struct ttft_level {
        int32_t priority;
        struct ttft_work work;
    } levels[TTFT_LEVELS]; /* [count] ascending */
    int32_t count;
};

void ttft_line_add(struct ttft_line *line, int32_t priority, const struct ttft_work *work);
void ttft_line_add_all(struct ttft_line *line, const struct ttft_line *other);
struct ttft_work ttft_line_before(const struct ttft_line *line, int32_t priority);

/* What a prediction needs of the scheduler's state. All zero: nothing is known, nothing is late. */
struct ttft_outlook {
    int64_t at_us;                 /* when it was so, and the step of then began */
    struct ttft_line line;         /* prompts that are filled, and requests that wait */
    int32_t chunk;                 /* prompt tokens a step; 0: no prediction */
    double step_us;                /* of the rows that decode now */
    double token_us, attention_us; /* what a prompt token and a unit of attention add */
    int32_t running, places;       /* requests that run; that could beside them */
    int64_t blocks_free;           /* those that a newcomer may take; may be negative */
    double admitted_blocks;        /* that requests took when they came in of late; 0: none did */
    double residence_us; /* from admission to the end, of requests that ended of late; 0: none */
};

/* Microseconds from now to the first token of a request behind `before`. */
double ttft_predict(const struct ttft_outlook *outlook, int64_t now_us,
                    const struct ttft_work *before, const struct ttft_work *own);

/* Of a request that is not taken. */
struct ttft_verdict {
    double predicted_us;
    int64_t limit_us;
    int32_t retry_s; /* after so long it would be in time if nobody else came: 1 .. 60 */
};

/* limit_us 0: none, always taken. false: *verdict says why. */
bool ttft_in_time(double predicted_us, int64_t limit_us, struct ttft_verdict *verdict);

/* ST_LATE, in words for a client. */
enum status ttft_fail(const struct ttft_verdict *verdict, struct error *err);

#endif
