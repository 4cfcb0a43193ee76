#include "support_stages.h"

#include <stdlib.h>
#include <string.h>

/* --- scripts */

static struct script_branch *new_sequence(struct script *script, int32_t vocab,
                                          int32_t prompt_count, int32_t max_tokens)
{
    int32_t index = script->sequence_count++;
    invariant(index < SCRIPT_SEQUENCES && prompt_count <= SCRIPT_PROMPT, "the script is too long");
    struct script_branch *branch = &script->branches[index];
    branch->prompt_count = prompt_count;
    branch->max_tokens = max_tokens;
    branch->seed = rng_at(17, (uint64_t)index);
    for (int32_t i = 0; i < prompt_count; i++)
        branch->prompt[i] = (i * 31 + index * 13 + 7) % vocab;
    return branch;
}

static struct script_branch *add_stage(struct script *script, int32_t vocab, int32_t count,
                                       int32_t prompt_count, int32_t max_tokens, bool parallel)
{
    struct script_stage *stage = &script->stages[script->stage_count++];
    invariant(script->stage_count <= SCRIPT_STAGES, "too many stages");
    *stage = (struct script_stage){
        .first = script->sequence_count, .count = count, .parallel = parallel, .last = true};
    if (script->stage_count > 1) {
        script->staged = true;
        stage[-1].last = false;
    }
    for (int32_t i = 0; i < count; i++)
        new_sequence(script, vocab, prompt_count, max_tokens);
    return &script->branches[stage->first];
}

void script_begin(struct script *script, int32_t vocab, int32_t prompt_count, int32_t max_tokens)
{
    *script = (struct script){.params = {.n = 1}, .verdict_stop = -1};
    script->branches = must_alloc(SCRIPT_SEQUENCES * sizeof *script->branches);
    add_stage(script, vocab, 1, prompt_count, max_tokens, false);
}

struct script_branch *script_serial(struct script *script, int32_t vocab, int32_t prompt_count,
                                    int32_t max_tokens)
{
    return add_stage(script, vocab, 1, prompt_count, max_tokens, false);
}

struct script_branch *script_parallel(struct script *script, int32_t vocab, int32_t count,
                                      int32_t prompt_count, int32_t max_tokens)
{
    return add_stage(script, vocab, count, prompt_count, max_tokens, true);
}

void script_copy(struct script *to, const struct script *from)
{
    *to = *from;
    to->branches = must_alloc(SCRIPT_SEQUENCES * sizeof *to->branches);
    memcpy(to->branches, from->branches, SCRIPT_SEQUENCES * sizeof *to->branches);
}

void script_free(struct script *script)
{
    free(script->branches);
    script->branches = NULL;
}

/* Nothing is taken as given back before the end, and every fork as if it copied 15 slots. */
struct request_extent script_extent(const struct script *script)
{
    struct request_extent extent = {0};
    for (int32_t s = 0; s < script->stage_count; s++) {
        const struct script_stage *stage = &script->stages[s];
        int32_t longest = 0;
        for (int32_t i = 0; i < stage->count; i++) {
            const struct script_branch *branch = &script->branches[stage->first + i];
            int32_t own = branch->prompt_count + branch->max_tokens + branch->appended_count;
            bool read_again = s > 0 && script->stages[s - 1].parallel && branch->prompt_count == 0;
            longest = max_i32(longest, own + read_again);
            extent.blocks += blocks_for_slots(s > 0 ? KV_BLOCK_SLOTS + own : own);
        }
        extent.positions += longest;
    }
    return extent;
}

/* --- random ones */

/* Mostly short ones. */
static int32_t some_length(struct rng *rng, int32_t high)
{
    if (chance(rng, 0.15)) return 0;
    if (chance(rng, 0.2)) return min_i32(high, between(rng, 15, 18));
    return between(rng, 0, chance(rng, 0.3) ? high : max_i32(1, high / 6));
}

static void choose_branch(struct script_branch *branch, struct rng *rng,
                          const struct script_limits *limits, int32_t length)
{
    int32_t vocab = limits->vocab;
    branch->prompt_count = some_length(rng, length);
    branch->max_tokens = limits->long_answers && chance(rng, 0.8) ? between(rng, length / 2, length)
                                                                  : some_length(rng, length);
    branch->seed = rng_next(rng);
    branch->cut = chance(rng, 0.25) ? between(rng, 0, 5) : 0;
    branch->appended_count = chance(rng, 0.25) ? between(rng, 0, min_i32(length, 20)) : 0;
    for (int32_t i = 0; i < branch->prompt_count; i++)
        branch->prompt[i] = between(rng, 0, vocab - 1);
    for (int32_t i = 0; i < branch->appended_count; i++)
        branch->appended[i] = between(rng, 0, vocab - 1);
}

static void choose_stages(struct script *script, struct rng *rng,
                          const struct script_limits *limits, int32_t length)
{
    bool forked = false;
    int32_t count = between(rng, 1, SCRIPT_STAGES);
    script_begin(script, limits->vocab, 1, 1);
    script->staged = true;
    for (int32_t s = 1; s < count; s++) {
        forked = !forked && chance(rng, 0.7);
        int32_t width =
            between(rng, 1, chance(rng, 0.2) ? limits->width : min_i32(limits->width, 4));
        if (forked)
            script_parallel(script, limits->vocab, width, 1, 1);
        else
            script_serial(script, limits->vocab, 1, 1);
    }
    for (int32_t i = 0; i < script->sequence_count; i++) {
        choose_branch(&script->branches[i], rng, limits, length);
        if (i > 1 && chance(rng, 0.1)) script->branches[i] = script->branches[i - 1]; /* twins */
    }
    script->stages[count - 1].last = chance(rng, 0.7);
}

/* n sequences of one prompt; the rule of their seeds is the scheduler's. */
static void choose_flat(struct script *script, struct rng *rng, const struct script_limits *limits,
                        int32_t length)
{
    script_begin(script, limits->vocab, 1, 1);
    choose_branch(&script->branches[0], rng, limits, length);
    script->params.n = script->stages[0].count = script->sequence_count =
        chance(rng, 0.5) ? between(rng, 1, limits->width) : 1;
    script->branches[0].cut = script->branches[0].appended_count = 0;
    for (int32_t i = 1; i < script->params.n; i++) {
        script->branches[i] = script->branches[0];
        script->branches[i].seed = rng_at(script->branches[0].seed, (uint64_t)i);
    }
}

static void choose_common(struct script *script, struct rng *rng,
                          const struct script_limits *limits)
{
    int32_t vocab = limits->vocab;
    int32_t stop_count = chance(rng, limits->long_answers ? 0.05 : 0.4) ? between(rng, 1, 3) : 0;
    for (int32_t i = 0; i < stop_count; i++)
        script->stop_ids[i] = between(rng, 0, vocab - 1);
    int32_t n = script->params.n;
    script->params = (struct request_params){
        .n = n,
        .min_tokens = chance(rng, 0.2) ? between(rng, 1, 20) : 0,
        .ignore_eos = chance(rng, 0.2),
        .stop_count = stop_count,
        .eos_count = between(rng, 0, stop_count),
        .sample = {.temperature = chance(rng, 0.5) ? 1.0f : 0.0f, .want_logprob = true},
        .cache_salt = "tenant",
        .cache_salt_length = chance(rng, 0.2) ? 6 : 0,
    };
    script->verdict_stop =
        chance(rng, limits->long_answers ? 0.03 : 0.2) ? between(rng, 0, vocab - 1) : -1;
}

static bool fits(const struct script *script, const struct script_limits *limits)
{
    struct request_extent extent = script_extent(script);
    return extent.positions <= limits->positions && extent.blocks <= limits->blocks;
}

void script_random(struct script *script, struct rng *rng, const struct script_limits *limits)
{
    bool flat = chance(rng, 0.25);
    for (int32_t tries = 0, length = limits->length;;
         tries++, length = max_i32(length * 3 / 4, 1)) {
        if (flat || tries > 20)
            choose_flat(script, rng, limits, length);
        else
            choose_stages(script, rng, limits, length);
        for (int32_t i = 0; i < script->stages[0].count; i++) /* its own prompt is never empty */
            script->branches[i].prompt_count = max_i32(1, script->branches[i].prompt_count);
        choose_common(script, rng, limits);
        if (fits(script, limits)) return;
        script_free(script);
    }
}

/* --- the client */

static void take_back(struct stage_client *client)
{
    for (size_t i = 0; i < COUNT_OF(client->lent); i++) {
        if (client->lent[i]) memset(client->lent[i], 0x5a, client->lent_bytes[i]);
        free(client->lent[i]);
        client->lent[i] = NULL;
    }
}

static void *lend(struct stage_client *client, const void *from, size_t bytes)
{
    size_t i = 0;
    while (client->lent[i])
        i++;
    client->lent[i] = must_alloc(bytes);
    client->lent_bytes[i] = bytes;
    if (from && bytes) memcpy(client->lent[i], from, bytes);
    return client->lent[i];
}

static bool is_cut(enum finish_reason reason)
{
    return reason == FINISH_ABORT || reason == FINISH_ERROR;
}

static struct stage_stream *open_stream(struct stage_client *client, int32_t index)
{
    take_back(client);
    invariant(!client->done, "an event after done");
    invariant(index >= 0 && index < client->script->sequence_count, "an event of sequence %d",
              index);
    struct stage_stream *stream = &client->streams[index];
    invariant(stream->begun, "an event of sequence %d, which has not begun", index);
    invariant(!stream->finished, "an event of sequence %d, which has finished", index);
    return stream;
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct stage_client *client = context;
    struct stage_stream *stream = open_stream(client, index);
    invariant(stream->count < client->script->branches[index].max_tokens,
              "sequence %d gets more than max_tokens", index);
    stream->logprobs[stream->count] = sampled->logprob;
    stream->tokens[stream->count++] = sampled->token;
    stream->ended_by_id = ends;
    return !ends && sampled->token == client->script->verdict_stop ? TOKEN_STOP : TOKEN_KEEP;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct stage_client *client = context;
    const struct script_branch *branch = &client->script->branches[index];
    struct stage_stream *stream = open_stream(client, index);
    stream->finished = true;
    stream->reason = client->last_reason = ending->reason;
    invariant(ending->generated == stream->count, "sequence %d: %d generated, %d came", index,
              ending->generated, stream->count);
    if (is_cut(ending->reason)) return;
    invariant(ending->kept == stream->count - stream->ended_by_id,
              "sequence %d: %d kept of %d, of which %d ended it", index, ending->kept,
              stream->count, stream->ended_by_id);
    if (!client->script->staged) return;
    ending->kept = max_i32(0, ending->kept - branch->cut);
    ending->appended_count = branch->appended_count;
    ending->appended =
        lend(client, branch->appended, (size_t)branch->appended_count * sizeof branch->appended[0]);
}

/* Its sequences as the scheduler is given them. */
static void lend_stage(struct stage_client *client, const struct script_stage *stage,
                       struct stage_params *params)
{
    const struct script_branch *from = &client->script->branches[stage->first];
    size_t count = (size_t)stage->count;
    struct branch_params *branches = lend(client, NULL, count * sizeof *branches);
    int32_t *ids = lend(client, NULL, count * sizeof from->prompt);
    for (int32_t i = 0; i < stage->count; i++, ids += SCRIPT_PROMPT) {
        memcpy(ids, from[i].prompt, sizeof from->prompt);
        branches[i] =
            (struct branch_params){ids, from[i].prompt_count, from[i].max_tokens, from[i].seed};
        if (from[i].prompt_count == 0) branches[i].prompt = NULL;
    }
    *params =
        (struct stage_params){branches, stage->count, stage->first, stage->parallel, stage->last};
}

static void begin_stage(struct stage_client *client)
{
    const struct script_stage *stage = &client->script->stages[client->stage];
    for (int32_t i = 0; i < stage->count; i++)
        client->streams[stage->first + i].begun = true;
}

static bool on_next(void *context, struct stage_params *params)
{
    struct stage_client *client = context;
    const struct script *script = client->script;
    const struct script_stage *stage = &script->stages[client->stage];
    take_back(client);
    invariant(!client->done, "a stage is wanted after done");
    for (int32_t i = stage->first; i < stage->first + stage->count; i++) {
        invariant(client->streams[i].finished, "a stage is wanted before sequence %d finished", i);
        invariant(!is_cut(client->streams[i].reason), "a stage is wanted after an abort or error");
    }
    invariant(++client->nexts <= script->stage_count, "a stage is wanted after the end");
    if (client->stage + 1 == script->stage_count) return false;
    client->stage++;
    begin_stage(client);
    lend_stage(client, stage + 1, params);
    return true;
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct stage_client *client = context;
    take_back(client);
    invariant(!client->done, "done twice");
    for (int32_t i = 0; i < client->script->sequence_count; i++)
        invariant(client->streams[i].finished == client->streams[i].begun,
                  "done before sequence %d finished", i);
    client->done = true;
    client->stats = *stats;
}

struct stage_client *stage_client_create(const struct script *script)
{
    struct stage_client *client = must_alloc(sizeof *client);
    client->script = script;
    client->streams = must_alloc((size_t)script->sequence_count * sizeof *client->streams);
    for (int32_t i = 0; i < script->sequence_count; i++) {
        size_t count = (size_t)script->branches[i].max_tokens;
        client->streams[i].tokens = must_alloc(count * sizeof(int32_t));
        client->streams[i].logprobs = must_alloc(count * sizeof(float));
    }
    begin_stage(client);
    return client;
}

enum status stage_client_add(struct stage_client *client, struct scheduler *s, struct error *err)
{
    const struct script *script = client->script;
    const struct script_branch *first = &script->branches[0];
    struct request_params params = script->params;
    params.prompt =
        lend(client, first->prompt, (size_t)first->prompt_count * sizeof first->prompt[0]);
    params.prompt_count = first->prompt_count;
    params.max_tokens = first->max_tokens;
    params.sample.seed = first->seed;
    params.stop_ids = lend(client, script->stop_ids, sizeof script->stop_ids);
    params.events = (struct request_events){client, NULL, on_token, on_finish, NULL, on_done};
    if (script->staged) {
        params.events.next = on_next;
        params.extent = script_extent(script);
    }
    enum status status = scheduler_add(s, &params, &client->id, err);
    client->accepted = status == ST_OK;
    take_back(client);
    return status;
}

void stage_client_free(struct stage_client *client)
{
    take_back(client);
    for (int32_t i = 0; i < client->script->sequence_count; i++) {
        free(client->streams[i].tokens);
        free(client->streams[i].logprobs);
    }
    free(client->streams);
    free(client);
}

bool stage_client_was_cut(const struct stage_client *client)
{
    return is_cut(client->stats.reason);
}
