/* What the scheduler is asked to do and what it reports while doing it.
 *
 * A request is a prompt and n independent sequences after it (stages and branches come with issue
 * 5: a sequence is what will be a branch). The scheduler calls `events` from the engine's thread,
 * inside the tick, so they must be short and must not block.
 */
#ifndef SCHEDULER_REQUEST_H
#define SCHEDULER_REQUEST_H

#include "scheduler/executor.h"

#include <stdbool.h>
#include <stdint.h>

enum finish_reason {
    FINISH_STOP,   /* EOS, a stop token or a stop string */
    FINISH_LENGTH, /* max_tokens or the context's end */
    FINISH_ABORT,  /* cancelled: client gone or server stopping */
    FINISH_ERROR,  /* the executor failed */
};
#define FINISH_REASONS 4

/* The answer of events.token: keep the sequence running, or end it (FINISH_STOP: a stop string). */
enum token_verdict { TOKEN_KEEP, TOKEN_STOP };

struct request_stats {
    int64_t arrival_us, scheduled_us, first_token_us, finish_us; /* 0: never reached */
    int32_t prompt_tokens, cached_tokens, output_tokens;         /* output: summed over sequences */
    int32_t steps;             /* in which it had at least one row */
    int64_t deferred_rows;     /* rows its sequences could have used and the policy did not give */
    int32_t preemptions;       /* of its sequences; each was recomputed, and no token came twice */
    enum finish_reason reason; /* of the last sequence to finish */
};

struct request_events {
    void *context;
    /* With score_prompt: the prompt's token `position` (1, 2, ..., each once and in order, before
     * the first sampled token). NULL is allowed without. */
    void (*score)(void *context, int32_t index, int32_t position, const struct token_score *score);
    /* One sampled token of sequence `index`. `ends`: it is an EOS or stop token, the sequence
     * finishes with FINISH_STOP whatever the answer is. */
    enum token_verdict (*token)(void *context, int32_t index, const struct token_score *token,
                                bool ends);
    void (*finish)(void *context, int32_t index, enum finish_reason reason);
    /* The last call of a request. */
    void (*done)(void *context, const struct request_stats *stats);
};

/* Whatever it points at (prompt, stop ids, biases, salt) is copied when the request is added. */
struct request_params {
    const int32_t *prompt; /* [prompt_count] ids */
    int32_t prompt_count;  /* >= 1 */
    int32_t n;             /* sequences, >= 1 */
    int32_t max_tokens;    /* per sequence; 0: the prompt is computed and nothing is sampled */
    int32_t min_tokens;    /* EOS and stop tokens are not drawn before */
    bool ignore_eos;
    bool score_prompt;         /* report the prompt's log probabilities (events.score) */
    const int32_t *stop_ids;   /* EOS ids, then stop_token_ids */
    int32_t stop_count;        /* all of stop_ids */
    int32_t eos_count;         /* the first of them are EOS ids, which ignore_eos drops */
    struct sample_spec sample; /* sequence i > 0 draws with seed rng_at(seed, i) */
    int32_t priority;          /* lower runs first, as in vLLM; FCFS among equals */
    const char *cache_salt;    /* [cache_salt_length] only requests of the same salt share KV */
    size_t cache_salt_length;
    struct request_events events;
};

#endif
