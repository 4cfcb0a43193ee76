/* The body of a request: refused with words that are valid JSON themselves, or every value inside
 * its limits.
 *
 * Input: a byte for the endpoint (bits 0 and 1) and the chat's template, then the body. */
#include "tests/fuzz/support_input.h"
#include "model/chat.h"
#include "server/request_content.h"
#include "server/request_parse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB 1000

static void check_refusal(const struct api_error *error)
{
    struct strbuf out = {0};
    int status = refusal_status(error->refusal);
    invariant(status == 400, "a body is answered with %d", status);
    invariant(error->message[0], "a refusal without words");
    api_error_render(error, &out);
    json_t *answer = json_loadb(out.data, out.length, 0, NULL);
    const json_t *inner = json_object_get(answer, "error");
    invariant(json_object_size(inner) == 4 && json_is_string(json_object_get(inner, "message")),
              "the refusal is no error of the API: %s", out.data);
    json_decref(answer);
    strbuf_free(&out);
}

static void check_ids(const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        invariant(ids[i] >= 0 && ids[i] < VOCAB, "id %d", ids[i]);
}

static void check_prompts(const struct api_request *r, const struct server_limits *limits)
{
    invariant(r->prompt_count <= (size_t)limits->max_prompts, "%zu prompts", r->prompt_count);
    for (size_t i = 0; i < r->prompt_count; i++) {
        const struct api_prompt *prompt = &r->prompts[i];
        invariant(!prompt->text != !prompt->ids, "a prompt is text or ids");
        check_ids(prompt->ids, prompt->id_count);
        if (prompt->text) invariant(is_utf8(prompt->text, prompt->length), "a prompt is no UTF-8");
    }
    invariant(r->message_count <= (size_t)limits->max_messages, "%zu messages", r->message_count);
    for (size_t i = 0; i < r->message_count; i++) {
        const struct chat_message *message = &r->messages[i];
        invariant(message->role_length && is_utf8(message->content, message->content_length),
                  "message %zu", i);
    }
}

static void check_generation(const struct api_request *r, const struct server_limits *limits)
{
    const struct sample_spec *s = &r->sample;
    invariant(r->n >= 1 && r->n <= limits->max_n, "n is %d", r->n);
    invariant(r->max_tokens >= (r->echo ? 0 : 1) || r->max_tokens == MAX_TOKENS_DEFAULT,
              "max_tokens is %d", r->max_tokens);
    invariant(r->min_tokens >= 0, "min_tokens is %d", r->min_tokens);
    invariant(s->temperature >= 0 && s->temperature <= 100, "temperature");
    invariant(s->top_p > 0 && s->top_p <= 1 && s->min_p >= 0 && s->min_p <= 1, "top_p or min_p");
    invariant(s->top_k >= -1, "top_k is %d", s->top_k);
    invariant(r->stop_count <= (size_t)limits->max_stops &&
                  r->stop_id_count <= (size_t)limits->max_stop_ids,
              "stops");
    check_ids(r->stop_ids, r->stop_id_count);
    for (size_t i = 0; i < r->stop_count; i++) {
        size_t length = strlen(r->stops[i]);
        invariant(length && length <= (size_t)limits->max_stop_bytes, "stop %zu", i);
    }
    invariant(s->top_logprobs >= 0 && s->top_logprobs <= limits->max_logprobs, "top_logprobs");
    invariant(s->bias_count >= 0 && s->bias_count <= limits->max_logit_bias, "logit_bias");
    for (int32_t i = 0; i < s->bias_count; i++) {
        check_ids(&s->biases[i].token, 1);
        invariant(fabsf(s->biases[i].bias) <= 100, "bias %g", (double)s->biases[i].bias);
    }
    invariant(!r->include_usage || r->stream, "usage events without a stream");
}

/* After the document was dropped: the texts must still be there. */
static void check_stages(const struct api_request *r, const struct server_limits *limits)
{
    uint64_t sequences = 0;
    invariant(r->stage_count <= (size_t)limits->max_stages, "%zu stages", r->stage_count);
    for (size_t i = 0; i < r->stage_count; i++) {
        const struct api_stage *stage = &r->stages[i];
        invariant(stage->branch_count >= 1 && (stage->parallel || stage->branch_count == 1),
                  "stage %zu", i);
        sequences += stage->outline ? (uint64_t)stage->outline_max : stage->branch_count;
        for (size_t j = 0; j < stage->branch_count; j++) {
            const struct api_prompt *prompt = &stage->branches[j].prompt;
            invariant(stage->branches[j].max_tokens >= 0, "branch %zu of stage %zu", j, i);
            check_ids(prompt->ids, prompt->id_count);
            if (prompt->text) invariant(is_utf8(prompt->text, prompt->length), "no UTF-8");
        }
        for (size_t j = 0; j < stage->stop_count; j++)
            invariant(stage->stops[j][0], "stop %zu of stage %zu", j, i);
    }
    invariant(sequences <= (uint64_t)limits->max_sequences, "%llu sequences",
              (unsigned long long)sequences);
    invariant(!r->grammar || !r->stages, "stages and a grammar");
    bool branches = r->grammar || r->stages;
    invariant(!branches || (r->n == 1 && !(r->echo && r->sample.want_logprob)), "n or echo");
}

/* A chat that was taken can be rendered by every family, or the family says why not. */
static void render_chat(const struct api_request *request, uint8_t family)
{
    struct chat chat = request_chat(request, (enum chat_template)(family % CHAT_TEMPLATES));
    struct strbuf text = {0};
    struct error err = {0};
    enum status status = chat_render_text(&chat, &text, &err);
    invariant(!status || err.text[0], "a refusal without words");
    invariant(is_utf8(strbuf_cstr(&text), text.length), "the chat is no UTF-8");
    strbuf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct server_limits limits = server_limits_default();
    struct input input = {(const char *)data, size};
    struct api_request request;
    struct api_error error = {0};
    uint8_t choice = input_byte(&input);
    enum api_endpoint endpoint = (enum api_endpoint)(1 << (choice & 3));
    if (api_request_parse(&request, endpoint, input.text, input.left, &limits, VOCAB, &error)) {
        check_prompts(&request, &limits);
        check_generation(&request, &limits);
        if (request.message_count) render_chat(&request, choice >> 2);
        api_request_drop_document(&request);
        check_stages(&request, &limits);
    } else {
        check_refusal(&error);
    }
    api_request_release(&request);
    return 0;
}
