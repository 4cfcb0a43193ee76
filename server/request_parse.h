/* A JSON body to a checked request. Everything below a client can get wrong is decided here: type,
 * range, count and size, with the field's name in the error; integers are checked before any cast.
 * JSON null means "default" for every optional field, unknown fields are ignored, a key given twice
 * is refused.
 *
 * A parsed request owns its JSON document; every text in it is a view of that document. What the
 * branches need lives as long as the request: it keeps references of its own to those parts.
 */
#ifndef SERVER_REQUEST_PARSE_H
#define SERVER_REQUEST_PARSE_H

#include "model/chat.h"
#include "scheduler/request.h"
#include "server/api_error.h"
#include "server/limits.h"
#include "server/tag_grammar.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set, so that the table of fields can say where each belongs. */
enum api_endpoint {
    API_COMPLETIONS = 1,
    API_CHAT = 2,
    API_TOKENIZE = 4,
    API_DETOKENIZE = 8,
};

#define MAX_TOKENS_DEFAULT     (-1)
#define MAX_TOKENS_COMPLETIONS 16 /* the default of /v1/completions, as OpenAI's */

/* A field that is one number or one truth value. */
enum api_field_kind { FIELD_BOOL, FIELD_INT32, FIELD_FLOAT };

#define FIELD_MAXIMUM_N -1e30 /* the maximum is server_limits.max_n */

struct api_field {
    const char *name;
    enum api_field_kind kind;
    size_t offset; /* in struct api_request */
    double minimum, maximum;
    int endpoints;
};
const struct api_field *api_request_fields(size_t *count);

/* Text (ids NULL) or token ids. */
struct api_prompt {
    const char *text;
    size_t length;
    int32_t *ids;
    size_t id_count;
};

/* One sequence of a stage. */
struct api_branch {
    struct api_prompt prompt; /* put before what the model writes; may be absent or empty */
    int32_t max_tokens;       /* its own, the stage's or the request's; may be 0 */
};

/* A piece of the answer: one sequence, or several at the same time that join at its end. */
struct api_stage {
    bool parallel;       /* else serial: one branch */
    bool outline;        /* parallel, one branch for each item that the stage before wrote */
    int32_t outline_max; /* at most so many */
    struct api_branch *branches; /* outline: one; its prompt is a text with {item} and {index} */
    size_t branch_count;
    const char **stops; /* the stage's own, else the request's */
    size_t stop_count;
};

/* What a request names (request_slo.h): 0, nothing; API_SLO_NONE, that it wants no limit. */
#define API_SLO_NONE (-1)
struct api_slo {
    int64_t ttft_us, tpot_us;
};

struct api_request {
    enum api_endpoint endpoint;
    json_t *root;
    const char *model; /* NULL: not named */
    size_t model_length;

    struct api_prompt *prompts; /* completions, tokenize, and detokenize (ids) */
    size_t prompt_count;
    struct chat_message *messages; /* chat, tokenize */
    size_t message_count;
    char **joined; /* [message_count] contents put together from parts, or NULL */
    bool continue_final, no_thinking;
    const char *chat_date; /* chat_template_kwargs.date_string, or NULL */
    size_t chat_date_length;

    int32_t n;
    int32_t max_tokens; /* MAX_TOKENS_DEFAULT: not given */
    int32_t min_tokens;
    struct sample_spec sample; /* seed only when has_seed; biases are this struct's */
    bool has_seed;
    bool ignore_eos, echo, include_stop;
    struct logit_bias *biases;
    const char **stops;
    size_t stop_count;
    int32_t *stop_ids;
    size_t stop_id_count;
    int32_t priority;
    char cache_salt[256]; /* a copy: it outlives the document */
    size_t cache_salt_length;
    struct api_slo slo;

    struct api_stage *stages; /* NULL: one serial piece, the plain answer */
    size_t stage_count;
    struct tag_grammar *grammar;      /* NULL: the model's tags are plain text */
    json_t *stage_texts, *stop_texts; /* what the stages' texts are views of */

    bool stream, include_usage, continuous_usage, branch_events, timings, return_token_ids;
    bool add_special_tokens, add_generation_prompt;
};

/* false: refused, `error` says why. api_request_release is right in both cases. `vocab` bounds
 * token ids. */
bool api_request_parse(struct api_request *request, enum api_endpoint endpoint, const char *body,
                       size_t length, const struct server_limits *limits, int32_t vocab,
                       struct api_error *error);
void api_request_release(struct api_request *request);

/* Frees the document and its texts (model, prompts, messages, stops); numbers, counts, stages and
 * the grammar stay. A body may hold megabytes of unknown fields, an answer may take minutes. */
void api_request_drop_document(struct api_request *request);

/* Whether arrays and objects nest at most `depth` deep. Looks at brackets outside strings only. */
bool json_depth_within(const char *text, size_t length, int32_t depth);

#endif
