/* Answers with stages: whatever the branches do, the whole answer, its stream in reading order and
 * its stream of branch events show the same text, ids and number of log probabilities, which are
 * those of the sequences side by side; what stays in a context is the text shown.
 *
 * Input: one byte of flags, stop strings one a line up to an empty line, then two bytes each: what
 * happens to which branch, and a token (as in fuzz_render.c) or a number. */
#include "tests/fuzz/support_input.h"
#include "server/choice_text.h"
#include "server/render.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BRANCHES 5
#define MAX_STAGES   64
#define MAX_STOPS    4
#define MAX_RECORDS  32768

/* --- the engine's side: a log and what it must become */

struct branch {
    struct choice_text text;
    struct token_list sampled;
    struct strbuf shown;
    struct token_list ids;
    bool ended;
};

struct play {
    const struct render_options *options;
    struct token_log log;
    struct branch branches[MAX_BRANCHES];
    int32_t stage, count, scores;
    bool parallel;
    struct strbuf rest; /* of the serial stage before: goes before the next prompt */
    struct strbuf text; /* of the stages that have ended */
    struct token_list ids;
    enum finish_reason reason;
};

static void put(struct play *p, struct token_record record)
{
    struct token_logprob top[2] = {{record.token, -1}, {65, -2}};
    record.stage = (uint16_t)p->stage;
    record.top_count = record.kind == RECORD_TOKEN ? 2 : 0;
    token_log_append(&p->log, record, top);
}

/* The bytes as tokens of one byte, the first `skip` of them shown already. */
static void give(struct play *p, int32_t branch, const char *bytes, size_t length, uint32_t skip)
{
    struct branch *b = &p->branches[branch];
    strbuf_append(&b->shown, bytes + skip, length - skip);
    for (size_t i = 0; i < length; i++, skip = 0) {
        int32_t token = (unsigned char)bytes[i];
        token_list_append(&b->ids, token);
        put(p, (struct token_record){
                   .kind = RECORD_GIVEN, .branch = (uint16_t)branch, .token = token, .skip = skip});
    }
}

static void begin_stage(struct play *p, uint8_t how)
{
    static const char *const prompts[] = {"", "\n- ", "\xc3\xa9", "E\xf0\x9f\x98\x80"};
    p->stage++;
    p->reason = FINISH_STOP;
    p->parallel = how & 1;
    p->count = p->parallel ? 1 + (how >> 1) % MAX_BRANCHES : 1;
    int32_t stops = (how >> 4) % 3 - 1;
    const struct render_options *o = p->options;
    struct stop_set set =
        stops < 0 ? (struct stop_set){o->stops, o->stop_count} : o->stop_sets[stops];
    put(p, (struct token_record){.kind = RECORD_STAGE,
                                 .branch = (uint16_t)p->count,
                                 .parallel = p->parallel,
                                 .stops = stops});
    for (int32_t i = 0; i < p->count; i++) {
        struct branch *b = &p->branches[i];
        *b = (struct branch){0};
        choice_text_init(&b->text, set.stops, set.count);
        choice_text_keep(&b->text);
        const char *prompt = prompts[((how >> 6) + i) % 4];
        if (!p->parallel)
            give(p, i, strbuf_cstr(&p->rest), p->rest.length, (uint32_t)p->rest.length);
        give(p, i, prompt, strlen(prompt), 0);
    }
    strbuf_clear(&p->rest);
}

/* As many of the last bytes as asked for, from the beginning of a character. */
static uint32_t cut_of(const struct strbuf *piece, uint32_t wanted)
{
    uint32_t cut = wanted < piece->length ? wanted : (uint32_t)piece->length;
    while (cut > 0 && ((unsigned char)piece->data[piece->length - cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}

static void sample(struct play *p, int32_t branch, int32_t token, bool ends, uint32_t cut)
{
    struct branch *b = &p->branches[branch];
    const struct render_options *o = p->options;
    struct strbuf piece = {0};
    if (b->text.stopped) return;
    if (!ends) {
        choice_text_push(&b->text, o->tokenizer, token, o->min_tokens, o->include_stop, &piece);
        token_list_append(&b->sampled, token);
        if (cut) {
            cut = cut_of(&piece, cut);
            if (cut) choice_text_cut(&b->text, cut);
            strbuf_truncate(&piece, piece.length - cut);
        }
    }
    strbuf_append(&b->shown, strbuf_cstr(&piece), piece.length);
    strbuf_free(&piece);
    p->scores++;
    put(p, (struct token_record){.kind = RECORD_TOKEN,
                                 .branch = (uint16_t)branch,
                                 .token = token,
                                 .logprob = -1,
                                 .skip = cut,
                                 .ends = ends});
}

/* What stays of the sampled tokens, with what is left of a cut one, is what was shown of them. */
static void check_kept(struct play *p, const struct branch *b)
{
    struct strbuf text = {0};
    invariant(b->text.kept >= 0 && (size_t)b->text.kept <= b->sampled.count, "%d kept",
              b->text.kept);
    tokenizer_decode(p->options->tokenizer, b->sampled.ids, (size_t)b->text.kept, false, &text);
    strbuf_append(&text, strbuf_cstr(&b->text.rest), b->text.rest.length);
    invariant(text.length == b->text.visible && text.length <= b->shown.length &&
                  !memcmp(strbuf_cstr(&text),
                          strbuf_cstr(&b->shown) + b->shown.length - text.length, text.length),
              "what is kept is not what is shown");
    strbuf_free(&text);
}

static void gather_stage(struct play *p)
{
    for (int32_t i = 0; i < p->count; i++) {
        struct branch *b = &p->branches[i];
        strbuf_append(&p->text, strbuf_cstr(&b->shown), b->shown.length);
        for (size_t j = 0; j < b->ids.count; j++)
            token_list_append(&p->ids, b->ids.ids[j]);
        strbuf_free(&b->shown);
        free(b->ids.ids);
    }
    p->count = 0;
}

static void end_branch(struct play *p, int32_t branch, bool length)
{
    struct branch *b = &p->branches[branch];
    if (b->ended) return;
    b->ended = true;
    choice_text_end(&b->text, &b->shown);
    check_kept(p, b);
    for (int32_t i = 0; i < b->text.kept; i++)
        token_list_append(&b->ids, b->sampled.ids[i]);
    const struct strbuf *rest = &b->text.rest;
    if (p->parallel) /* a cut happens to sequences that have sampled only */
        give(p, branch, strbuf_cstr(rest), rest->length, (uint32_t)rest->length);
    else
        strbuf_append(&p->rest, strbuf_cstr(rest), rest->length);
    put(p, (struct token_record){.kind = RECORD_END,
                                 .branch = (uint16_t)branch,
                                 .reason = length ? FINISH_LENGTH : FINISH_STOP});
    if (length && !b->text.stopped) p->reason = FINISH_LENGTH;
    choice_text_release(&b->text);
    free(b->sampled.ids);
    for (int32_t i = 0; i < p->count; i++)
        if (!p->branches[i].ended) return;
    gather_stage(p);
}

static int32_t token_of(const struct tokenizer *tokenizer, uint8_t byte)
{
    if (!byte) return 1; /* not the byte 0: jansson cannot read it as a key */
    return byte < 0xf5 ? byte : tokenizer_size(tokenizer) + 1 - (0x100 - byte);
}

static void play(struct play *p, struct input input)
{
    const struct tokenizer *tokenizer = p->options->tokenizer;
    p->stage = -1;
    begin_stage(p, 0);
    while (input.left >= 2) {
        uint8_t what = input_byte(&input), value = input_byte(&input);
        if (p->count == 0) {
            if (p->stage == MAX_STAGES || p->log.count > MAX_RECORDS / 2) break;
            begin_stage(p, what);
            continue;
        }
        int32_t branch = what % p->count;
        if (p->branches[branch].ended) continue;
        what /= MAX_BRANCHES;
        if (what < 40)
            sample(p, branch, token_of(tokenizer, value), what == 39,
                   what == 38 ? 1 + value % 3 : 0);
        if (what > 38 || p->branches[branch].text.stopped) end_branch(p, branch, value & 1);
    }
    while (p->count > 0)
        for (int32_t i = p->count; i-- > 0;)
            end_branch(p, i, true);
    put(p, (struct token_record){.kind = RECORD_FINISH, .reason = p->reason});
}

/* --- the client's side */

struct seen {
    struct strbuf texts[MAX_STAGES + 1][MAX_BRANCHES]; /* [0][0]: all, where nothing says whose */
    struct token_list ids[MAX_STAGES + 1][MAX_BRANCHES];
    int32_t scores, forks, joins;
    bool finished;
};

static int64_t whole_number(const json_t *object, const char *key, int64_t most)
{
    const json_t *value = json_object_get(object, key);
    invariant(json_is_integer(value) && json_integer_value(value) >= 0 &&
                  json_integer_value(value) <= most,
              "%s", key);
    return json_integer_value(value);
}

static void see(struct seen *seen, const char *bytes, size_t length, const char *part)
{
    json_error_t why;
    json_t *document = json_loadb(bytes, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    invariant(document, "no JSON: %s: %.*s", why.text, (int)length, bytes);
    const json_t *label = json_object_get(document, "espalier");
    int64_t stage = label ? whole_number(label, "stage", MAX_STAGES) : 0;
    int64_t branch = label ? whole_number(label, "branch", MAX_BRANCHES - 1) : 0;
    const char *event = json_string_value(json_object_get(label, "event"));
    seen->forks += event && !strcmp(event, "fork");
    seen->joins += event && !strcmp(event, "join");
    const json_t *choice = json_array_get(json_object_get(document, "choices"), 0);
    invariant(choice && !seen->finished, "no choice, or one that has ended");
    const json_t *text = json_object_get(choice, "text");
    if (part) text = json_object_get(json_object_get(choice, part), "content");
    strbuf_append(&seen->texts[stage][branch], json_string_value(text), json_string_length(text));
    size_t i;
    const json_t *id, *ids = json_object_get(choice, "token_ids");
    json_array_foreach(ids, i, id)
        token_list_append(&seen->ids[stage][branch], (int32_t)json_integer_value(id));
    const json_t *logprobs = json_object_get(choice, "logprobs");
    const json_t *scores = json_object_get(logprobs, part ? "content" : "token_logprobs"), *score;
    json_array_foreach(scores, i, score) seen->scores += !json_is_null(score);
    seen->finished = json_is_string(json_object_get(choice, "finish_reason"));
    json_decref(document);
}

static void see_stream(struct seen *seen, struct strbuf *out, bool chat)
{
    const char *at = strbuf_cstr(out);
    while (strncmp(at, "data: [DONE]", 12) != 0) {
        const char *end = strstr(at, "\n\n");
        invariant(end && !strncmp(at, "data: ", 6), "no event: %s", at);
        see(seen, at + 6, (size_t)(end - at) - 6, chat ? "delta" : NULL);
        at = end + 2;
    }
}

static void expect_seen(const struct play *p, struct seen *seen)
{
    size_t text = 0, id = 0;
    for (int32_t s = 0; s <= MAX_STAGES; s++)
        for (int32_t b = 0; b < MAX_BRANCHES; b++) {
            struct strbuf *part = &seen->texts[s][b];
            struct token_list *ids = &seen->ids[s][b];
            invariant(text + part->length <= p->text.length &&
                          !memcmp(strbuf_cstr(part), strbuf_cstr(&p->text) + text, part->length),
                      "stage %d, branch %d: another text", s, b);
            text += part->length;
            for (size_t i = 0; i < ids->count; i++, id++)
                invariant(id < p->ids.count && ids->ids[i] == p->ids.ids[id], "another id");
            strbuf_free(part);
            free(ids->ids);
        }
    invariant(text == p->text.length, "the text is not whole");
    invariant(!p->options->return_token_ids || id == p->ids.count, "ids are missing");
    invariant(!p->options->logprobs || seen->scores == p->scores, "%d log probabilities of %d",
              seen->scores, p->scores);
    invariant(seen->finished, "no end");
}

/* In small bites: what is not read yet is read on. */
static void check(struct play *p, bool stream, bool branch_events)
{
    struct render_options options = *p->options;
    struct seen *seen = must_alloc(sizeof *seen);
    struct strbuf out = {0};
    struct usage usage = {0};
    options.stream = stream, options.branch_events = branch_events;
    struct renderer *renderer = renderer_create(&options);
    while (!renderer_read(renderer, &p->log, out.length + 1, stream ? &out : NULL))
        invariant(renderer_has_news(renderer, &p->log), "not read, and no news");
    if (stream) {
        renderer_stream_end(renderer, &usage, NULL, NULL, &out);
        see_stream(seen, &out, options.chat);
    } else {
        renderer_answer(renderer, &usage, NULL, &out);
        see(seen, strbuf_cstr(&out), out.length, options.chat ? "message" : NULL);
    }
    expect_seen(p, seen);
    renderer_free(renderer);
    strbuf_free(&out);
    free(seen);
}

static void run(const struct render_options *options, struct input input)
{
    struct play p = {.options = options};
    invariant(token_log_init(&p.log, MAX_RECORDS, 2), "no memory");
    play(&p, input);
    check(&p, false, false);
    check(&p, true, false);
    check(&p, true, true);
    token_log_release(&p.log);
    strbuf_free(&p.text);
    strbuf_free(&p.rest);
    free(p.ids.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t prompt_ids[] = {'a'}, eos = -1;
    static const char *const ends[] = {"END"}, *const lines[] = {"\n"};
    static const struct stop_set sets[] = {{ends, 1}, {lines, 1}};
    const struct token_list prompt = {.ids = prompt_ids, .count = COUNT_OF(prompt_ids)};
    struct input input = {(const char *)data, size};
    uint8_t flags = input_byte(&input);
    char *stops[MAX_STOPS];
    size_t count = 0;
    for (struct input line; (line = input_line(&input)).left && count < MAX_STOPS;)
        if (is_utf8(line.text, line.left)) stops[count++] = input_string(line);
    struct render_options options = {
        .tokenizer = chat_tokenizer(),
        .id = "id",
        .model = "m",
        .chat = flags & 1,
        .logprobs = flags & 2,
        .include_stop = flags & 4,
        .return_token_ids = flags & 8,
        .continuous_usage = flags & 16,
        .choices = 1,
        .n = 1,
        .min_tokens = flags >> 5,
        .stops = (const char *const *)stops,
        .stop_count = count,
        .stop_sets = sets,
        .stop_ids = &eos,
        .stop_id_count = 1,
        .prompts = &prompt,
    };
    run(&options, input);
    for (size_t i = 0; i < count; i++)
        free(stops[i]);
    return 0;
}
