#include "traces/replay/flight.h"
#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE 1024 /* tokens, events or ends beyond twice what was asked for */

static const char *const outcome_names[OUTCOMES] = {
    [OUTCOME_UNFINISHED] = "unfinished",
    [OUTCOME_COMPLETED] = "completed",
    [OUTCOME_REFUSED] = "refused",
    [OUTCOME_FAILED] = "failed",
};

const char *outcome_name(enum outcome outcome)
{
    return outcome_names[outcome];
}

bool outcome_parse(const char *text, enum outcome *outcome)
{
    for (int i = 0; i < OUTCOMES; i++)
        if (!strcmp(text, outcome_names[i])) return *outcome = (enum outcome)i, true;
    return false;
}

void flight_reset(struct flight *flight)
{
    struct flight kept = *flight;
    *flight = (struct flight){
        .class_name = "",
        .parallel = kept.parallel,
        .tokens = kept.tokens,
        .token_room = kept.token_room,
        .events = kept.events,
        .event_room = kept.event_room,
        .finishes = kept.finishes,
        .finish_room = kept.finish_room,
        .due_us = -1,
        .sent_us = -1,
        .connected_us = -1,
        .first_byte_us = -1,
        .end_us = -1,
        .usage_prompt = -1,
        .usage_completion = -1,
        .usage_cached = -1,
    };
}

void flight_free(struct flight *flight)
{
    free(flight->parallel);
    free(flight->tokens);
    free(flight->events);
    free(flight->finishes);
    *flight = (struct flight){0};
}

static size_t limit_of(const struct flight *flight)
{
    return 2 * (size_t)flight->asked_tokens + GRACE;
}

/* Room for one more of `size` bytes; false: the limit is reached. */
static bool grow(const struct flight *flight, void **list, size_t count, size_t *room, size_t size)
{
    if (count >= limit_of(flight)) return false;
    if (count < *room) return true;
    *room = *room ? 2 * *room : 64;
    *list = must_realloc(*list, *room * size);
    return true;
}

bool flight_token(struct flight *flight, int64_t now_us, int32_t stage, int32_t branch,
                  enum token_certainty certainty)
{
    if (!grow(flight, (void **)&flight->tokens, flight->token_count, &flight->token_room,
              sizeof *flight->tokens))
        return false;
    flight->tokens[flight->token_count++] = (struct flight_token){now_us, stage, branch, certainty};
    return true;
}

bool flight_event(struct flight *flight, int64_t now_us, int32_t stage, int32_t branch,
                  enum branch_event kind)
{
    if (!grow(flight, (void **)&flight->events, flight->event_count, &flight->event_room,
              sizeof *flight->events))
        return false;
    flight->events[flight->event_count++] = (struct flight_event){now_us, stage, branch, kind};
    return true;
}

bool flight_finish(struct flight *flight, int32_t choice, const char *reason)
{
    if (!grow(flight, (void **)&flight->finishes, flight->finish_count, &flight->finish_room,
              sizeof *flight->finishes))
        return false;
    struct flight_finish *finish = &flight->finishes[flight->finish_count++];
    finish->choice = choice;
    snprintf(finish->reason, sizeof finish->reason, "%s", reason);
    return true;
}

static void drop(struct flight *flight, enum token_certainty certainty)
{
    size_t kept = 0;
    for (size_t i = 0; i < flight->token_count; i++)
        if (flight->tokens[i].certainty != certainty) flight->tokens[kept++] = flight->tokens[i];
    flight->token_count = kept;
}

/* From the last on, so that each source is still there when it is needed. */
static void spread(struct flight *flight, size_t wanted)
{
    size_t had = flight->token_count;
    flight->spread_tokens = (int32_t)(wanted - had);
    flight->tokens = must_realloc(flight->tokens, wanted * sizeof *flight->tokens);
    flight->token_room = wanted;
    for (size_t i = wanted; i-- > 0;)
        flight->tokens[i] = flight->tokens[i * had / wanted];
    flight->token_count = wanted;
}

void flight_settle(struct flight *flight)
{
    size_t count[3] = {0};
    for (size_t i = 0; i < flight->token_count; i++)
        count[flight->tokens[i].certainty]++;
    size_t sure = count[TOKEN_SURE], silent = count[TOKEN_SILENT], ending = count[TOKEN_ENDING];
    size_t usage = flight->usage_completion > 0 ? (size_t)flight->usage_completion : 0;
    if (usage && sure + silent != usage && sure + silent + ending == usage) return;
    if (usage && sure + silent != usage && (sure == usage || sure + ending == usage)) {
        drop(flight, TOKEN_SILENT);
        if (sure == usage) drop(flight, TOKEN_ENDING);
        return;
    }
    drop(flight, TOKEN_ENDING);
    if (flight->token_count && flight->token_count < usage && usage <= limit_of(flight))
        spread(flight, usage);
}

/* The last token's time of each sequence. */
struct sequence {
    int32_t stage, branch;
    int64_t us;
};

struct sequences {
    struct sequence *list;
    size_t count, room;
};

/* The gap before this token; -1: it is its sequence's first. The latest sequences are looked at
 * first: earlier stages are over. */
static int64_t gap_before(struct sequences *all, const struct flight_token *token)
{
    for (size_t i = all->count; i-- > 0;) {
        struct sequence *sequence = &all->list[i];
        if (sequence->stage != token->stage || sequence->branch != token->branch) continue;
        int64_t gap = token->us - sequence->us;
        sequence->us = token->us;
        return gap;
    }
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 16;
        all->list = must_realloc(all->list, all->room * sizeof *all->list);
    }
    all->list[all->count++] = (struct sequence){token->stage, token->branch, token->us};
    return -1;
}

void flight_score(const struct flight *flight, struct request_record *record,
                  struct results_builder *builder)
{
    struct sequences sequences = {0};
    *record = (struct request_record){.index = flight->index,
                                      .branching = flight->branching,
                                      .class_name = flight->class_name,
                                      .slo = flight->slo,
                                      .prompt_tokens = flight->prompt_tokens,
                                      .cached_tokens =
                                          flight->usage_cached > 0 ? flight->usage_cached : 0};
    record_start(record, flight->due_us, flight->sent_us);
    for (size_t i = 0; i < flight->token_count; i++) {
        const struct flight_token *token = &flight->tokens[i];
        bool parallel = token->stage < flight->stage_count && flight->parallel[token->stage];
        record_token(record, token->us, token->stage, parallel);
        int64_t gap = builder ? gap_before(&sequences, token) : -1;
        if (gap >= 0) results_add_gap(builder, gap);
    }
    record_end(record, flight->outcome, *flight->reason ? flight->reason : NULL);
    free(sequences.list);
}
