/* tokenizer.json says what to do in a small language of its own (normalizers, pre-tokenizers,
 * models, processors that nest). We recognise the sentences that byte-level BPE models are
 * published with and refuse every other by name, rather than tokenize almost as the model was
 * trained.
 */
#include "model/tokenizer_json.h"
#include "base/base.h"
#include "model/json_reader.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More tokens than any published vocabulary by far, so that an id out of a file cannot ask for
 * gigabytes. */
#define MAX_TOKENS (4 << 20)
#define MAX_FILE   ((size_t)256 << 20)

static const char llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char qwen2_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* --- small readers. A missing key and null are the same thing. */

static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static const char *text_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(member(object, key));
    return text ? text : "";
}

static bool true_member(const json_t *object, const char *key)
{
    return json_is_true(member(object, key));
}

static bool type_is(const json_t *object, const char *type)
{
    return !strcmp(text_member(object, "type"), type);
}

/* A JSON value as one short line, for messages. */
static const char *excerpt(const json_t *value, char buffer[200])
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    snprintf(buffer, 200, "%.160s", text ? text : "?");
    json_text_free(text);
    return buffer;
}

static enum status unsupported(struct error *err, const char *what, const json_t *found,
                               const char *supported)
{
    char buffer[200];
    return fail(err, ST_UNSUPPORTED, "%s is %s; supported: %s", what, excerpt(found, buffer),
                supported);
}

/* --- where the spec's texts lie: blocks that never move, given back together */

struct text_arena {
    struct text_arena *next;
    size_t used, room;
    char bytes[];
};

#define ARENA_BLOCK ((size_t)1 << 20)

/* A copy with a NUL behind it, or NULL when out of memory. */
static const char *keep_text(struct tokenizer_spec *spec, const char *text, size_t length)
{
    struct text_arena *block = spec->texts;
    if (!block || block->room - block->used <= length) {
        size_t room = length < ARENA_BLOCK ? ARENA_BLOCK : length + 1;
        block = try_alloc(sizeof *block + room, 1);
        if (!block) return NULL;
        block->room = room;
        block->next = spec->texts;
        spec->texts = block;
    }
    char *copy = block->bytes + block->used;
    memcpy(copy, text, length);
    copy[length] = 0;
    block->used += length + 1;
    return copy;
}

void tokenizer_spec_free(struct tokenizer_spec *spec)
{
    free(spec->tokens);
    free(spec->merges);
    for (struct text_arena *block = spec->texts, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *spec = (struct tokenizer_spec){0};
}

static enum status no_memory(struct error *err)
{
    return fail(err, ST_NO_MEMORY, "tokenizer.json: out of memory");
}

/* The id of a special or added token, or -1. */
static int32_t find_added(const struct tokenizer_spec *spec, const char *text)
{
    for (int32_t i = 0; i < spec->token_count; i++) {
        const struct tokenizer_token *token = &spec->tokens[i];
        if (token->text && token->kind != TOKEN_NORMAL && !strcmp(token->text, text)) return i;
    }
    return -1;
}

/* --- the pipeline */

static enum status read_normalizer(const json_t *root, struct tokenizer_spec *spec,
                                   struct error *err)
{
    const json_t *normalizer = member(root, "normalizer");
    if (normalizer && type_is(normalizer, "Sequence")) {
        const json_t *list = member(normalizer, "normalizers");
        if (json_array_size(list) == 0) return ST_OK;
        if (json_array_size(list) == 1) normalizer = json_array_get(list, 0);
    }
    if (!normalizer) return ST_OK;
    if (!type_is(normalizer, "NFC"))
        return unsupported(err, "normalizer", normalizer, "none or {\"type\":\"NFC\"}");
    spec->nfc = true;
    return ST_OK;
}

/* A Split by one of the known patterns. */
static bool known_split(const json_t *split, enum pretokenizer *kind)
{
    if (!type_is(split, "Split") || strcmp(text_member(split, "behavior"), "Isolated") ||
        true_member(split, "invert"))
        return false;
    const char *pattern = text_member(member(split, "pattern"), "Regex");
    *kind = !strcmp(pattern, llama3_pattern) ? PRETOKENIZE_LLAMA3 : PRETOKENIZE_QWEN2;
    return *kind == PRETOKENIZE_LLAMA3 || !strcmp(pattern, qwen2_pattern);
}

static bool byte_level(const json_t *step, bool with_regex)
{
    const json_t *use_regex = member(step, "use_regex"); /* true when absent, as in old files */
    return type_is(step, "ByteLevel") && !true_member(step, "add_prefix_space") &&
           (use_regex ? json_is_true(use_regex) : true) == with_regex;
}

static enum status read_pretokenizer(const json_t *root, struct tokenizer_spec *spec,
                                     struct error *err)
{
    const json_t *whole = member(root, "pre_tokenizer");
    const json_t *first = whole, *second = NULL;
    if (type_is(whole, "Sequence")) {
        const json_t *list = member(whole, "pretokenizers");
        first = json_array_size(list) <= 2 ? json_array_get(list, 0) : NULL;
        second = json_array_get(list, 1);
    }
    if (first && !second && byte_level(first, true)) {
        spec->pretokenizer = PRETOKENIZE_GPT2;
        return ST_OK;
    }
    if (type_is(first, "Digits") && true_member(first, "individual_digits") &&
        byte_level(second, true)) {
        spec->pretokenizer = PRETOKENIZE_SMOLLM;
        return ST_OK;
    }
    if (first && byte_level(second, false) && known_split(first, &spec->pretokenizer)) return ST_OK;
    return unsupported(err, "pre_tokenizer", whole,
                       "ByteLevel (GPT-2), Digits + ByteLevel (SmolLM), Split by the pattern of "
                       "Llama 3 or Qwen2 + ByteLevel");
}

/* A TemplateProcessing of one text: nothing added, or one token before it, which must be BOS (a
 * file without tokenizer_config.json names its BOS here). */
static enum status read_template(const json_t *template, struct tokenizer_spec *spec,
                                 struct error *err)
{
    const json_t *single = member(template, "single");
    size_t count = json_array_size(single);
    if (count == 1 && member(json_array_get(single, 0), "Sequence")) return ST_OK;
    const char *name = text_member(member(json_array_get(single, 0), "SpecialToken"), "id");
    int32_t id = *name ? find_added(spec, name) : -1;
    if (count == 2 && member(json_array_get(single, 1), "Sequence") && id >= 0 &&
        (spec->bos < 0 || spec->bos == id)) {
        spec->bos = id;
        spec->add_bos = true;
        return ST_OK;
    }
    return unsupported(err, "post_processor.single", single, "the text alone, or BOS and the text");
}

static enum status read_processor(const json_t *processor, struct tokenizer_spec *spec,
                                  struct error *err)
{
    if (!processor || type_is(processor, "ByteLevel")) return ST_OK; /* moves offsets, not tokens */
    if (type_is(processor, "TemplateProcessing")) return read_template(processor, spec, err);
    if (!type_is(processor, "Sequence"))
        return unsupported(err, "post_processor", processor,
                           "none, ByteLevel, TemplateProcessing or a Sequence of them");
    const json_t *steps = member(processor, "processors");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        if (type_is(step, "Sequence")) /* nobody writes these, and nesting has no end */
            return unsupported(err, "post_processor", processor, "a Sequence without Sequences");
        enum status status = read_processor(step, spec, err);
        if (status) return status;
    }
    return ST_OK;
}

static enum status read_decoder(const json_t *root, struct error *err)
{
    const json_t *decoder = member(root, "decoder");
    if (!decoder || type_is(decoder, "ByteLevel")) return ST_OK;
    return unsupported(err, "decoder", decoder, "{\"type\":\"ByteLevel\"}");
}

/* --- the model: vocabulary and merges */

static enum status check_model(const json_t *model, struct error *err)
{
    if (!type_is(model, "BPE"))
        return fail(err, ST_UNSUPPORTED, "model.type is '%s'; supported: BPE (byte-level)",
                    text_member(model, "type"));
    static const char *const absent[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                         "end_of_word_suffix"};
    for (size_t i = 0; i < COUNT_OF(absent); i++) {
        const json_t *value = member(model, absent[i]);
        if (!value || (json_is_string(value) && !*json_string_value(value))) continue;
        char what[64];
        snprintf(what, sizeof what, "model.%s", absent[i]);
        return unsupported(err, what, value, "null");
    }
    if (true_member(model, "byte_fallback"))
        return fail(err, ST_UNSUPPORTED, "model.byte_fallback is true; supported: false");
    if (!json_is_object(member(model, "vocab")) || !json_is_array(member(model, "merges")))
        return fail(err, ST_BAD_FILE, "model needs an object 'vocab' and an array 'merges'");
    return ST_OK;
}

static enum status check_id(const json_t *id, const char *where, struct error *err)
{
    json_int_t value = json_integer_value(id);
    if (json_is_integer(id) && value >= 0 && value < MAX_TOKENS) return ST_OK;
    char buffer[200];
    return fail(err, ST_BAD_FILE, "%s: the id is %s, allowed is 0 to %d", where,
                excerpt(id, buffer), MAX_TOKENS - 1);
}

/* One more than the largest id of vocab and added_tokens. */
static enum status count_tokens(json_t *vocab, const json_t *added, int32_t *count,
                                struct error *err)
{
    const char *text;
    json_t *value;
    size_t i;
    *count = 0;
    json_object_foreach(vocab, text, value)
    {
        enum status status = check_id(value, "model.vocab", err);
        if (status) return status;
        *count = max_i32(*count, (int32_t)json_integer_value(value) + 1);
    }
    json_array_foreach(added, i, value)
    {
        const json_t *id = member(value, "id");
        enum status status = check_id(id, "added_tokens", err);
        if (status) return status;
        *count = max_i32(*count, (int32_t)json_integer_value(id) + 1);
    }
    return *count ? ST_OK : fail(err, ST_BAD_FILE, "model.vocab is empty");
}

/* Puts a text at an id. An id that was taken must hold the same text. */
static enum status place_token(struct tokenizer_spec *spec, const json_t *id, const char *text,
                               size_t length, enum token_kind kind, struct error *err)
{
    struct tokenizer_token *token = &spec->tokens[json_integer_value(id)];
    bool same = token->text && token->length == length && !memcmp(token->text, text, length);
    if (token->text && !same)
        return fail(err, ST_BAD_FILE, "id %d is both '%.80s' and '%.80s'",
                    (int)json_integer_value(id), token->text, text);
    if (!same) {
        if (length >= UINT32_MAX || !(token->text = keep_text(spec, text, length)))
            return no_memory(err);
        token->length = (uint32_t)length;
    }
    token->kind = kind;
    return ST_OK;
}

static enum status read_vocab(json_t *vocab, struct tokenizer_spec *spec, struct error *err)
{
    const char *text;
    json_t *id;
    json_object_foreach(vocab, text, id)
    {
        enum status status = place_token(spec, id, text, strlen(text), TOKEN_NORMAL, err);
        if (status) return status;
    }
    return ST_OK;
}

static enum status read_added(const json_t *added, struct tokenizer_spec *spec, struct error *err)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(added, i, entry)
    {
        const json_t *content = member(entry, "content");
        if (!json_is_string(content) || json_string_length(content) == 0)
            return fail(err, ST_BAD_FILE, "added_tokens[%zu] has no content", i);
        static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
        for (size_t k = 0; k < COUNT_OF(flags); k++)
            if (true_member(entry, flags[k]))
                return fail(err, ST_UNSUPPORTED, "added token '%.80s' has %s; supported: false",
                            json_string_value(content), flags[k]);
        enum token_kind kind = true_member(entry, "special") ? TOKEN_SPECIAL : TOKEN_ADDED;
        enum status status = place_token(spec, member(entry, "id"), json_string_value(content),
                                         json_string_length(content), kind, err);
        if (status) return status;
    }
    return ST_OK;
}

/* One merge: ["a", "b"], or "a b" as older files and GGUF write it. */
static enum status read_merge(const json_t *value, size_t rank, struct tokenizer_spec *spec,
                              struct error *err)
{
    const char *left = json_string_value(json_array_get(value, 0)), *right;
    size_t left_length, right_length;
    if (json_is_string(value)) {
        left = json_string_value(value);
        const char *space = strchr(left, ' ');
        right = space ? space + 1 : "";
        left_length = space ? (size_t)(space - left) : 0;
        right_length = strchr(right, ' ') ? 0 : strlen(right);
    } else {
        right = json_string_value(json_array_get(value, 1));
        bool pair = json_array_size(value) == 2 && left && right;
        left_length = pair ? strlen(left) : 0;
        right_length = pair ? strlen(right) : 0;
    }
    if (!left_length || !right_length || left_length + right_length >= UINT32_MAX) {
        char buffer[200];
        return fail(err, ST_BAD_FILE, "model.merges[%zu] is %s, expected \"a b\" or [\"a\", \"b\"]",
                    rank, excerpt(value, buffer));
    }
    struct tokenizer_merge *merge = &spec->merges[rank];
    *merge = (struct tokenizer_merge){keep_text(spec, left, left_length),
                                      keep_text(spec, right, right_length), (uint32_t)left_length,
                                      (uint32_t)right_length};
    return merge->left && merge->right ? ST_OK : no_memory(err);
}

static enum status read_model(const json_t *root, struct tokenizer_spec *spec, struct error *err)
{
    const json_t *model = member(root, "model"), *added = member(root, "added_tokens");
    enum status status = check_model(model, err);
    if (status) return status;
    json_t *vocab = json_object_get(model, "vocab");
    const json_t *merges = member(model, "merges");
    size_t count = json_array_size(merges);
    if (count > MAX_TOKENS)
        return fail(err, ST_BAD_FILE, "model.merges has %zu entries, allowed are %d", count,
                    MAX_TOKENS);
    status = count_tokens(vocab, added, &spec->token_count, err);
    if (status) return status;
    spec->ignore_merges = true_member(model, "ignore_merges");
    spec->merge_count = (int32_t)count;
    spec->tokens = try_alloc((size_t)spec->token_count, sizeof *spec->tokens);
    spec->merges = try_alloc(count, sizeof *spec->merges);
    if (!spec->tokens || !spec->merges) return no_memory(err);
    status = read_vocab(vocab, spec, err);
    if (!status) status = read_added(added, spec, err);
    for (size_t i = 0; !status && i < count; i++)
        status = read_merge(json_array_get(merges, i), i, spec, err);
    return status;
}

/* --- tokenizer_config.json */

/* A token is written as its text or as {"content": text, ...}. */
static enum status read_named_token(const json_t *config, const char *key,
                                    const struct tokenizer_spec *spec, int32_t *id,
                                    struct error *err)
{
    const json_t *value = member(config, key);
    if (json_is_object(value)) value = member(value, "content");
    *id = -1;
    if (!value) return ST_OK;
    char buffer[200];
    if (json_is_string(value)) *id = find_added(spec, json_string_value(value));
    if (*id >= 0) return ST_OK;
    return fail(err, ST_BAD_FILE, "tokenizer_config.json: %s is %s, which is no added token", key,
                excerpt(value, buffer));
}

/* One template, or a list of named ones of which "default" is the one for chats. */
static const char *default_template(const json_t *value)
{
    if (json_is_string(value)) return json_string_value(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        if (!strcmp(text_member(entry, "name"), "default"))
            return json_string_value(member(entry, "template"));
    }
    return NULL;
}

/* chat_template.jinja beside the others, as newer versions of transformers save it. */
static enum status read_template_file(const char *dir, struct tokenizer_spec *spec,
                                      struct error *err)
{
    char path[PATH_MAX], bytes[4096];
    struct strbuf text = {0};
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    FILE *file = fopen(path, "rb");
    if (!file && errno == ENOENT) return ST_OK; /* a model may have no template */
    if (!file) return fail(err, ST_IO, "%s: %s", path, strerror(errno));
    for (size_t got; (got = fread(bytes, 1, sizeof bytes, file)) > 0 && text.length < ARENA_BLOCK;)
        strbuf_append(&text, bytes, got);
    int problem = ferror(file) ? errno : 0;
    fclose(file);
    if (problem || text.length >= ARENA_BLOCK) {
        strbuf_free(&text);
        return problem ? fail(err, ST_IO, "%s: %s", path, strerror(problem))
                       : fail(err, ST_BAD_FILE, "%s: longer than 1 MiB", path);
    }
    spec->chat_template = keep_text(spec, strbuf_cstr(&text), text.length);
    strbuf_free(&text);
    return spec->chat_template ? ST_OK : no_memory(err);
}

static enum status read_config(const char *dir, const json_t *config, struct tokenizer_spec *spec,
                               struct error *err)
{
    enum status status = read_named_token(config, "bos_token", spec, &spec->bos, err);
    if (!status) status = read_named_token(config, "eos_token", spec, &spec->eos, err);
    if (status) return status;
    status = read_template_file(dir, spec, err);
    if (status || spec->chat_template) return status; /* the file wins, as in transformers */
    const char *jinja = default_template(member(config, "chat_template"));
    if (!jinja) return ST_OK;
    spec->chat_template = keep_text(spec, jinja, strlen(jinja));
    return spec->chat_template ? ST_OK : no_memory(err);
}

/* --- both files */

static enum status read_tokenizer(const char *dir, const json_t *root, const json_t *config,
                                  struct tokenizer_spec *spec, struct error *err)
{
    enum status status = read_normalizer(root, spec, err);
    if (!status) status = read_pretokenizer(root, spec, err);
    if (!status) status = read_decoder(root, err);
    if (!status) status = read_model(root, spec, err);
    if (!status) status = read_config(dir, config, spec, err);
    if (!status) status = read_processor(member(root, "post_processor"), spec, err);
    if (status) fail_prefix(err, "%s/tokenizer.json", dir);
    return status;
}

enum status tokenizer_spec_from_json(const char *dir, struct tokenizer_spec *spec,
                                     struct error *err)
{
    json_t *root = NULL, *config = NULL;
    *spec = (struct tokenizer_spec){.bos = -1, .eos = -1};
    enum status status = json_read_object(dir, "tokenizer.json", MAX_FILE, &root, err);
    if (!status) status = json_read_object(dir, "tokenizer_config.json", MAX_FILE, &config, err);
    if (status == ST_NOT_FOUND && root) status = ST_OK; /* the second file may be missing */
    if (!status) status = read_tokenizer(dir, root, config, spec, err);
    json_decref(root);
    json_decref(config);
    if (status) tokenizer_spec_free(spec);
    return status;
}
