/* A request of a trace as the scheduler sees it: prompt tokens, stages and events, and the record
 * that its tokens are written into.
 *
 * Prompts. Token i of the prefix `id` is a hash of (id, i), any other token one of (player, i): so
 * the prefix tree finds exactly what the trace says is shared, and no more.
 *
 * Stages. The scheduler wants a serial stage first, and one behind each parallel stage. Where the
 * trace has none, an empty one stands (nothing is sampled in it); the record counts the trace's
 * stages only. Branches and later stages have no prompt of their own. The stage behind branches
 * reads its last token once more, which takes one position and one KV slot.
 *
 * All of it is for the thread that ticks the scheduler.
 */
#ifndef TRACES_SIMULATE_PLAYER_H
#define TRACES_SIMULATE_PLAYER_H

#include "scheduler/request.h"
#include "traces/results/record.h"
#include "traces/trace.h"

#include <stdbool.h>

struct player;

/* What players have in common, and who hears of them. The owner fills what is above the line. */
struct player_room {
    const int64_t *now_us; /* the clock */
    int32_t vocab;
    int32_t longest; /* prompt that anybody would accept: of a longer one only as much is made */
    struct slo_target slo; /* of requests whose trace names none */
    void *context;
    /* A token came, `gap_us` after the one before it in its sequence; -1: its first. NULL: nobody
     * listens. */
    void (*on_token)(void *context, struct player *player, int64_t gap_us);
    /* The record is complete. The player is free again afterwards. */
    void (*on_end)(void *context, struct player *player);
    /* --- */
    struct player *spare; /* free ones */
    uint64_t last_number;
    int32_t *prompt; /* [prompt_capacity] of the request started last */
    int32_t prompt_capacity;
};

void player_room_free(struct player_room *room); /* no player is in use */

struct player {
    struct request_record record;
    const struct trace_request *request; /* the trace's */
    bool scored;                         /* the owner's: it counts */
    bool lost;                           /* the owner's: it was counted as one that misses */
    struct player *next, *previous;      /* the owner's */

    struct player_room *room;
    uint64_t number;                /* 1, 2, ... of the room */
    int32_t stage;                  /* of the trace, that runs or ran last; -1: none has begun */
    int32_t first_index, sequences; /* of the scheduler's stage that runs */
    bool empty;                     /* that stage is none of the trace's */
    struct branch_params *branches; /* [capacity] */
    int64_t *last_us;               /* [capacity] of each sequence of the stage; -1: none yet */
    int32_t capacity;
};

/* Fills `params`, which point into the player and the room until the next start; the request
 * arrived at due_us, at the latest now. Give them to scheduler_add or engine_submit; player_refuse
 * if it did not take them. */
struct player *player_start(struct player_room *room, const struct trace_request *request,
                            int64_t index, int64_t due_us, struct request_params *params);

/* Not accepted: the record says so, on_end is called. `reason` must live as long as the record. */
void player_refuse(struct player *player, const char *reason);

#endif
