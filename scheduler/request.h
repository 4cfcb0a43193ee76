/* What the scheduler is asked to do and what it reports while doing it.
 *
 * A request is a prompt and n sequences after it; or, with events.next, an answer in stages. A
 * stage is one sequence (serial) or several at the same time (parallel: its branches). Each stage
 * goes on from what the stage before left in the context: a serial one's tokens, or, behind a
 * parallel one, all branches side by side (the join). The scheduler calls `events` from the
 * engine's thread, inside the tick, so they must be short and must not block.
 */
#ifndef SCHEDULER_REQUEST_H
#define SCHEDULER_REQUEST_H

#include "scheduler/executor.h"
#include "scheduler/slo.h"

#include <stdbool.h>
#include <stddef.h>
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

/* How a sequence ended; out: what the stages after it see of it. */
struct sequence_ending {
    enum finish_reason reason;
    int32_t generated; /* tokens sampled, the one that ended it included */
    /* In: all that were sampled, without an EOS or stop token that ended it. Out: as many or fewer:
     * a token cut by a stop string leaves the context. */
    int32_t kept;
    /* Out: tokens put behind them (the visible part of a cut token, read by itself). Copied at
     * once, at most SEQUENCE_APPENDED. */
    const int32_t *appended;
    int32_t appended_count;
};
#define SEQUENCE_APPENDED 64

/* One sequence of a stage. */
struct branch_params {
    const int32_t *prompt; /* [prompt_count] ids, put behind what the stage before left; 0: none */
    int32_t prompt_count;
    int32_t max_tokens; /* 0: the prompt is computed and nothing is sampled */
    uint64_t seed;
};

/* The next stage of an answer. */
struct stage_params {
    const struct branch_params *branches; /* [count], count >= 1; copied at once, prompts too */
    int32_t count;
    int32_t first_index; /* of its sequences in the events; the others follow */
    bool parallel;       /* also with one branch; after a parallel stage comes a serial one */
    bool last;           /* no stage will follow: what has ended gives its blocks back */
};

/* What a request with stages may need at most, as its owner worked it out: checked before it is
 * accepted, and kept to (a sequence that would exceed it ends with FINISH_LENGTH). */
struct request_extent {
    int32_t positions; /* of the longest path through the stages */
    int32_t blocks;    /* KV blocks of all that must be there at the same time; 0: as many as the
                          pool has (a model that forks by itself) */
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
    void (*finish)(void *context, int32_t index, struct sequence_ending *ending);
    /* Every sequence of a stage has ended, none of them by abort or error: fills *stage with what
     * comes next, or false: the request is done. NULL: there are no stages. */
    bool (*next)(void *context, struct stage_params *stage);
    /* The last call of a request. */
    void (*done)(void *context, const struct request_stats *stats);
};

/* Whatever it points at (prompt, stop ids, biases, salt) is copied when the request is added. */
struct request_params {
    const int32_t *prompt; /* [prompt_count] ids */
    int32_t prompt_count;  /* >= 1 */
    int32_t n;             /* sequences, >= 1; with events.next 1: the first, a serial stage */
    int32_t max_tokens;    /* per sequence; 0: the prompt is computed and nothing is sampled */
    int32_t min_tokens;    /* EOS and stop tokens are not drawn before */
    bool ignore_eos;
    bool score_prompt;         /* report the prompt's log probabilities (events.score) */
    const int32_t *stop_ids;   /* EOS ids, then stop_token_ids */
    int32_t stop_count;        /* all of stop_ids */
    int32_t eos_count;         /* the first of them are EOS ids, which ignore_eos drops */
    struct sample_spec sample; /* sequence i > 0 draws with seed rng_at(seed, i) */
    int32_t priority;          /* lower runs first, as in vLLM; FCFS among equals */
    struct request_slo slo;
    int64_t
        arrival_us; /* where its TTFT counts from, if that was before it is given here; 0: now */
    /* The prompt's first tokens whose KV the executor puts into whatever blocks the request gets,
     * from a store of its own: they take room and no computation (the last token of the prompt is
     * always computed; a prompt that is scored, all of it). Models have no such store: 0. */
    int32_t cached_tokens;
    const char *cache_salt; /* [cache_salt_length] only requests of the same salt share KV */
    size_t cache_salt_length;
    struct request_extent extent; /* with events.next */
    struct request_events events;
};

#endif
