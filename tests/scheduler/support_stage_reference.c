#include "support_stage_reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct placed_list *list, int32_t token, int32_t position)
{
    if (list->count == list->capacity) {
        list->capacity = max_i32(64, 2 * list->capacity);
        list->items = must_realloc(list->items, (size_t)list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = (struct placed){token, position};
    list->next_position = max_i32(list->next_position, position + 1);
}

static void put_all(struct placed_list *list, const int32_t *tokens, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        put(list, tokens[i], list->next_position);
}

static void put_list(struct placed_list *list, const struct placed_list *from, int32_t first)
{
    for (int32_t i = first; i < from->count; i++)
        put(list, from->items[i].token, from->items[i].position);
}

/* How the sampled tokens are drawn: stop tokens not before min_tokens. */
static struct sample_spec spec_of(const struct script *script, const struct script_branch *branch)
{
    const struct request_params *params = &script->params;
    int32_t hidden = params->ignore_eos ? params->eos_count : 0;
    struct sample_spec spec = params->sample;
    spec.seed = branch->seed;
    spec.withheld = script->stop_ids + hidden;
    spec.withheld_count = params->stop_count - hidden;
    spec.withheld_until = params->min_tokens;
    return spec;
}

static bool ends_with(const struct script *script, int32_t token, int32_t index)
{
    const struct request_params *params = &script->params;
    for (int32_t i = params->ignore_eos ? params->eos_count : 0; i < params->stop_count; i++)
        if (script->stop_ids[i] == token && index >= params->min_tokens) return true;
    return false;
}

/* Puts what it samples behind `list`; false when it need not go on. */
static bool sample(const struct script *script, const struct sample_spec *spec, int32_t vocab,
                   uint64_t *hash, struct placed_list *list, struct stage_stream *stream)
{
    int32_t index = stream->count++, position = list->next_position;
    struct token_score drawn = simulated_draw(vocab, *hash, spec, (uint64_t)index);
    stream->tokens[index] = drawn.token;
    stream->logprobs[index] = drawn.logprob;
    stream->ended_by_id = ends_with(script, drawn.token, index);
    if (stream->ended_by_id || drawn.token == script->verdict_stop) stream->reason = FINISH_STOP;
    put(list, drawn.token, position);
    *hash = simulated_hash(*hash, drawn.token, position);
    return stream->reason != FINISH_STOP;
}

/* `list`: the context and the prompt; then also what the sequence leaves. */
static void run_sequence(struct reference *reference, int32_t index, int32_t vocab,
                         struct placed_list *list)
{
    const struct script *script = reference->script;
    const struct script_branch *branch = &script->branches[index];
    struct stage_stream *stream = &reference->streams[index];
    struct sample_spec spec = spec_of(script, branch);
    uint64_t hash = simulated_hash_start();
    int32_t begin = list->count, position = list->next_position;
    for (int32_t i = 0; i < list->count; i++)
        hash = simulated_hash(hash, list->items[i].token, list->items[i].position);
    stream->reason = FINISH_LENGTH;
    while (stream->count < branch->max_tokens)
        if (!sample(script, &spec, vocab, &hash, list, stream)) break;
    int32_t kept = stream->count - stream->ended_by_id;
    if (script->staged) kept = max_i32(0, kept - branch->cut);
    list->count = begin + kept;
    list->next_position = position + kept;
    if (script->staged) put_all(list, branch->appended, branch->appended_count);
}

static struct placed_list begin_sequence(const struct placed_list *context, bool joined,
                                         const struct script_branch *branch)
{
    struct placed_list list = {.next_position = context->next_position};
    put_list(&list, context, 0);
    list.next_position = context->next_position;
    if (joined && branch->prompt_count == 0)
        put_all(&list, &context->items[context->count - 1].token, 1); /* read again */
    put_all(&list, branch->prompt, branch->prompt_count);
    return list;
}

static void run_stage(struct reference *reference, int32_t at, int32_t vocab)
{
    static const struct placed_list nothing;
    const struct script_stage *stage = &reference->script->stages[at];
    const struct placed_list *before = at > 0 ? &reference->contexts[at - 1] : &nothing;
    bool joined = at > 0 && stage[-1].parallel;
    struct placed_list *after = &reference->contexts[at];
    put_list(after, before, 0);
    after->next_position = before->next_position;
    for (int32_t i = stage->first; i < stage->first + stage->count; i++) {
        struct placed_list list = begin_sequence(before, joined, &reference->script->branches[i]);
        run_sequence(reference, i, vocab, &list);
        put_list(after, &list, before->count);
        after->next_position = max_i32(after->next_position, list.next_position);
        free(list.items);
    }
}

struct reference *reference_create(const struct script *script, int32_t vocab)
{
    struct reference *reference = must_alloc(sizeof *reference);
    reference->script = script;
    reference->streams = must_alloc((size_t)script->sequence_count * sizeof *reference->streams);
    reference->contexts = must_alloc((size_t)script->stage_count * sizeof *reference->contexts);
    for (int32_t i = 0; i < script->sequence_count; i++) {
        size_t count = (size_t)script->branches[i].max_tokens;
        reference->streams[i].tokens = must_alloc(count * sizeof(int32_t));
        reference->streams[i].logprobs = must_alloc(count * sizeof(float));
    }
    for (int32_t at = 0; at < script->stage_count; at++)
        run_stage(reference, at, vocab);
    return reference;
}

void reference_free(struct reference *reference)
{
    for (int32_t i = 0; i < reference->script->sequence_count; i++) {
        free(reference->streams[i].tokens);
        free(reference->streams[i].logprobs);
    }
    for (int32_t at = 0; at < reference->script->stage_count; at++)
        free(reference->contexts[at].items);
    free(reference->streams);
    free(reference->contexts);
    free(reference);
}

static char words[256];

static const char *stream_mistake(const struct stage_stream *got, const struct stage_stream *right,
                                  int32_t index)
{
    bool cut = got->reason == FINISH_ABORT || got->reason == FINISH_ERROR;
    for (int32_t i = 0; i < got->count; i++) {
        if (i < right->count && got->tokens[i] == right->tokens[i] &&
            got->logprobs[i] == right->logprobs[i])
            continue;
        snprintf(words, sizeof words, "sequence %d: token %d is %d (%g), expected %d (%g) of %d",
                 index, i, got->tokens[i], (double)got->logprobs[i],
                 i < right->count ? right->tokens[i] : -1,
                 i < right->count ? (double)right->logprobs[i] : 0, right->count);
        return words;
    }
    /* A sequence is over with its last token: one that was cut lacks some of them. */
    bool length_fits = cut ? got->count < right->count || right->count == 0
                           : got->count == right->count && got->reason == right->reason;
    if (length_fits) return NULL;
    snprintf(words, sizeof words, "sequence %d: %d tokens and reason %d, expected %d and %d", index,
             got->count, got->reason, right->count, right->reason);
    return words;
}

static const char *stats_mistake(const struct stage_client *client)
{
    const struct request_stats *stats = &client->stats;
    int32_t tokens = 0;
    bool all_begun = true;
    for (int32_t i = 0; i < client->script->sequence_count; i++) {
        tokens += client->streams[i].count;
        all_begun = all_begun && client->streams[i].begun;
    }
    if (stats->output_tokens != tokens) return "output_tokens is not what came";
    if (stats->prompt_tokens != client->script->branches[0].prompt_count)
        return "prompt_tokens is not the request's own prompt";
    if (stats->cached_tokens < 0 || stats->cached_tokens > stats->prompt_tokens)
        return "cached_tokens is no part of the prompt";
    if ((stats->first_token_us != 0) != (tokens > 0)) return "first_token_us is wrong";
    if (stats->finish_us < stats->first_token_us || stats->finish_us < stats->arrival_us)
        return "its times run backwards";
    if (all_begun && stats->reason != client->last_reason)
        return "its reason is not that of the sequence that finished last";
    return NULL;
}

const char *stage_client_mistake(const struct stage_client *client,
                                 const struct reference *reference)
{
    if (!client->done) return "it was never told that it is done";
    for (int32_t i = 0; i < client->script->sequence_count; i++) {
        const struct stage_stream *got = &client->streams[i];
        const char *mistake = got->begun ? stream_mistake(got, &reference->streams[i], i) : NULL;
        if (mistake) return mistake;
        if (!got->begun && !stage_client_was_cut(client)) return "it was not answered to its end";
    }
    return stats_mistake(client);
}
