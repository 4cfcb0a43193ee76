/* The parts of a request that are more than one value: prompts, messages, stop strings
 * (request_content.c), biases and log probabilities (request_sampling.c). Each fills
 * its members of struct api_request, or refuses with the element's name, e.g. messages[3].content.
 */
#ifndef SERVER_REQUEST_CONTENT_H
#define SERVER_REQUEST_CONTENT_H

#include "server/request_parse.h"

/* A string, a list of strings, a list of ids or a list of such lists; at most `max_prompts`
 * prompts. */
bool parse_prompts(struct api_request *request, const char *name, int32_t max_prompts,
                   int32_t vocab, struct api_error *error);
/* One string or one list of ids. */
bool parse_prompt(const json_t *value, const char *name, int32_t vocab, struct api_prompt *prompt,
                  struct api_error *error);
/* One list of ids, as the only prompt. */
bool parse_token_list(struct api_request *request, const char *name, int32_t vocab,
                      struct api_error *error);
bool parse_messages(struct api_request *request, const struct server_limits *limits,
                    struct api_error *error);
/* What the chat template is given: the messages and the switches beside them. Views. */
struct chat request_chat(const struct api_request *request, enum chat_template family);
bool parse_stops(struct api_request *request, const struct server_limits *limits,
                 struct api_error *error);
/* A string or a list of them; *stops is the caller's to free, the texts are the document's. */
bool parse_stop_list(const json_t *value, const char *name, const struct server_limits *limits,
                     const char ***stops, size_t *stop_count, struct api_error *error);
bool parse_stop_ids(struct api_request *request, const struct server_limits *limits, int32_t vocab,
                    struct api_error *error);

bool parse_logit_bias(struct api_request *request, const struct server_limits *limits,
                      int32_t vocab, struct api_error *error);
bool parse_logprobs(struct api_request *request, const struct server_limits *limits,
                    struct api_error *error);

/* Values with their names in the error (request_parse.c). */
const json_t *json_field(const json_t *object, const char *name); /* NULL: absent or null */
const char *json_type_name(const json_t *value);                  /* "a list" */
/* A word to compare, or NULL: no string, or one with a NUL within, which is no word. */
const char *json_word(const json_t *value);
bool json_to_int(const json_t *value, const char *name, int64_t minimum, int64_t maximum,
                 int64_t *out, struct api_error *error);
bool json_to_bool(const json_t *value, const char *name, bool *out, struct api_error *error);
bool json_to_float(const json_t *value, const char *name, double minimum, double maximum,
                   float *out, struct api_error *error);

#endif
