/* All that is known of one request of a run: what was asked, when it went out, when each token
 * came, how it ended. It is what a line of --record holds and what --from reads, and the figures of
 * both are made from it (flight_score), so they agree.
 *
 * Times are microseconds since the run's beginning; -1: it did not happen.
 */
#ifndef TRACES_REPLAY_FLIGHT_H
#define TRACES_REPLAY_FLIGHT_H

#include "traces/replay/event.h"
#include "traces/results/record.h"
#include "traces/results/results.h"

#define FLIGHT_LAST_US (INT64_C(1) << 52) /* no time is later: no sum of two leaves an int64_t */

/* How sure it is that a chunk held a token. */
enum token_certainty {
    TOKEN_SURE,    /* text, ids, or a branch event that says so */
    TOKEN_SILENT,  /* a choice without text that goes on: a part of a character, most likely a token
                    */
    TOKEN_CLOSING, /* a choice with text that ends: a token, or what others had held back */
    TOKEN_ENDING,  /* a choice without text that ends: an EOS or nothing, most likely nothing */
};

struct flight_token {
    int64_t us;
    int32_t stage, branch;
    enum token_certainty certainty;
};

struct flight_event { /* fork or join */
    int64_t us;
    int32_t stage, branch;
    enum branch_event kind;
};

struct flight_finish {
    int32_t choice;
    char reason[24];
};

struct flight {
    int64_t index;          /* order of sending, from 0 */
    const char *class_name; /* borrowed; "": none */
    bool branching;         /* in the trace, however it was sent */
    int32_t prompt_tokens;  /* asked for */
    int32_t asked_tokens;   /* output, all branches */
    struct slo_target slo;
    bool *parallel; /* [stage_count] as sent; tokens of other stages are taken for serial ones */
    int32_t stage_count;
    int32_t answers; /* asked for: n */

    int64_t due_us;
    int64_t sent_us;       /* handed to the client library: it connects or writes at once */
    int64_t connected_us;  /* a connection was there and the request was written */
    int64_t first_byte_us; /* of the answer's body */
    int64_t end_us;

    struct flight_token *tokens; /* [token_count] in order of coming */
    size_t token_count, token_room;
    struct flight_event *events; /* [event_count] */
    size_t event_count, event_room;
    struct flight_finish *finishes; /* [finish_count] in order of coming */
    size_t finish_count, finish_room;

    int http_status;                                      /* 0: none came */
    char code[64];                                        /* of a refusal or an error event */
    int32_t usage_prompt, usage_completion, usage_cached; /* -1: not said */
    /* Tokens that usage counts beyond the chunks that came: a chunk held several, which ones is
     * unknown, so they are spread evenly over the chunks. */
    int32_t spread_tokens;
    enum outcome outcome;
    char reason[96]; /* "": none */
};

/* Empties it, keeping the memory; times and usage -1. */
void flight_reset(struct flight *flight);
void flight_free(struct flight *flight);

/* false: more than any honest server sends (twice what was asked for and 1024 more). */
bool flight_token(struct flight *flight, int64_t now_us, int32_t stage, int32_t branch,
                  enum token_certainty certainty);
bool flight_event(struct flight *flight, int64_t now_us, int32_t stage, int32_t branch,
                  enum branch_event kind);
bool flight_finish(struct flight *flight, int32_t choice, const char *reason);

/* At the end: which doubtful chunks were tokens, by the server's own count where it gave one. */
void flight_settle(struct flight *flight);

/* Its record, fed token by token, and its gaps between tokens of one sequence (builder NULL: not).
 */
void flight_score(const struct flight *flight, struct request_record *record,
                  struct results_builder *builder);

const char *outcome_name(enum outcome outcome);
bool outcome_parse(const char *text, enum outcome *outcome);

#endif
