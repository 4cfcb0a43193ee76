#include "server/request_parse.h"
#include "base/alloc.h"
#include "model/json_reader.h"
#include "server/request_content.h"
#include "server/request_slo.h"
#include "server/request_stages.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- fields that are one number or one truth value */

#define GENERATE   (API_COMPLETIONS | API_CHAT)
#define ABOVE_ZERO 1e-30 /* still above it as a float */

static const struct api_field fields[] = {
#define FIELD(name, kind, member, minimum, maximum, endpoints)                        \
    {                                                                                 \
        name, kind, offsetof(struct api_request, member), minimum, maximum, endpoints \
    }
    FIELD("n", FIELD_INT32, n, 1, FIELD_MAXIMUM_N, GENERATE),
    FIELD("max_tokens", FIELD_INT32, max_tokens, 0, INT32_MAX, API_COMPLETIONS),
    FIELD("max_tokens", FIELD_INT32, max_tokens, 1, INT32_MAX, API_CHAT),
    /* The newer name comes later, so it wins where both are given. */
    FIELD("max_completion_tokens", FIELD_INT32, max_tokens, 0, INT32_MAX, API_COMPLETIONS),
    FIELD("max_completion_tokens", FIELD_INT32, max_tokens, 1, INT32_MAX, API_CHAT),
    FIELD("min_tokens", FIELD_INT32, min_tokens, 0, INT32_MAX, GENERATE),
    FIELD("temperature", FIELD_FLOAT, sample.temperature, 0, 100, GENERATE),
    FIELD("top_p", FIELD_FLOAT, sample.top_p, ABOVE_ZERO, 1, GENERATE),
    FIELD("min_p", FIELD_FLOAT, sample.min_p, 0, 1, GENERATE),
    FIELD("top_k", FIELD_INT32, sample.top_k, -1, INT32_MAX, GENERATE),
    FIELD("repetition_penalty", FIELD_FLOAT, sample.repetition_penalty, ABOVE_ZERO, 100, GENERATE),
    FIELD("presence_penalty", FIELD_FLOAT, sample.presence_penalty, -2, 2, GENERATE),
    FIELD("frequency_penalty", FIELD_FLOAT, sample.frequency_penalty, -2, 2, GENERATE),
    FIELD("priority", FIELD_INT32, priority, INT32_MIN, INT32_MAX, GENERATE),
    FIELD("ignore_eos", FIELD_BOOL, ignore_eos, 0, 0, GENERATE),
    FIELD("echo", FIELD_BOOL, echo, 0, 0, API_COMPLETIONS),
    FIELD("include_stop_str_in_output", FIELD_BOOL, include_stop, 0, 0, GENERATE),
    FIELD("stream", FIELD_BOOL, stream, 0, 0, GENERATE),
    FIELD("return_token_ids", FIELD_BOOL, return_token_ids, 0, 0, GENERATE),
    FIELD("timings", FIELD_BOOL, timings, 0, 0, GENERATE),
    FIELD("add_special_tokens", FIELD_BOOL, add_special_tokens, 0, 0,
          API_COMPLETIONS | API_TOKENIZE),
    FIELD("add_generation_prompt", FIELD_BOOL, add_generation_prompt, 0, 0,
          API_CHAT | API_TOKENIZE),
#undef FIELD
};

const struct api_field *api_request_fields(size_t *count)
{
    *count = sizeof fields / sizeof fields[0];
    return fields;
}

const json_t *json_field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return value && !json_is_null(value) ? value : NULL;
}

bool json_to_int(const json_t *value, const char *name, int64_t minimum, int64_t maximum,
                 int64_t *out, struct api_error *error)
{
    int64_t number;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (json_is_real(value)) {
        /* 4.0 is an integer to JavaScript; 1.5 is one to nobody. */
        double real = json_real_value(value);
        if (real != floor(real) || fabs(real) > 0x1p53)
            return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be an integer, not %g", name,
                          real);
        number = (int64_t)real;
    } else {
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be an integer, not %s", name,
                      json_type_name(value));
    }
    if (number < minimum || number > maximum)
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "%s must be between %" PRId64 " and %" PRId64 ", not %" PRId64, name, minimum,
                      maximum, number);
    *out = number;
    return true;
}

const char *json_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_NULL:
        return "null";
    default:
        return "a truth value";
    }
}

bool json_to_bool(const json_t *value, const char *name, bool *out, struct api_error *error)
{
    if (!json_is_boolean(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be true or false, not %s", name,
                      json_type_name(value));
    *out = json_is_true(value);
    return true;
}

bool json_to_float(const json_t *value, const char *name, double minimum, double maximum,
                   float *out, struct api_error *error)
{
    if (!json_is_number(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be a number, not %s", name,
                      json_type_name(value));
    double number = json_number_value(value);
    if (!(number >= minimum && number <= maximum))
        return refuse(error, REFUSAL_INVALID_VALUE, name, "%s must be between %g and %g, not %g",
                      name, minimum, maximum, number);
    *out = (float)number;
    return true;
}

static bool parse_field(struct api_request *request, const struct api_field *field,
                        const struct server_limits *limits, struct api_error *error)
{
    const json_t *value = json_field(request->root, field->name);
    if (!value) return true;
    void *target = (char *)request + field->offset;
    if (field->kind == FIELD_BOOL) return json_to_bool(value, field->name, target, error);
    if (field->kind == FIELD_FLOAT)
        return json_to_float(value, field->name, field->minimum, field->maximum, target, error);
    int64_t number,
        maximum = field->maximum == FIELD_MAXIMUM_N ? limits->max_n : (int64_t)field->maximum;
    if (!json_to_int(value, field->name, (int64_t)field->minimum, maximum, &number, error))
        return false;
    *(int32_t *)target = (int32_t)number;
    return true;
}

static bool parse_fields(struct api_request *request, const struct server_limits *limits,
                         struct api_error *error)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (fields[i].endpoints & request->endpoint &&
            !parse_field(request, &fields[i], limits, error))
            return false;
    return true;
}

/* What a range alone cannot say. */
static bool check_fields(const struct api_request *request, struct api_error *error)
{
    if (request->max_tokens != 0 || request->echo) return true;
    const char *name =
        json_field(request->root, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
    return refuse(error, REFUSAL_INVALID_VALUE, name,
                  "%s must be at least 1; 0 is allowed only with \"echo\": true", name);
}

static bool parse_seed(struct api_request *request, struct api_error *error)
{
    const json_t *seed = json_field(request->root, "seed");
    if (!seed) return true;
    int64_t number;
    if (!json_to_int(seed, "seed", INT64_MIN, INT64_MAX, &number, error)) return false;
    request->sample.seed = (uint64_t)number;
    return request->has_seed = true;
}

static bool parse_stream_options(struct api_request *request, struct api_error *error)
{
    const json_t *options = json_field(request->root, "stream_options");
    if (!options) return true;
    if (!json_is_object(options))
        return refuse(error, REFUSAL_INVALID_TYPE, "stream_options",
                      "stream_options must be an object, not %s", json_type_name(options));
    if (!request->stream)
        return refuse(error, REFUSAL_INVALID_VALUE, "stream_options",
                      "stream_options is allowed only with \"stream\": true");
    bool timings = false; /* one of the two places is enough to ask for them */
    const struct {
        const char *name, *path;
        bool *target;
    } switches[] = {
        {"include_usage", "stream_options.include_usage", &request->include_usage},
        {"continuous_usage_stats", "stream_options.continuous_usage_stats",
         &request->continuous_usage},
        {"branch_events", "stream_options.branch_events", &request->branch_events},
        {"timings", "stream_options.timings", &timings},
    };
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        const json_t *value = json_field(options, switches[i].name);
        if (value && !json_to_bool(value, switches[i].path, switches[i].target, error))
            return false;
    }
    request->timings |= timings;
    return true;
}

/* --- fields that this version does not honour: refused rather than ignored in silence */

/* What changes nothing: the number `neutral`, or for NAN "false" and whatever is empty. */
static bool is_neutral(const json_t *value, double neutral)
{
    if (!isnan(neutral)) return json_is_number(value) && json_number_value(value) == neutral;
    switch (json_typeof(value)) {
    case JSON_FALSE:
        return true;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    default:
        return false;
    }
}

static bool refuse_unsupported(const struct api_request *request, struct api_error *error)
{
    static const struct {
        const char *name;
        double neutral;
    } unsupported[] = {
        {"best_of", 1},
        {"suffix", NAN},
        {"tools", NAN},
        {"functions", NAN},
        /* What vLLM and llama-server know and would change the answer. */
        {"structured_outputs", NAN},
        {"guided_json", NAN},
        {"guided_regex", NAN},
        {"guided_choice", NAN},
        {"guided_grammar", NAN},
        {"json_schema", NAN},
        {"grammar", NAN},
        {"bad_words", NAN},
        {"allowed_token_ids", NAN},
        {"use_beam_search", NAN},
        {"truncate_prompt_tokens", NAN},
        {"prompt_logprobs", NAN},
    };
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        const json_t *value = json_field(request->root, unsupported[i].name);
        if (value && !is_neutral(value, unsupported[i].neutral))
            return refuse(error, REFUSAL_UNSUPPORTED, unsupported[i].name,
                          "%s is not supported by this version", unsupported[i].name);
    }
    const json_t *format = json_field(request->root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format && !(type && strcmp(type, "text") == 0))
        return refuse(error, REFUSAL_UNSUPPORTED, "response_format",
                      "response_format: only {\"type\": \"text\"} is supported");
    return true;
}

/* --- the whole */

bool json_depth_within(const char *text, size_t length, int32_t depth)
{
    int32_t open = 0;
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++open > depth) return false;
        } else if (c == ']' || c == '}') {
            open--;
        }
    }
    return true;
}

static bool parse_document(struct api_request *request, const char *body, size_t length,
                           const struct server_limits *limits, struct api_error *error)
{
    if (!json_depth_within(body, length, limits->max_depth))
        return refuse(error, REFUSAL_INVALID_JSON, NULL,
                      "the JSON body nests deeper than %d levels", limits->max_depth);
    json_error_t where;
    bool short_of_memory;
    request->root =
        json_load(body, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where, &short_of_memory);
    if (short_of_memory) return refuse_memory(error);
    if (!request->root)
        return refuse(error, REFUSAL_INVALID_JSON, NULL,
                      "the body is not valid JSON: %s (line %d, column %d)", where.text, where.line,
                      where.column);
    if (!json_is_object(request->root))
        return refuse(error, REFUSAL_INVALID_JSON, NULL, "the JSON body must be an object, not %s",
                      json_type_name(request->root));
    return true;
}

static bool parse_model(struct api_request *request, struct api_error *error)
{
    const json_t *model = json_field(request->root, "model");
    if (!model) return true;
    if (!json_is_string(model))
        return refuse(error, REFUSAL_INVALID_TYPE, "model", "model must be a string, not %s",
                      json_type_name(model));
    request->model = json_string_value(model);
    request->model_length = json_string_length(model);
    return true;
}

static bool parse_cache_salt(struct api_request *request, struct api_error *error)
{
    const json_t *salt = json_field(request->root, "cache_salt");
    if (!salt) return true;
    if (!json_is_string(salt))
        return refuse(error, REFUSAL_INVALID_TYPE, "cache_salt",
                      "cache_salt must be a string, not %s", json_type_name(salt));
    size_t length = json_string_length(salt);
    if (length > sizeof request->cache_salt)
        return refuse(error, REFUSAL_INVALID_VALUE, "cache_salt",
                      "cache_salt is %zu bytes long; at most %zu are allowed", length,
                      sizeof request->cache_salt);
    memcpy(request->cache_salt, json_string_value(salt), length);
    request->cache_salt_length = length;
    return true;
}

static bool parse_generation(struct api_request *request, const struct server_limits *limits,
                             int32_t vocab, struct api_error *error)
{
    return refuse_unsupported(request, error) && check_fields(request, error) &&
           parse_seed(request, error) && parse_cache_salt(request, error) &&
           parse_stream_options(request, error) && parse_stops(request, limits, error) &&
           parse_stop_ids(request, limits, vocab, error) &&
           parse_logit_bias(request, limits, vocab, error) &&
           parse_logprobs(request, limits, error) && parse_slo(request, error) &&
           parse_stages(request, limits, vocab, error) && parse_branching(request, error);
}

static bool parse_content(struct api_request *request, const struct server_limits *limits,
                          int32_t vocab, struct api_error *error)
{
    switch (request->endpoint) {
    case API_COMPLETIONS:
        return parse_prompts(request, "prompt", limits->max_prompts, vocab, error);
    case API_CHAT:
        return parse_messages(request, limits, error);
    case API_DETOKENIZE:
        return parse_token_list(request, "tokens", vocab, error);
    default:
        break;
    }
    if (json_field(request->root, "messages")) {
        if (json_field(request->root, "prompt"))
            return refuse(error, REFUSAL_INVALID_VALUE, "messages",
                          "give prompt or messages, not both");
        return parse_messages(request, limits, error);
    }
    return parse_prompts(request, "prompt", 1, vocab, error);
}

bool api_request_parse(struct api_request *request, enum api_endpoint endpoint, const char *body,
                       size_t length, const struct server_limits *limits, int32_t vocab,
                       struct api_error *error)
{
    *request = (struct api_request){
        .endpoint = endpoint,
        .n = 1,
        .max_tokens = MAX_TOKENS_DEFAULT,
        .sample = {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
        .add_special_tokens = true,
        .add_generation_prompt = true,
    };
    return parse_document(request, body, length, limits, error) && parse_model(request, error) &&
           parse_fields(request, limits, error) && parse_content(request, limits, vocab, error) &&
           (!(endpoint & GENERATE) || parse_generation(request, limits, vocab, error));
}

void api_request_drop_document(struct api_request *request)
{
    for (size_t i = 0; request->prompts && i < request->prompt_count; i++)
        free(request->prompts[i].ids);
    for (size_t i = 0; request->joined && i < request->message_count; i++)
        free(request->joined[i]);
    free(request->prompts);
    free(request->joined);
    free(request->messages);
    free(request->stops);
    json_decref(request->root);
    request->prompts = NULL;
    request->joined = NULL;
    request->messages = NULL;
    request->chat_date = NULL;
    request->stops = NULL;
    request->root = NULL;
    request->model = NULL;
}

void api_request_release(struct api_request *request)
{
    api_request_drop_document(request);
    release_stages(request);
    free(request->stop_ids);
    free(request->biases);
    *request = (struct api_request){0};
}
