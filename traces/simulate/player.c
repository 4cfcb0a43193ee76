#include "traces/simulate/player.h"

#include "base/base.h"
#include "kvcache/kvcache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- players */

static void reserve(struct player *player, int32_t sequences)
{
    if (sequences <= player->capacity) return;
    size_t count = (size_t)sequences;
    player->branches = must_realloc(player->branches, count * sizeof *player->branches);
    player->last_us = must_realloc(player->last_us, count * sizeof *player->last_us);
    player->capacity = sequences;
}

static struct player *player_take(struct player_room *room)
{
    struct player *player = room->spare;
    if (player)
        room->spare = player->next;
    else
        player = must_alloc(sizeof *player);
    struct player kept = *player;
    *player = (struct player){.room = room,
                              .number = ++room->last_number,
                              .branches = kept.branches,
                              .last_us = kept.last_us,
                              .capacity = kept.capacity};
    return player;
}

static void player_end(struct player *player, enum outcome outcome, const char *reason)
{
    struct player_room *room = player->room;
    record_end(&player->record, outcome, reason);
    room->on_end(room->context, player);
    player->next = room->spare;
    room->spare = player;
}

void player_refuse(struct player *player, const char *reason)
{
    player_end(player, OUTCOME_REFUSED, reason);
}

void player_room_free(struct player_room *room)
{
    for (struct player *next, *player = room->spare; player; player = next) {
        next = player->next;
        free(player->branches);
        free(player->last_us);
        free(player);
    }
    free(room->prompt);
    room->spare = NULL;
    room->prompt = NULL;
    room->prompt_capacity = 0;
}

/* --- prompts */

static void fill_text(int32_t *tokens, int32_t count, int32_t vocab, uint64_t text)
{
    for (int32_t i = 0; i < count; i++) {
        uint64_t bits = mix64(text + (uint64_t)i * 0x9e3779b97f4a7c15u);
        tokens[i] = (int32_t)((bits >> 32) * (uint64_t)vocab >> 32);
    }
}

/* Shared texts and own ones begin far apart in the numbers that are hashed. */
static const int32_t *make_prompt(struct player *player)
{
    struct player_room *room = player->room;
    const struct trace_request *request = player->request;
    int32_t count = min_i32(request->prompt_tokens, room->longest), at = 0;
    if (count > room->prompt_capacity) {
        room->prompt = must_realloc(room->prompt, (size_t)count * sizeof *room->prompt);
        room->prompt_capacity = count;
    }
    for (int32_t i = 0; i < request->prefix_count && at < count; i++) {
        int32_t tokens = min_i32(request->prefixes[i].tokens, count - at);
        fill_text(room->prompt + at, tokens, room->vocab, rng_at(1, request->prefixes[i].id));
        at += tokens;
    }
    fill_text(room->prompt + at, count - at, room->vocab, rng_at(2, player->number));
    return room->prompt;
}

/* --- stages */

static void set_branches(struct player *player, int32_t count, const int32_t *tokens)
{
    reserve(player, count);
    player->sequences = count;
    for (int32_t i = 0; i < count; i++) {
        player->branches[i] = (struct branch_params){.max_tokens = tokens ? tokens[i] : 0};
        player->last_us[i] = -1;
    }
}

/* The trace's next stage, or the empty one that must stand before it; false: there is none. */
static bool enter_stage(struct player *player)
{
    const struct trace_request *request = player->request;
    bool behind = player->stage < 0 || request->stages[player->stage].parallel;
    int32_t next = player->stage + 1;
    if (next == request->stage_count) return false;
    player->empty = request->stages[next].parallel && behind && !player->empty;
    if (player->empty) {
        set_branches(player, 1, NULL);
        return true;
    }
    player->stage = next;
    set_branches(player, request->stages[next].branch_count, request->stages[next].branch_tokens);
    return true;
}

static bool next_stage(void *context, struct stage_params *stage)
{
    struct player *player = context;
    const struct trace_request *request = player->request;
    int32_t first_index = player->first_index + player->sequences;
    if (!enter_stage(player)) return false;
    player->first_index = first_index;
    *stage = (struct stage_params){
        .branches = player->branches,
        .count = player->sequences,
        .first_index = first_index,
        .parallel = !player->empty && request->stages[player->stage].parallel,
        .last = !player->empty && player->stage + 1 == request->stage_count,
    };
    return true;
}

/* Nothing is taken as given back before the end, and every fork as if it copied a block's worth:
 * never below what the scheduler needs. */
static struct request_extent extent_of(const struct trace_request *request)
{
    int64_t positions = request->prompt_tokens, blocks = blocks_for_slots(request->prompt_tokens);
    for (int32_t s = 0; s < request->stage_count; s++) {
        const struct trace_stage *stage = &request->stages[s];
        int32_t longest = 0;
        for (int32_t b = 0; b < stage->branch_count; b++) {
            longest = max_i32(longest, stage->branch_tokens[b]);
            blocks += blocks_for_slots(stage->branch_tokens[b]) + 1;
        }
        positions += (int64_t)longest + 1; /* behind a join one token is read again */
    }
    return (struct request_extent){.positions =
                                       positions > INT32_MAX ? INT32_MAX : (int32_t)positions,
                                   .blocks = blocks > INT32_MAX ? INT32_MAX : (int32_t)blocks};
}

/* --- events */

static enum token_verdict take_token(void *context, int32_t index, const struct token_score *token,
                                     bool ends)
{
    struct player *player = context;
    struct player_room *room = player->room;
    int64_t now_us = *room->now_us, *last_us = &player->last_us[index - player->first_index];
    (void)token;
    (void)ends;
    record_token(&player->record, now_us, player->stage,
                 player->request->stages[player->stage].parallel);
    if (room->on_token)
        room->on_token(room->context, player, *last_us < 0 ? -1 : now_us - *last_us);
    *last_us = now_us;
    return TOKEN_KEEP;
}

static void finish_sequence(void *context, int32_t index, struct sequence_ending *ending)
{
    (void)context;
    (void)index;
    (void)ending;
}

static void done(void *context, const struct request_stats *stats)
{
    struct player *player = context;
    switch (stats->reason) {
    case FINISH_LENGTH:
        if (player->record.output_tokens == trace_request_output(player->request))
            player_end(player, OUTCOME_COMPLETED, NULL);
        else
            player_end(player, OUTCOME_FAILED, "cut short");
        break;
    case FINISH_ABORT:
        player_end(player, OUTCOME_UNFINISHED, NULL);
        break;
    case FINISH_STOP:
    case FINISH_ERROR:
        player_end(player, OUTCOME_FAILED, "error");
        break;
    }
}

static int64_t limit_us(double ms, int64_t otherwise_us)
{
    return ms > 0 ? llround(ms * 1000) : otherwise_us;
}

struct player *player_start(struct player_room *room, const struct trace_request *request,
                            int64_t index, int64_t due_us, struct request_params *params)
{
    struct player *player = player_take(room);
    player->request = request;
    player->stage = -1;
    player->record = (struct request_record){
        .index = index,
        .branching = trace_request_branches(request),
        .class_name = request->class_name,
        .slo = {limit_us(request->ttft_ms, room->slo.ttft_us),
                limit_us(request->tpot_ms, room->slo.tpot_us)},
        .prompt_tokens = request->prompt_tokens,
        .cached_tokens = request->cached_tokens,
    };
    record_start(&player->record, due_us, due_us);
    enter_stage(player);
    bool staged = request->stage_count > 1 || player->empty || request->stages[0].parallel;
    *params = (struct request_params){
        .prompt = make_prompt(player),
        .prompt_count = request->prompt_tokens,
        .n = 1,
        .max_tokens = player->branches[0].max_tokens,
        .cached_tokens = min_i32(request->cached_tokens, request->prompt_tokens),
        .slo = {player->record.slo.ttft_us, player->record.slo.tpot_us},
        .arrival_us = due_us,
        .events = {.context = player,
                   .token = take_token,
                   .finish = finish_sequence,
                   .next = staged ? next_stage : NULL,
                   .done = done},
    };
    if (staged) params->extent = extent_of(request);
    return player;
}
