#include "quant/checkpoint/tokenizer_export.h"
#include "base/base.h"
#include "model/pretokenizer_names.h"

#include <stdlib.h>
#include <string.h>

/* --- pre-tokenizer */

static json_t *byte_level(bool regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", false,
                     "trim_offsets", true, "use_regex", regex);
}

static json_t *split(const struct split_step *step)
{
    return json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                     step->pattern, step->length, "behavior", "Isolated", "invert", false);
}

/* The two that tokenizer.json has parts for are written with those, as in the models' own files.
 * The spec is of a name: a spec of steps comes from a tokenizer.json, which is copied. */
static json_t *pretokenizer(const struct tokenizer_spec *spec)
{
    struct split_step steps[PRETOKENIZE_MAX_STEPS];
    json_t *parts = json_array();
    invariant(spec->pretokenizer != PRETOKENIZE_STEPS, "the steps of a tokenizer.json");
    bool regex = spec->pretokenizer == PRETOKENIZE_GPT2 || spec->pretokenizer == PRETOKENIZE_SMOLLM;
    if (spec->pretokenizer == PRETOKENIZE_SMOLLM)
        json_array_append_new(parts,
                              json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", true));
    int32_t count = regex ? 0 : pretokenizer_steps(spec->pretokenizer, steps);
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(parts, split(&steps[i]));
    json_array_append_new(parts, byte_level(regex));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", parts);
}

/* --- vocabulary */

static json_t *text_of(const struct tokenizer_token *token)
{
    return json_stringn(token->text, token->length);
}

/* One with a byte 0 is outside the byte alphabet, and no key of a JSON object. */
static bool is_token(const struct tokenizer_token *token)
{
    return token->text && token->length && token->kind != TOKEN_UNUSED &&
           !memchr(token->text, 0, token->length);
}

/* Members by a text with a length. */
static void set_member(json_t *object, const char *text, size_t length, json_t *value)
{
    struct strbuf key = {0};
    strbuf_append(&key, text, length);
    json_object_set_new(object, strbuf_cstr(&key), value);
    strbuf_free(&key);
}

static bool has_member(const json_t *object, const char *text, size_t length)
{
    struct strbuf key = {0};
    strbuf_append(&key, text, length);
    bool found = json_object_get(object, strbuf_cstr(&key)) != NULL;
    strbuf_free(&key);
    return found;
}

/* A set of the texts that merges are written in, and make. */
static json_t *merged_texts(const struct tokenizer_spec *spec)
{
    json_t *texts = json_object();
    struct strbuf text = {0};
    for (int32_t i = 0; i < spec->merge_count; i++) {
        const struct tokenizer_merge *merge = &spec->merges[i];
        set_member(texts, merge->left, merge->left_length, json_true());
        set_member(texts, merge->right, merge->right_length, json_true());
        strbuf_clear(&text);
        strbuf_append(&text, merge->left, merge->left_length);
        strbuf_append(&text, merge->right, merge->right_length);
        set_member(texts, text.data, text.length, json_true());
    }
    strbuf_free(&text);
    return texts;
}

/* Of equal texts the first token stays, as it does when the tables are built; normal ones come
 * before the others. */
static json_t *vocabulary(const struct tokenizer_spec *spec)
{
    json_t *vocab = json_object(), *merged = merged_texts(spec);
    int32_t lost = 0;
    for (int normal = 1; normal >= 0; normal--)
        for (int32_t id = 0; id < spec->token_count; id++) {
            const struct tokenizer_token *token = &spec->tokens[id];
            if (!is_token(token) || (token->kind == TOKEN_NORMAL) != normal) continue;
            if (!normal && !has_member(merged, token->text, token->length)) continue;
            if (has_member(vocab, token->text, token->length))
                lost += normal;
            else
                set_member(vocab, token->text, token->length, json_integer(id));
        }
    if (lost)
        log_warn("%d tokens have the text of another one: tokenizer.json cannot hold them", lost);
    json_decref(merged);
    return vocab;
}

static json_t *merges(const struct tokenizer_spec *spec)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < spec->merge_count; i++) {
        const struct tokenizer_merge *merge = &spec->merges[i];
        json_array_append_new(list, json_pack("[s%, s%]", merge->left, (size_t)merge->left_length,
                                              merge->right, (size_t)merge->right_length));
    }
    return list;
}

static bool is_added(const struct tokenizer_token *token)
{
    return is_token(token) && token->kind != TOKEN_NORMAL;
}

static json_t *added_tokens(const struct tokenizer_spec *spec)
{
    json_t *list = json_array();
    for (int32_t id = 0; id < spec->token_count; id++) {
        const struct tokenizer_token *token = &spec->tokens[id];
        if (!is_added(token)) continue;
        json_array_append_new(list, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", id,
                                              "content", text_of(token), "single_word", false,
                                              "lstrip", false, "rstrip", false, "normalized", false,
                                              "special", token->kind == TOKEN_SPECIAL));
    }
    return list;
}

/* --- what stands before and behind a text */

static json_t *piece(const char *kind, const char *id, size_t length)
{
    return json_pack("{s:{s:s%, s:i}}", kind, "id", id, length, "type_id", 0);
}

static void add_token_piece(const struct tokenizer_spec *spec, int32_t id, json_t *single,
                            json_t *pair, json_t *tokens)
{
    const struct tokenizer_token *token = &spec->tokens[id];
    json_array_append_new(single, piece("SpecialToken", token->text, token->length));
    json_array_append_new(pair, piece("SpecialToken", token->text, token->length));
    set_member(tokens, token->text, token->length,
               json_pack("{s:o, s:[i], s:[o]}", "id", text_of(token), "ids", id, "tokens",
                         text_of(token)));
}

static json_t *post_processor(const struct tokenizer_spec *spec)
{
    bool bos = spec->add_bos && spec->bos >= 0 && is_token(&spec->tokens[spec->bos]);
    bool last = spec->add_last && spec->last >= 0 && is_token(&spec->tokens[spec->last]);
    if (!bos && !last) return byte_level(true);
    json_t *single = json_array(), *pair = json_array(), *tokens = json_object();
    if (bos) add_token_piece(spec, spec->bos, single, pair, tokens);
    json_array_append_new(single, piece("Sequence", "A", 1));
    json_array_append_new(pair, piece("Sequence", "A", 1));
    json_array_append_new(pair, piece("Sequence", "B", 1));
    if (last) add_token_piece(spec, spec->last, single, pair, tokens);
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", tokens);
}

/* --- the files */

json_t *tokenizer_json(const struct tokenizer_spec *spec)
{
    json_t *model =
        json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                  "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", false,
                  "byte_fallback", false, "ignore_merges", spec->ignore_merges, "vocab",
                  vocabulary(spec), "merges", merges(spec));
    json_t *json =
        json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation",
                  "padding", "added_tokens", added_tokens(spec), "normalizer",
                  spec->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(), "pre_tokenizer",
                  pretokenizer(spec), "post_processor", post_processor(spec), "decoder",
                  byte_level(true), "model", model);
    invariant(json, "no JSON of a tokenizer");
    return json;
}

/* A token that is no added token has no name there; config.json has its id. */
static void name_token(json_t *json, const char *key, const struct tokenizer_spec *spec, int32_t id)
{
    if (id >= 0 && is_added(&spec->tokens[id]))
        json_object_set_new(json, key, text_of(&spec->tokens[id]));
}

json_t *tokenizer_config_json(const struct tokenizer_spec *spec, int32_t max_context)
{
    json_t *json = json_pack("{s:s, s:i, s:b, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                             "model_max_length", max_context, "clean_up_tokenization_spaces", false,
                             "add_bos_token", spec->add_bos);
    name_token(json, "bos_token", spec, spec->bos);
    name_token(json, "eos_token", spec, spec->eos);
    if (spec->chat_template)
        json_object_set_new(json, "chat_template", json_string(spec->chat_template));
    invariant(json, "no JSON of a tokenizer's configuration");
    return json;
}
