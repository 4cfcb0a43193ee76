/* The fields that say how tokens are drawn and reported, where they are more than one number:
 * logit_bias, and logprobs in each endpoint's spelling. */
#include "server/request_content.h"
#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BIAS 100.0 /* OpenAI's range */

/* A key of logit_bias: a token id in decimal and nothing else. */
static bool parse_bias_token(const char *key, int32_t vocab, int32_t *token,
                             struct api_error *error)
{
    char *end;
    errno = 0;
    long value = strtol(key, &end, 10);
    bool digits = *key >= '0' && *key <= '9' && *end == '\0';
    if (!digits || errno || value >= vocab)
        return refuse(error, REFUSAL_INVALID_VALUE, "logit_bias",
                      "logit_bias names token '%.40s'; token ids of this model are 0 to %d", key,
                      vocab - 1);
    *token = (int32_t)value;
    return true;
}

static bool parse_bias(const char *key, const json_t *value, int32_t vocab, struct logit_bias *out,
                       struct api_error *error)
{
    if (!parse_bias_token(key, vocab, &out->token, error)) return false;
    char name[64];
    snprintf(name, sizeof name, "logit_bias.%.40s", key);
    return json_to_float(value, name, -MAX_BIAS, MAX_BIAS, &out->bias, error);
}

bool parse_logit_bias(struct api_request *request, const struct server_limits *limits,
                      int32_t vocab, struct api_error *error)
{
    json_t *object = json_object_get(request->root, "logit_bias"), *value;
    if (!object || json_is_null(object)) return true;
    if (!json_is_object(object))
        return refuse(error, REFUSAL_INVALID_TYPE, "logit_bias",
                      "logit_bias must be an object of token ids and numbers, not %s",
                      json_type_name(object));
    size_t count = json_object_size(object);
    if (count > (size_t)limits->max_logit_bias)
        return refuse(error, REFUSAL_INVALID_VALUE, "logit_bias",
                      "logit_bias names %zu tokens; at most %d are allowed", count,
                      limits->max_logit_bias);
    request->biases = try_alloc(count, sizeof *request->biases);
    if (!request->biases) return refuse_memory(error);
    const char *key;
    json_object_foreach(object, key, value)
    {
        struct logit_bias *bias = &request->biases[request->sample.bias_count];
        if (!parse_bias(key, value, vocab, bias, error)) return false;
        request->sample.bias_count++;
    }
    request->sample.biases = request->biases;
    return true;
}

static bool parse_top(struct api_request *request, const char *name, const json_t *value,
                      const struct server_limits *limits, struct api_error *error)
{
    int64_t top;
    if (!json_to_int(value, name, 0, limits->max_logprobs, &top, error)) return false;
    request->sample.top_logprobs = (int32_t)top;
    return true;
}

/* /v1/completions: "logprobs" is the number of alternatives, 0 for the token's own alone. */
static bool parse_completion_logprobs(struct api_request *request, const json_t *value,
                                      const struct server_limits *limits, struct api_error *error)
{
    if (!value || json_is_false(value)) return true;
    request->sample.want_logprob = true;
    return parse_top(request, "logprobs", value, limits, error);
}

/* Chat: "logprobs" is true or false, "top_logprobs" the number. */
static bool parse_chat_logprobs(struct api_request *request, const json_t *value,
                                const struct server_limits *limits, struct api_error *error)
{
    if (value && !json_to_bool(value, "logprobs", &request->sample.want_logprob, error))
        return false;
    const json_t *top = json_field(request->root, "top_logprobs");
    if (!top) return true;
    if (!parse_top(request, "top_logprobs", top, limits, error)) return false;
    if (request->sample.top_logprobs && !request->sample.want_logprob)
        return refuse(error, REFUSAL_INVALID_VALUE, "top_logprobs",
                      "top_logprobs is allowed only with \"logprobs\": true");
    return true;
}

bool parse_logprobs(struct api_request *request, const struct server_limits *limits,
                    struct api_error *error)
{
    const json_t *value = json_field(request->root, "logprobs");
    if (request->endpoint == API_CHAT) return parse_chat_logprobs(request, value, limits, error);
    return parse_completion_logprobs(request, value, limits, error);
}
