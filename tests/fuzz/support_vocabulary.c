#include "tests/fuzz/support_input.h"

#include <stdlib.h>
#include <string.h>

static struct tokenizer_token *new_token(struct vocabulary *v)
{
    struct tokenizer_spec *spec = &v->spec;
    if (spec->token_count == v->token_room) {
        v->token_room = v->token_room ? 2 * v->token_room : 512;
        spec->tokens = must_realloc(spec->tokens, (size_t)v->token_room * sizeof *spec->tokens);
    }
    return &spec->tokens[spec->token_count++];
}

void vocabulary_add(struct vocabulary *v, const char *text, enum token_kind kind)
{
    *new_token(v) = (struct tokenizer_token){must_strdup(text), (uint32_t)strlen(text), kind};
}

/* In GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 on. */
void vocabulary_begin(struct vocabulary *v)
{
    uint32_t next = 0x100;
    *v = (struct vocabulary){.spec = {.bos = -1, .eos = -1}};
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
        uint32_t c = printable ? byte : next++;
        char text[3] = {(char)c, 0, 0};
        if (c >= 0x80) {
            text[0] = (char)(0xc0 | c >> 6);
            text[1] = (char)(0x80 | (c & 0x3f));
        }
        vocabulary_add(v, text, TOKEN_NORMAL);
    }
}

static int32_t find_text(const struct vocabulary *v, const char *text, size_t length)
{
    for (int32_t i = 0; i < v->spec.token_count; i++) {
        const struct tokenizer_token *token = &v->spec.tokens[i];
        if (token->length == length && !memcmp(token->text, text, length)) return i;
    }
    return -1;
}

int32_t vocabulary_merge(struct vocabulary *v, int32_t left, int32_t right)
{
    struct tokenizer_spec *spec = &v->spec;
    if (spec->merge_count == v->merge_room) {
        v->merge_room = v->merge_room ? 2 * v->merge_room : 64;
        spec->merges = must_realloc(spec->merges, (size_t)v->merge_room * sizeof *spec->merges);
    }
    struct tokenizer_token l = spec->tokens[left], r = spec->tokens[right];
    spec->merges[spec->merge_count++] =
        (struct tokenizer_merge){l.text, r.text, l.length, r.length};
    struct strbuf joined = {0};
    strbuf_append(&joined, l.text, l.length);
    strbuf_append(&joined, r.text, r.length);
    int32_t id = find_text(v, joined.data, joined.length);
    if (id < 0) {
        id = spec->token_count;
        vocabulary_add(v, strbuf_cstr(&joined), TOKEN_NORMAL);
    }
    strbuf_free(&joined);
    return id;
}

void vocabulary_release(struct vocabulary *v)
{
    for (int32_t i = 0; i < v->spec.token_count; i++)
        free((char *)v->spec.tokens[i].text);
    free(v->spec.tokens);
    free(v->spec.merges);
    *v = (struct vocabulary){0};
}

const struct tokenizer *chat_tokenizer(void)
{
    static const char *const specials[] = {"<|im_start|>",
                                           "<|im_end|>",
                                           "<|endoftext|>",
                                           "<|begin_of_text|>",
                                           "<|start_header_id|>",
                                           "<|end_header_id|>",
                                           "<|eot_id|>",
                                           "<s>",
                                           "</s>",
                                           "[INST]",
                                           "[/INST]"};
    static struct tokenizer *tokenizer;
    if (tokenizer) return tokenizer;
    struct vocabulary v;
    vocabulary_begin(&v);
    int32_t newlines = vocabulary_merge(&v, '\n', '\n');
    vocabulary_merge(&v, newlines, '\n');
    vocabulary_merge(&v, vocabulary_merge(&v, 'u', 's'), vocabulary_merge(&v, 'e', 'r'));
    vocabulary_merge(&v, ' ', ' ');
    for (size_t i = 0; i < COUNT_OF(specials); i++) {
        if (!strcmp(specials[i], "<s>")) v.spec.bos = v.spec.token_count;
        if (!strcmp(specials[i], "</s>")) v.spec.eos = v.spec.token_count;
        vocabulary_add(&v, specials[i], TOKEN_SPECIAL);
    }
    vocabulary_add(&v, "<think>", TOKEN_ADDED);
    vocabulary_add(&v, "</think>", TOKEN_ADDED);
    struct error err = {0};
    if (tokenizer_create(&v.spec, &tokenizer, &err)) die("%s", err.text);
    vocabulary_release(&v);
    return tokenizer;
}
