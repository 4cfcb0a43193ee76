/* A renderer from inside, shared by the files that are its parts:
 *
 *   render.c         its life; the order in which records are taken; choices without stages
 *   render_stages.c  the records of stages
 *   render_events.c  what was gathered becomes events, or a document
 *   render_json.c    pieces of JSON
 */
#ifndef SERVER_RENDER_PRIVATE_H
#define SERVER_RENDER_PRIVATE_H

#include "server/choice_text.h"
#include "server/logprobs.h"
#include "server/render.h"

/* One sequence of the stage that is being read. */
struct sequence {
    struct choice_text text;   /* of what was sampled; from its turn (open_sequence) to its end */
    struct detokenizer given;  /* of its prompt */
    struct token_list waiting; /* sampled ids that are not known to stay in the context */
    int32_t released;          /* ids that were waiting and have stayed */
    bool sampled;              /* its prompt is complete */
    uint64_t skip;             /* bytes of given text that are not shown */
    int64_t offset;            /* branch events: of its next token in its own text */
    size_t first, last;        /* records that wait for its turn, numbered from 1; 0: none */
};

/* Where a choice with stages is. */
struct stage {
    struct sequence *sequences; /* [count]; NULL: no stage has begun */
    struct stop_set stops;
    int32_t number, count;
    int32_t turn;  /* reading order: the branch that is read, those before it have ended */
    int32_t ended; /* sequences */
    int32_t forks; /* branch events: fork events that have left */
    bool parallel;
    enum finish_reason reason; /* the worst of its sequences */
    int64_t characters;        /* of the choice, shown so far: where text_offset goes on */
};

struct choice {
    struct choice_text text;       /* without stages */
    struct stage stage;            /* with stages */
    struct strbuf shown;           /* the whole text (no stream), or one event's (stream) */
    struct token_list tokens;      /* as `shown`, when token ids were asked for */
    struct logprobs_text logprobs; /* as `shown`, when they were asked for */
    bool begun;                    /* its first event has left (stream) */
    bool finished;
    enum finish_reason reason;
};

struct renderer {
    struct render_options options;
    struct choice *choices;
    int64_t completion_tokens;
    size_t read;           /* records of the log, those that wait for their turn included */
    struct choice *behind; /* its turn has come to a branch whose records wait */
    struct strbuf piece;   /* scratch */
    struct strbuf head;    /* what every event and document begins with */
};

/* --- render_stages.c */

/* The record has to wait until the branches before its own have ended. */
bool stage_defers(const struct renderer *renderer, const struct token_record *record);
/* Puts record `index` behind those that wait for the same branch; takes the next of them. */
void stage_defer(struct renderer *renderer, struct token_log *log, size_t index);
size_t stage_resume(struct renderer *renderer, struct token_log *log);

void stage_record(struct renderer *renderer, const struct token_record *record,
                  const struct token_logprob *top, struct strbuf *out);
void stage_release(struct stage *stage);

/* --- render_events.c */

/* Once, before the first event. */
void render_prepare_head(struct renderer *renderer);

/* What "espalier" says of an event. */
struct event_label {
    int32_t stage, branch;
    const char *event;
};

/* One event of one choice: what it gathered since the last. `label` may be NULL. */
void render_event(struct renderer *renderer, struct choice *choice, const struct event_label *label,
                  struct strbuf *out);

/* --- render_json.c */
/* As "%d": once a token, where printf would take as long as all else of an event. */
void render_integer(struct strbuf *out, int32_t value);
void render_ids(struct strbuf *out, const struct token_list *list);
void render_usage(struct strbuf *out, const struct usage *usage);
void render_timings(struct strbuf *out, const struct timings *timings);

#endif
