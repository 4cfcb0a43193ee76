/* Answers: whatever the tokens are, every event of a stream is valid JSON, its events add up to the
 * whole answer, and tokens, ids and log probabilities agree in number.
 *
 * Input: two bytes of flags, stop strings one a line up to an empty line, then tokens, two bytes
 * each: a choice, and a byte, of which 0xf5 on are counted from the last token. */
#include "tests/fuzz/support_input.h"
#include "server/choice_text.h"
#include "server/render.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHOICES 3
#define MAX_STOPS   4

/* One answer: what is asked for, and what the engine's thread and the client know of each choice.
 */
struct answer {
    struct render_options options;
    struct choice_text watches[MAX_CHOICES]; /* as the engine's thread decides where to stop */
    struct strbuf texts[MAX_CHOICES];        /* gathered from a stream */
    size_t ids[MAX_CHOICES], scores[MAX_CHOICES];
    bool finished[MAX_CHOICES];
    struct token_log log;
};

static size_t count_scores(const json_t *logprobs)
{
    const json_t *list = json_object_get(logprobs, "content");
    if (!list) list = json_object_get(logprobs, "token_logprobs");
    return json_array_size(list);
}

/* The choices of a document or of an event, added to what is known. */
static void add_choices(struct answer *a, const json_t *document, const char *part)
{
    size_t i;
    const json_t *choice;
    json_array_foreach(json_object_get(document, "choices"), i, choice)
    {
        int64_t index = json_integer_value(json_object_get(choice, "index"));
        invariant(index >= 0 && index < a->options.choices, "choice %lld", (long long)index);
        const json_t *text = a->options.chat
                                 ? json_object_get(json_object_get(choice, part), "content")
                                 : json_object_get(choice, "text");
        strbuf_append(&a->texts[index], json_string_value(text), json_string_length(text));
        a->ids[index] += json_array_size(json_object_get(choice, "token_ids"));
        a->scores[index] += count_scores(json_object_get(choice, "logprobs"));
        invariant(!a->finished[index], "choice %lld goes on", (long long)index);
        a->finished[index] = json_is_string(json_object_get(choice, "finish_reason"));
    }
}

static void add_document(struct answer *a, const char *text, size_t length, const char *part)
{
    json_error_t why;
    json_t *document = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    invariant(document, "no JSON: %s: %.*s", why.text, (int)length, text);
    add_choices(a, document, part);
    json_decref(document);
}

static void add_stream(struct answer *a, const struct strbuf *stream)
{
    static const char done[] = "[DONE]";
    const char *at = strbuf_cstr(stream), *end;
    bool ended = false;
    for (; (end = strstr(at, "\n\n")); at = end + 2) {
        invariant(!ended && !strncmp(at, "data: ", 6), "no event: %.20s", at);
        at += 6;
        ended = (size_t)(end - at) == strlen(done) && !memcmp(at, done, strlen(done));
        if (!ended) add_document(a, at, (size_t)(end - at), "delta");
    }
    invariant(ended && !*at, "the stream does not end in [DONE]");
}

/* --- the tokens, as the engine would report them */

static void record(struct answer *a, struct renderer *renderer, struct token_record record,
                   struct strbuf *out)
{
    struct token_logprob top[2] = {{record.token, record.logprob}, {65, -INFINITY}};
    token_log_append(&a->log, record, top);
    renderer_read(renderer, &a->log, SIZE_MAX, out);
}

/* No token of the byte 0: it may be a key of top_logprobs, which jansson cannot read. */
static int32_t token_of(const struct tokenizer *tokenizer, uint8_t byte)
{
    if (!byte) return 1;
    return byte < 0xf5 ? byte : tokenizer_size(tokenizer) + 1 - (0x100 - byte);
}

/* Pushes the tokens to the renderer; returns how many. */
static size_t run_tokens(struct answer *a, struct renderer *renderer, struct input tokens,
                         struct strbuf *out, size_t counts[MAX_CHOICES])
{
    const struct render_options *o = &a->options;
    struct strbuf scratch = {0};
    size_t total = 0;
    while (tokens.left >= 2) {
        int32_t choice = input_byte(&tokens) % o->choices;
        int32_t token = token_of(o->tokenizer, input_byte(&tokens));
        if (a->watches[choice].stopped) continue;
        record(a, renderer,
               (struct token_record){.kind = RECORD_TOKEN,
                                     .token = token,
                                     .choice = choice,
                                     .logprob = -0.1f * (float)token,
                                     .top_count = 2},
               out);
        choice_text_push(&a->watches[choice], o->tokenizer, token, o->min_tokens, o->include_stop,
                         &scratch);
        counts[choice]++;
        total++;
    }
    for (int32_t i = 0; i < o->choices; i++)
        record(a, renderer,
               (struct token_record){.kind = RECORD_FINISH,
                                     .choice = i,
                                     .reason = a->watches[i].stopped ? FINISH_STOP : FINISH_LENGTH},
               out);
    strbuf_free(&scratch);
    return total;
}

static void answer_once(struct answer *a, struct input tokens, bool stream)
{
    struct strbuf out = {0};
    size_t counts[MAX_CHOICES] = {0};
    a->options.stream = stream;
    for (int32_t i = 0; i < a->options.choices; i++)
        choice_text_init(&a->watches[i], a->options.stops, a->options.stop_count);
    invariant(token_log_init(&a->log, tokens.left / 2 + MAX_CHOICES, 2), "no memory");
    struct renderer *renderer = renderer_create(&a->options);
    size_t total = run_tokens(a, renderer, tokens, stream ? &out : NULL, counts);
    struct usage usage = {1, (int64_t)total, 0};
    if (stream)
        renderer_stream_end(renderer, &usage, NULL, NULL, &out);
    else
        renderer_answer(renderer, &usage, NULL, &out);
    if (stream)
        add_stream(a, &out);
    else
        add_document(a, out.data, out.length, "message");
    for (int32_t i = 0; i < a->options.choices; i++) {
        invariant(a->finished[i], "choice %d has no end", i);
        invariant(!a->options.return_token_ids || a->ids[i] == counts[i], "%zu ids", a->ids[i]);
        size_t echoed = a->options.echo && !a->options.chat;
        invariant(!a->options.logprobs || a->scores[i] == counts[i] + echoed,
                  "%zu log probabilities", a->scores[i]);
        choice_text_release(&a->watches[i]);
    }
    renderer_free(renderer);
    token_log_release(&a->log);
    strbuf_free(&out);
}

static void check(const struct render_options *options, struct input tokens)
{
    struct answer whole = {.options = *options}, streamed = {.options = *options};
    answer_once(&whole, tokens, false);
    answer_once(&streamed, tokens, true);
    for (int32_t i = 0; i < options->choices; i++) {
        invariant(whole.texts[i].length == streamed.texts[i].length &&
                      !memcmp(strbuf_cstr(&whole.texts[i]), strbuf_cstr(&streamed.texts[i]),
                              whole.texts[i].length),
                  "choice %d: the stream's text is not the whole answer's", i);
        strbuf_free(&whole.texts[i]);
        strbuf_free(&streamed.texts[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t prompt_ids[] = {'a', 0xc3};
    const struct token_list prompt = {.ids = prompt_ids, .count = COUNT_OF(prompt_ids)};
    struct input input = {(const char *)data, size};
    uint8_t flags = input_byte(&input), more = input_byte(&input);
    char *stops[MAX_STOPS];
    size_t count = 0;
    for (struct input line; (line = input_line(&input)).left && count < MAX_STOPS;)
        if (is_utf8(line.text, line.left)) /* JSON has no others */
            stops[count++] = input_string(line);
    struct render_options options = {
        .tokenizer = chat_tokenizer(),
        .id = "id",
        .model = "m",
        .chat = flags & 1,
        .logprobs = flags & 2,
        .echo = (flags & 5) == 4,
        .include_stop = flags & 8,
        .return_token_ids = flags & 16,
        .include_usage = flags & 32,
        .continuous_usage = (flags & 96) == 96,
        .choices = 1 + (more & 3) % MAX_CHOICES,
        .n = MAX_CHOICES,
        .min_tokens = more >> 2 & 7,
        .stops = (const char *const *)stops,
        .stop_count = count,
        .prompts = &prompt,
    };
    check(&options, input);
    for (size_t i = 0; i < count; i++)
        free(stops[i]);
    return 0;
}
