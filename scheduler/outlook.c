/* What ttft.h predicts from: the scheduler's state as plain numbers, and what a request asks for.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <math.h>

#define MEMORY        32   /* values that a mean of late is of, about */
#define LOOKED_AT     4096 /* of those that wait, in a tick; more are as if they were not there */
#define PROBE_CONTEXT 1e3  /* tokens that the prompt tokens attend to whose price is asked for */

/* --- work */

static struct ttft_work prompt_work(int32_t from, int32_t end)
{
    return (struct ttft_work){.tokens = end - from,
                              .attention = prefill_attention(end - from, end)};
}

struct ttft_work request_work(const struct request_params *params, int32_t known)
{
    int32_t count = params->prompt_count;
    struct ttft_work work =
        prompt_work(min_i32(count - 1, max_i32(known, params->cached_tokens)), count);
    work.blocks = blocks_for_slots(count) - known / KV_BLOCK_SLOTS;
    work.requests = 1;
    return work;
}

double request_ttft_us(const struct ttft_outlook *outlook, const struct ttft_line *line,
                       const struct request_params *params, int32_t known, int64_t now_us)
{
    struct ttft_work before = ttft_line_before(line, params->priority);
    struct ttft_work own = request_work(params, known);
    bool earlier = params->arrival_us > 0 && params->arrival_us < now_us;
    double waited_us = earlier ? (double)(now_us - params->arrival_us) : 0;
    return waited_us + ttft_predict(outlook, now_us, &before, &own);
}

bool request_awaits_token(const struct request_params *params)
{
    return params->slo.ttft_us > 0 && (params->max_tokens > 0 || params->events.next);
}

int32_t request_known(const struct known_blocks *known, const struct request_limits *limits,
                      const struct request_params *params)
{
    if (!known || params->score_prompt) return 0;
    struct block_key root =
        block_key_root(&limits->hasher, params->cache_salt, params->cache_salt_length);
    return known_blocks_find(known, &limits->hasher, root, params->prompt, params->prompt_count);
}

void request_make_known(struct known_blocks *known, const struct request_limits *limits,
                        const struct request_params *params)
{
    if (!known || params->score_prompt) return;
    struct block_key root =
        block_key_root(&limits->hasher, params->cache_salt, params->cache_salt_length);
    known_blocks_add_prompt(known, &limits->hasher, root, params->prompt, params->prompt_count);
}

/* Of one in the queue: everything that it has to compute before it goes on. */
static struct ttft_work waiting_work(const struct request *request)
{
    struct ttft_work work = {.requests = 1};
    int32_t known = request->known;
    for (const struct sequence *seq = request_begin(request); seq; seq = sequence_next(seq)) {
        bool live = !seq->finished;
        int32_t slots = live ? seq->length : seq->needed,
                from = min_i32(known, max_i32(0, slots - 1));
        struct ttft_work own = prompt_work(from, slots);
        work.tokens += own.tokens;
        work.attention += own.attention;
        work.blocks += blocks_for_slots(slots) - from / KV_BLOCK_SLOTS;
        known = 0;       /* it is of the first sequence's tokens */
        if (live) break; /* it is admitted with this one */
    }
    return work;
}

/* Of one that runs, until its first token. */
static struct ttft_work running_work(const struct request *request)
{
    const struct sequence *seq = request_begin(request);
    if (request->stats.first_token_us || seq->finished || seq->state != SEQUENCE_RESIDENT)
        return (struct ttft_work){0};
    int32_t end = sequence_target(seq);
    return prompt_work(min_i32(end, max_i32(sequence_start(seq), request->known)), end);
}

static void add_line(const struct scheduler *s, struct ttft_line *line)
{
    for (int32_t i = 0; i < s->running_count; i++) {
        struct ttft_work work = running_work(s->running[i]);
        if (work.tokens > 0) ttft_line_add(line, s->running[i]->params.priority, &work);
    }
    for (int32_t i = 0; i < min_i32(s->waiting.count, LOOKED_AT); i++) {
        struct ttft_work work = waiting_work(s->waiting.heap[i]);
        ttft_line_add(line, s->waiting.heap[i]->params.priority, &work);
    }
}

/* --- steps */

static double predict(const struct scheduler *s, struct step_load load, int32_t tokens,
                      double attention)
{
    load.prefill_tokens = tokens;
    load.prefill_attention = attention;
    double us = s->predictor.predict(s->predictor.self, &load);
    return us >= 0 && us <= LONGEST_STEP_US ? us : 0; /* else it says nothing */
}

/* Beside the rows that decoded in the last step, a full chunk of prompts. */
static void add_steps(const struct scheduler *s, struct ttft_outlook *outlook)
{
    struct step_load decode = s->running_count > 0 ? s->last_load : (struct step_load){0};
    int32_t chunk = min_i32(s->prefill_chunk, s->capacity.max_tokens - decode.decode_rows);
    if (chunk < 1) chunk = 1;
    double attention = PROBE_CONTEXT * chunk;
    double none_us = predict(s, decode, 0, 0), full_us = predict(s, decode, chunk, 0);
    double far_us = predict(s, decode, chunk, attention);
    outlook->step_us = none_us;
    outlook->token_us = fmax(0, full_us - none_us) / chunk;
    outlook->attention_us = fmax(0, far_us - full_us) / attention;
    if (s->step_target_us > 0 && full_us > s->step_target_us && outlook->token_us > 0)
        chunk = (int32_t)((s->step_target_us - none_us) / outlook->token_us);
    outlook->chunk = max_i32(chunk, LEAST_CHUNK);
}

/* What the policy lets a step have of prompts, and how long it makes it, whatever it is made of. */
static void add_urgent_steps(const struct scheduler *s, struct ttft_outlook *outlook)
{
    outlook->chunk = max_i32(1, (int32_t)s->urgent_chunk);
    outlook->step_us = s->urgent_us;
}

/* --- what is told */

/* The mean of the last `memory` values or so. */
static void add_to_mean(double *mean, double value, int32_t *count, int32_t memory)
{
    *count = min_i32(*count + 1, memory);
    *mean += (value - *mean) / *count;
}

void note_urgent(struct scheduler *s, const struct ready *ready)
{
    /* (A predictor may say anything, and a mean remembers it.) */
    s->urgent =
        ready->urgent_chunk > 0 && ready->urgent_us >= 0 && ready->urgent_us <= LONGEST_STEP_US;
    if (!s->urgent) return;
    int32_t count = s->urgent_steps;
    add_to_mean(&s->urgent_chunk, ready->urgent_chunk, &count, MEMORY);
    add_to_mean(&s->urgent_us, ready->urgent_us, &s->urgent_steps, MEMORY);
}

void note_admission(struct scheduler *s, int32_t blocks)
{
    add_to_mean(&s->admitted_blocks, blocks, &s->admissions, MEMORY);
}

void note_residence(struct scheduler *s, const struct request *request)
{
    const struct request_stats *stats = &request->stats;
    if (stats->scheduled_us == 0) return;
    double us = (double)(stats->finish_us - stats->scheduled_us);
    add_to_mean(&s->residence_us, us, &s->residences, MEMORY);
}

/* --- the whole */

struct ttft_outlook scheduler_outlook(const struct scheduler *s)
{
    struct ttft_outlook outlook = {.at_us = clock_now(&s->clock),
                                   .running = s->running_count,
                                   .places = s->max_rows - s->running_count,
                                   .admitted_blocks = s->admitted_blocks,
                                   .blocks_free = block_pool_available(s->pool) - resident_count(s),
                                   .residence_us = s->residence_us};
    if (s->urgent && s->running_count > 0)
        add_urgent_steps(s, &outlook);
    else
        add_steps(s, &outlook);
    add_line(s, &outlook.line);
    return outlook;
}
