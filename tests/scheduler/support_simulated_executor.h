/* An executor without a model, in virtual time, from one seed.
 *
 * Its KV slots hold (token, position). A step stores its new tokens where the plan says, then makes
 * each row's next token a hash of what the row's view really exposes: the spans are walked slot by
 * slot, every (token, position) in order. So a wrong span, a wrong position, a block that was taken
 * from its owner too early or read after it was given away, all change the output, and
 * simulated_answer says what it must be.
 *
 * Work is done at collect, never at submit, and the plan is summed at both: a plan that changes in
 * flight stops the test. So does a plan that breaks the contract of executor.h (a slot written
 * twice, blocks out of range, too many rows or tokens, a previous_row that is not the same
 * sequence's).
 */
#ifndef SUPPORT_SIMULATED_EXECUTOR_H
#define SUPPORT_SIMULATED_EXECUTOR_H

#include "base/base.h"
#include "scheduler/scheduler.h"

struct simulated_options {
    struct executor_capacity capacity;
    uint64_t seed;           /* of the failures */
    double submit_failures;  /* share of submits that fail */
    double collect_failures; /* share of collects that fail; their slots hold garbage */
    double bad_tokens;       /* share of rows that sample a token outside the vocabulary */
    int64_t *now_us;         /* NULL, or the clock to advance: 1000 us a step and 10 us a token */
};

struct simulated_counts {
    int64_t steps, rows, tokens; /* computed */
    int64_t copies, copied_slots;
    int64_t failures;
    int32_t most_rows, most_tokens, most_in_flight;
};

struct simulated;

struct simulated *simulated_create(const struct simulated_options *options);
void simulated_free(struct simulated *sim); /* nothing may be in flight */
struct executor simulated_executor(struct simulated *sim);
struct simulated_counts simulated_counts(const struct simulated *sim);

/* Fills a block's slots with garbage, as whoever takes it next may find them. */
void simulated_poison(struct simulated *sim, int32_t block);

/* The tokens that a sequence alone must get after `prompt`: out[count]. Computed from the flat list
 * of tokens, without blocks, spans or a scheduler. */
void simulated_answer(int32_t vocab, const int32_t *prompt, int32_t prompt_count,
                      const struct sample_spec *spec, int32_t count, int32_t *out);

/* The same token by token: the hash of a list of (token, position), and what is drawn after it. */
uint64_t simulated_hash_start(void);
uint64_t simulated_hash(uint64_t hash, int32_t token, int32_t position);
struct token_score simulated_draw(int32_t vocab, uint64_t hash, const struct sample_spec *spec,
                                  uint64_t index);

/* The log probability of prompt[position] after what stands before it, position >= 1. */
float simulated_prompt_logprob(const int32_t *prompt, int32_t position);

#endif
