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

/* The chunk before it of the same sequence; NULL: it is the first. */
static const struct flight_token *before(const struct flight *flight, const struct flight_token *at)
{
    for (const struct flight_token *token = at; token-- > flight->tokens;)
        if (token->stage == at->stage && token->branch == at->branch) return token;
    return NULL;
}

typedef bool chunk_test(const struct flight *flight, const struct flight_token *token);

static bool is_ending(const struct flight *flight, const struct flight_token *token)
{
    (void)flight;
    return token->certainty == TOKEN_ENDING;
}

static bool is_closing(const struct flight *flight, const struct flight_token *token)
{
    (void)flight;
    return token->certainty == TOKEN_CLOSING;
}

static bool is_silent(const struct flight *flight, const struct flight_token *token)
{
    (void)flight;
    return token->certainty == TOKEN_SILENT;
}

/* The rest of a character that a token without text had begun. */
static bool is_held_back(const struct flight *flight, const struct flight_token *token)
{
    const struct flight_token *last = is_closing(flight, token) ? before(flight, token) : NULL;
    return last && last->certainty == TOKEN_SILENT;
}

/* A stream that begins with a chunk of nothing. */
static bool is_opening(const struct flight *flight, const struct flight_token *token)
{
    return token->certainty == TOKEN_SILENT && !before(flight, token);
}

static size_t count_of(const struct flight *flight, chunk_test *test)
{
    size_t count = 0;
    for (size_t i = 0; i < flight->token_count; i++)
        count += test(flight, &flight->tokens[i]);
    return count;
}

/* The last `count` of that kind; the list keeps its order. */
static void drop(struct flight *flight, chunk_test *test, size_t count)
{
    for (size_t i = flight->token_count; i-- > 0 && count;) {
        if (!test(flight, &flight->tokens[i])) continue;
        memmove(&flight->tokens[i], &flight->tokens[i + 1],
                (--flight->token_count - i) * sizeof *flight->tokens);
        count--;
    }
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

/* More chunks came than the server counts tokens: the likeliest kind that can make up for it goes.
 * None: they stay, and the length is told to be another. */
static void drop_excess(struct flight *flight, size_t excess)
{
    size_t silent = count_of(flight, is_silent);
    if (count_of(flight, is_held_back) >= excess)
        drop(flight, is_held_back, excess);
    else if (count_of(flight, is_opening) == excess)
        drop(flight, is_opening, excess);
    else if (count_of(flight, is_closing) >= excess)
        drop(flight, is_closing, excess);
    else if (silent == excess)
        drop(flight, is_silent, excess);
}

void flight_settle(struct flight *flight)
{
    size_t usage = flight->usage_completion > 0 ? (size_t)flight->usage_completion : 0;
    size_t ending = count_of(flight, is_ending), others = flight->token_count - ending;
    if (usage && others + ending == usage) return;
    drop(flight, is_ending, ending);
    if (usage && others > usage)
        drop_excess(flight, others - usage);
    else if (others && others < usage && usage <= limit_of(flight))
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
