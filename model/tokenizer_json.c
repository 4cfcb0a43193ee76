/* The two files as a whole, and the model in the first: vocabulary, merges, added tokens. What is
 * done to a text on its way there is in tokenizer_json_pipeline.c.
 */
#include "model/tokenizer_json.h"
#include "base/base.h"
#include "model/config.h"
#include "model/json_reader.h"
#include "model/normalize.h"
#include "model/tokenizer_json_private.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More tokens than any published vocabulary by far, so that an id out of a file cannot ask for
 * gigabytes. */
#define MAX_TOKENS (4 << 20)
#define MAX_FILE   ((size_t)256 << 20)

/* --- where the spec's texts lie: blocks that never move, given back together */

struct text_arena {
    struct text_arena *next;
    size_t used, room;
    char bytes[];
};

#define ARENA_BLOCK ((size_t)1 << 20)

const char *tokenizer_json_keep(struct tokenizer_spec *spec, const char *text, size_t length)
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
    free(spec->added);
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

/* --- the model: vocabulary and merges */

/* A field whose use would need a rule that we do not have; it changes nothing while every byte has
 * a token. */
static void note_every_byte(struct tokenizer_spec *spec, const json_t *model)
{
    const char *unknown = text_member(model, "unk_token");
    if (*unknown) spec->every_byte = "model.unk_token";
    if (true_member(model, "byte_fallback")) spec->every_byte = "model.byte_fallback";
}

static bool no_value(const json_t *value)
{
    return !value || (json_is_string(value) && !*json_string_value(value)) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static enum status check_model(const json_t *model, struct error *err)
{
    /* Old files name no type; merges are what only BPE has. */
    if (!type_is(model, "BPE") && (member(model, "type") || !member(model, "merges")))
        return fail(err, ST_UNSUPPORTED, "model.type is '%s'; supported: BPE (byte-level)",
                    text_member(model, "type"));
    static const char *const absent[] = {"dropout", "continuing_subword_prefix",
                                         "end_of_word_suffix"};
    for (size_t i = 0; i < COUNT_OF(absent); i++) {
        const json_t *value = member(model, absent[i]);
        if (no_value(value)) continue;
        char what[64];
        snprintf(what, sizeof what, "model.%s", absent[i]);
        return unsupported(err, what, value, "null");
    }
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
        if (length >= UINT32_MAX || !(token->text = tokenizer_json_keep(spec, text, length)))
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

/* As in Hugging Face's tokenizers an absent `normalized` follows
 * `special`. */
static struct added_token read_flags(const json_t *entry)
{
    const json_t *normalized = member(entry, "normalized");
    return (struct added_token){
        .id = (int32_t)json_integer_value(member(entry, "id")),
        .single_word = true_member(entry, "single_word"),
        .lstrip = true_member(entry, "lstrip"),
        .rstrip = true_member(entry, "rstrip"),
        .normalized = normalized ? json_is_true(normalized) : !true_member(entry, "special"),
    };
}

/* The text that is matched and shown: in normal form where the match is looked for in that form. */
static bool added_text(const struct tokenizer_spec *spec, const json_t *content, bool normalized,
                       struct strbuf *out)
{
    const char *text = json_string_value(content);
    size_t length = json_string_length(content);
    if (spec->nfc && normalized) return nfc_append(text, length, out);
    strbuf_append(out, text, length);
    return true;
}

static enum status read_added(const json_t *added, struct tokenizer_spec *spec, struct error *err)
{
    size_t i;
    const json_t *entry;
    spec->added = try_alloc(json_array_size(added), sizeof *spec->added);
    if (!spec->added) return no_memory(err);
    json_array_foreach(added, i, entry)
    {
        const json_t *content = member(entry, "content"), *id = member(entry, "id");
        size_t length = json_string_length(content);
        if (length == 0 || length > MODEL_MAX_TOKEN_BYTES)
            return fail(err, ST_BAD_FILE, "added_tokens[%zu] has no content of 1 to %d bytes", i,
                        MODEL_MAX_TOKEN_BYTES);
        struct added_token *token = &spec->added[spec->added_count++];
        *token = read_flags(entry);
        token->in_vocab =
            spec->tokens[token->id].text && spec->tokens[token->id].kind == TOKEN_NORMAL;
        enum token_kind kind = true_member(entry, "special") ? TOKEN_SPECIAL : TOKEN_ADDED;
        struct strbuf text = {0};
        enum status status = added_text(spec, content, token->normalized, &text)
                                 ? place_token(spec, id, text.data, text.length, kind, err)
                                 : no_memory(err);
        strbuf_free(&text);
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
    *merge = (struct tokenizer_merge){tokenizer_json_keep(spec, left, left_length),
                                      tokenizer_json_keep(spec, right, right_length),
                                      (uint32_t)left_length, (uint32_t)right_length};
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
    note_every_byte(spec, model);
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
    if (json_is_string(value)) *id = tokenizer_json_find_added(spec, json_string_value(value));
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
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* no waiting at a pipe */
    FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
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
    spec->chat_template = tokenizer_json_keep(spec, strbuf_cstr(&text), text.length);
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
    spec->chat_template = tokenizer_json_keep(spec, jinja, strlen(jinja));
    return spec->chat_template ? ST_OK : no_memory(err);
}

/* --- both files */

static enum status read_tokenizer(const char *dir, const json_t *root, const json_t *config,
                                  struct tokenizer_spec *spec, struct error *err)
{
    enum status status = tokenizer_json_pipeline(root, spec, err);
    if (!status) status = read_model(root, spec, err);
    if (!status) status = read_config(dir, config, spec, err);
    if (!status) status = tokenizer_json_processor(root, spec, err);
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
