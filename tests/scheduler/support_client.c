#include "support_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t *copy_ids(const int32_t *ids, int32_t count)
{
    size_t bytes = (size_t)count * sizeof *ids;
    int32_t *copy = must_alloc(bytes);
    if (bytes) memcpy(copy, ids, bytes);
    return copy;
}

static struct client_stream *open_stream(struct client *client, int32_t index)
{
    invariant(!client->done, "an event after done");
    invariant(index >= 0 && index < client->params.n, "an event of sequence %d", index);
    invariant(!client->streams[index].finished, "an event after finish");
    return &client->streams[index];
}

static void on_score(void *context, int32_t index, int32_t position,
                     const struct token_score *score)
{
    struct client *client = context;
    struct client_stream *stream = open_stream(client, index);
    invariant(client->params.score_prompt, "a score that nobody wanted");
    invariant(position == stream->scored + 1 && position < client->params.prompt_count,
              "the score of position %d after that of %d", position, stream->scored);
    invariant(stream->count == 0, "a score after the first token");
    invariant(score->top_count == client->params.sample.top_logprobs, "%d alternatives",
              score->top_count);
    stream->scores[stream->scored++] = score->logprob;
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct client *client = context;
    struct client_stream *stream = open_stream(client, index);
    int32_t token = sampled->token;
    invariant(stream->count < client->params.max_tokens, "more than max_tokens");
    invariant(sampled->logprob ==
                  (client->params.sample.want_logprob ? -1.0f - (float)token : 0.0f),
              "the logprob %g is not that of token %d", sampled->logprob, token);
    invariant(!client->params.score_prompt || stream->scored == client->params.prompt_count - 1,
              "a token after %d scores of a prompt of %d", stream->scored,
              client->params.prompt_count);
    stream->tokens[stream->count++] = token;
    return !ends && token == client->verdict_stop ? TOKEN_STOP : TOKEN_KEEP;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct client_stream *stream = open_stream(context, index);
    stream->finished = true;
    stream->reason = ending->reason;
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct client *client = context;
    invariant(!client->done, "done twice");
    for (int32_t i = 0; i < client->params.n; i++)
        invariant(client->streams[i].finished, "done before sequence %d finished", i);
    client->done = true;
    client->stats = *stats;
}

struct request_events client_events(struct client *client)
{
    return (struct request_events){client, on_score, on_token, on_finish, NULL, on_done};
}

struct client *client_create(const struct request_params *params, int32_t verdict_stop)
{
    struct client *client = must_alloc(sizeof *client);
    client->params = *params;
    client->verdict_stop = verdict_stop;
    client->params.prompt = client->prompt = copy_ids(params->prompt, params->prompt_count);
    client->params.stop_ids = client->stop_ids = copy_ids(params->stop_ids, params->stop_count);
    client->params.events = client_events(client);
    client->streams = must_alloc((size_t)params->n * sizeof *client->streams);
    for (int32_t i = 0; i < params->n; i++) {
        client->streams[i].tokens =
            must_alloc((size_t)max_i32(params->max_tokens, 0) * sizeof(int32_t));
        client->streams[i].scores = must_alloc((size_t)params->prompt_count * sizeof(float));
    }
    return client;
}

void client_free(struct client *client)
{
    for (int32_t i = 0; i < client->params.n; i++) {
        free(client->streams[i].tokens);
        free(client->streams[i].scores);
    }
    free(client->streams);
    free(client->prompt);
    free(client->stop_ids);
    free(client);
}

enum status client_add(struct client *client, struct scheduler *s, struct error *err)
{
    enum status status = scheduler_add(s, &client->params, &client->id, err);
    client->accepted = status == ST_OK;
    if (client->accepted) client_forget(client);
    return status;
}

void client_forget(struct client *client)
{
    free(client->prompt);
    free(client->stop_ids);
    client->prompt = client->stop_ids = NULL;
}

/* How long the whole answer is and how it ends, from the tokens that an endless one would have. */
static int32_t answer_length(const struct client *client, const int32_t *endless,
                             const int32_t *stop_ids, enum finish_reason *reason)
{
    const struct request_params *params = &client->params;
    for (int32_t i = 0; i < params->max_tokens; i++) {
        *reason = FINISH_STOP;
        for (int32_t j = params->ignore_eos ? params->eos_count : 0; j < params->stop_count; j++)
            if (i >= params->min_tokens && stop_ids[j] == endless[i]) return i + 1;
        if (endless[i] == client->verdict_stop) return i + 1;
    }
    *reason = FINISH_LENGTH;
    return params->max_tokens;
}

static _Thread_local char words[256]; /* clients are judged on several threads */

static const char *stream_mistake(const struct client *client, int32_t index, int32_t vocab,
                                  const int32_t *prompt, const int32_t *stop_ids)
{
    const struct request_params *params = &client->params;
    const struct client_stream *stream = &client->streams[index];
    struct sample_spec spec = params->sample;
    int32_t hidden = params->ignore_eos ? params->eos_count : 0;
    spec.withheld = stop_ids + hidden;
    spec.withheld_count = params->stop_count - hidden;
    spec.withheld_until = params->min_tokens;
    if (index > 0) spec.seed = rng_at(spec.seed, (uint64_t)index);
    int32_t *endless = must_alloc((size_t)params->max_tokens * sizeof *endless);
    simulated_answer(vocab, prompt, params->prompt_count, &spec, params->max_tokens, endless);
    enum finish_reason reason;
    int32_t length = answer_length(client, endless, stop_ids, &reason);
    const char *mistake = NULL;
    bool cut = stream->reason == FINISH_ABORT || stream->reason == FINISH_ERROR;
    int32_t differ = 0;
    while (differ < stream->count && differ < length && stream->tokens[differ] == endless[differ])
        differ++;
    if (differ < stream->count || stream->count > length) {
        snprintf(words, sizeof words, "sequence %d: token %d is %d, expected %d", index, differ,
                 stream->tokens[differ], endless[differ]);
        mistake = words;
    } else if (cut ? length > 0 && stream->count == length : stream->count != length) {
        snprintf(words, sizeof words, "sequence %d: %d tokens of %d, reason %d", index,
                 stream->count, length, stream->reason);
        mistake = words;
    } else if (!cut && stream->reason != reason) {
        snprintf(words, sizeof words, "sequence %d: reason %d, expected %d", index, stream->reason,
                 reason);
        mistake = words;
    }
    for (int32_t i = 0; i < stream->scored && !mistake; i++) {
        if (stream->scores[i] == simulated_prompt_logprob(prompt, i + 1)) continue;
        snprintf(words, sizeof words, "sequence %d: the score of position %d is wrong", index,
                 i + 1);
        mistake = words;
    }
    if (!mistake && !cut && params->score_prompt && stream->scored != params->prompt_count - 1)
        mistake = "not all of the prompt was scored";
    free(endless);
    return mistake;
}

const char *client_mistake(const struct client *client, int32_t vocab, const int32_t *prompt,
                           const int32_t *stop_ids)
{
    int32_t tokens = 0;
    if (!client->done) return "it was never told that it is done";
    for (int32_t i = 0; i < client->params.n; i++) {
        const char *mistake = stream_mistake(client, i, vocab, prompt, stop_ids);
        if (mistake) return mistake;
        tokens += client->streams[i].count;
    }
    if (client->stats.output_tokens != tokens) return "output_tokens is not what came";
    if (client->stats.prompt_tokens != client->params.prompt_count) return "prompt_tokens is wrong";
    if (client->params.max_tokens == 0 && client->stats.first_token_us) return "a first token";
    if (client->stats.finish_us < client->stats.first_token_us ||
        client->stats.finish_us < client->stats.arrival_us)
        return "its times run backwards";
    return NULL;
}
