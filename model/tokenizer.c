/* The life of a text: special tokens are cut out, the stretches between them are normalized where
 * the model asks for it, split into pieces, and each piece is looked up whole or merged from its
 * bytes.
 *
 *     "<|im_start|>user\nHi"     special_tokens.c   [<|im_start|>] "user\nHi"
 *                                pretokenize.c      "user" "\n" "Hi"
 *                                token_table.c      4093   198   25519
 *                                bpe.c              (only for pieces that are no token)
 *
 * A piece may be taken whole only when the merges would arrive at that very token, so every token's
 * bytes are merged once when the tables are built; most words of a text then cost one lookup.
 */
#include "model/tokenizer.h"
#include "base/base.h"
#include "model/bpe.h"
#include "model/normalize.h"
#include "model/pretokenize.h"
#include "model/special_tokens.h"
#include "model/token_table.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

struct tokenizer {
    int32_t count;
    char *bytes;               /* what each token stands for, one after the other */
    uint32_t *starts;          /* [count + 1] into bytes */
    uint8_t *kinds;            /* [count] enum token_kind */
    int32_t byte_ids[256];     /* -1: no token for that byte */
    struct token_table pieces; /* pieces that are one token */
    uint32_t longest_piece;
    struct bpe *bpe;
    struct pretokenize *pretokenize;
    struct special_tokens added;  /* TOKEN_ADDED */
    struct special_tokens parsed; /* TOKEN_ADDED and TOKEN_SPECIAL */
    int32_t bos, eos;
    bool adds_bos, nfc;
};

/* --- GPT-2's alphabet: every byte has a printable character, so that tokens can be written as
 * text. Printable bytes stand for themselves, the other 68 follow from U+0100 on. */

static bool printable(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The byte that a character stands for, or -1. */
static int alphabet_byte(uint32_t codepoint)
{
    if (codepoint < 0x100) return printable((int)codepoint) ? (int)codepoint : -1;
    uint32_t rank = codepoint - 0x100;
    for (int byte = 0; byte < 0x100; byte++)
        if (!printable(byte) && rank-- == 0) return byte;
    return -1;
}

/* The bytes that a token's text stands for, into out[length]; false when a character is outside the
 * alphabet (such a token stands for its text, and no piece can ever be equal to it). */
static bool alphabet_decode(const char *text, uint32_t length, char *out, uint32_t *out_length)
{
    *out_length = 0;
    for (uint32_t at = 0; at < length;) {
        struct utf8_step step = utf8_step(text + at, length - at);
        int byte = step.kind == UTF8_WHOLE ? alphabet_byte(step.codepoint) : -1;
        if (byte < 0) return false;
        out[(*out_length)++] = (char)byte;
        at += step.length;
    }
    return true;
}

/* --- building */

static enum status no_memory(struct error *err)
{
    return fail(err, ST_NO_MEMORY, "tokenizer: out of memory");
}

static enum status check_spec(const struct tokenizer_spec *spec, struct error *err)
{
    if (spec->token_count <= 0 || spec->merge_count < 0)
        return fail(err, ST_BAD_FILE, "tokenizer: %d tokens and %d merges", spec->token_count,
                    spec->merge_count);
    if (spec->bos < -1 || spec->bos >= spec->token_count)
        return fail(err, ST_BAD_FILE, "tokenizer: BOS is token %d, allowed is -1 to %d", spec->bos,
                    spec->token_count - 1);
    uint64_t total = 0;
    for (int32_t i = 0; i < spec->token_count; i++)
        total += spec->tokens[i].text ? spec->tokens[i].length : 0;
    if (total >= UINT32_MAX)
        return fail(err, ST_BAD_FILE, "tokenizer: %llu bytes of token texts",
                    (unsigned long long)total);
    return ST_OK;
}

/* Fills bytes, starts and kinds; in_alphabet[i] tells whether token i can be made by merging. */
static enum status build_texts(struct tokenizer *t, const struct tokenizer_spec *spec,
                               bool *in_alphabet, struct error *err)
{
    size_t total = 1;
    for (int32_t i = 0; i < t->count; i++)
        total += spec->tokens[i].text ? spec->tokens[i].length : 0;
    t->bytes = try_alloc(total, 1);
    t->starts = try_alloc((size_t)t->count + 1, sizeof *t->starts);
    t->kinds = try_alloc((size_t)t->count, sizeof *t->kinds);
    if (!t->bytes || !t->starts || !t->kinds) return no_memory(err);
    uint32_t at = 0;
    for (int32_t i = 0; i < t->count; i++) {
        const struct tokenizer_token *token = &spec->tokens[i];
        enum token_kind kind = token->text ? token->kind : TOKEN_UNUSED;
        uint32_t length = 0;
        in_alphabet[i] = kind == TOKEN_NORMAL &&
                         alphabet_decode(token->text, token->length, t->bytes + at, &length);
        if (!in_alphabet[i] && kind != TOKEN_UNUSED) {
            length = token->length;
            memcpy(t->bytes + at, token->text, length);
        }
        t->starts[i] = at;
        t->kinds[i] = (uint8_t)kind;
        at += length;
    }
    t->starts[t->count] = at;
    return ST_OK;
}

static uint32_t token_length(const struct tokenizer *t, int32_t id)
{
    return t->starts[id + 1] - t->starts[id];
}

static void build_byte_ids(struct tokenizer *t, const bool *in_alphabet)
{
    for (int byte = 0; byte < 256; byte++)
        t->byte_ids[byte] = -1;
    for (int32_t i = t->count - 1; i >= 0; i--) /* of equal tokens the first stays */
        if (in_alphabet[i] && token_length(t, i) == 1)
            t->byte_ids[(unsigned char)t->bytes[t->starts[i]]] = i;
}

/* Texts as the file writes them to ids: what merges are written in. Normal tokens come first, so
 * that a control token of the same text does not hide them. */
static bool index_texts(const struct tokenizer_spec *spec, struct token_table *texts)
{
    if (!token_table_init(texts, (size_t)spec->token_count)) return false;
    for (int normal = 1; normal >= 0; normal--) {
        for (int32_t i = 0; i < spec->token_count; i++) {
            const struct tokenizer_token *token = &spec->tokens[i];
            if (!token->text || token->kind == TOKEN_UNUSED) continue;
            if ((token->kind == TOKEN_NORMAL) == normal)
                token_table_add(texts, token->text, token->length, i);
        }
    }
    return true;
}

static enum status resolve_merge(const struct tokenizer_spec *spec, int32_t rank,
                                 const struct token_table *texts, struct strbuf *joined,
                                 struct bpe_merge *out, struct error *err)
{
    const struct tokenizer_merge *merge = &spec->merges[rank];
    strbuf_clear(joined);
    strbuf_append(joined, merge->left, merge->left_length);
    strbuf_append(joined, merge->right, merge->right_length);
    out->left = token_table_find(texts, merge->left, merge->left_length);
    out->right = token_table_find(texts, merge->right, merge->right_length);
    out->result = token_table_find(texts, joined->data, joined->length);
    if (out->left >= 0 && out->right >= 0 && out->result >= 0) return ST_OK;
    const char *missing = out->left < 0    ? merge->left
                          : out->right < 0 ? merge->right
                                           : joined->data;
    uint32_t length = out->left < 0    ? merge->left_length
                      : out->right < 0 ? merge->right_length
                                       : (uint32_t)joined->length;
    return fail(err, ST_BAD_FILE, "tokenizer: merge %d needs the token '%.*s', which is not there",
                rank, (int)(length < 100 ? length : 100), missing);
}

static enum status build_merges(struct tokenizer *t, const struct tokenizer_spec *spec,
                                struct error *err)
{
    struct token_table texts = {0};
    struct strbuf joined = {0};
    enum status status = ST_OK;
    struct bpe_merge *merges = try_alloc((size_t)spec->merge_count, sizeof *merges);
    if (!merges || !index_texts(spec, &texts)) status = no_memory(err);
    for (int32_t i = 0; !status && i < spec->merge_count; i++)
        status = resolve_merge(spec, i, &texts, &joined, &merges[i], err);
    if (!status && !(t->bpe = bpe_create(merges, spec->merge_count))) status = no_memory(err);
    strbuf_free(&joined);
    token_table_release(&texts);
    free(merges);
    return status;
}

/* Whether merging token i's bytes gives token i; -1 when out of memory. `ids` has room for its
 * bytes. */
static int merges_to_itself(const struct tokenizer *t, int32_t id, struct bpe_scratch *scratch,
                            int32_t *ids)
{
    size_t count = 0;
    for (uint32_t at = t->starts[id]; at < t->starts[id + 1]; at++) {
        int32_t byte_id = t->byte_ids[(unsigned char)t->bytes[at]];
        if (byte_id < 0) return 0;
        ids[count++] = byte_id;
    }
    if (!bpe_apply(t->bpe, scratch, ids, &count)) return -1;
    return count == 1 && ids[0] == id;
}

static enum status build_pieces(struct tokenizer *t, bool ignore_merges, const bool *in_alphabet,
                                struct error *err)
{
    uint32_t longest = 1;
    for (int32_t i = 0; i < t->count; i++)
        if (in_alphabet[i] && token_length(t, i) > longest) longest = token_length(t, i);
    t->longest_piece = longest;
    struct bpe_scratch scratch = {0};
    int32_t *ids = try_alloc(longest, sizeof *ids);
    bool done = ids && token_table_init(&t->pieces, (size_t)t->count);
    for (int32_t i = 0; done && i < t->count; i++) {
        if (!in_alphabet[i] || !token_length(t, i)) continue;
        int whole = ignore_merges ? 1 : merges_to_itself(t, i, &scratch, ids);
        if (whole > 0) token_table_add(&t->pieces, t->bytes + t->starts[i], token_length(t, i), i);
        done = whole >= 0;
    }
    bpe_scratch_release(&scratch);
    free(ids);
    return done ? ST_OK : no_memory(err);
}

static enum status build_specials(struct tokenizer *t, struct error *err)
{
    size_t count = 0;
    for (int32_t i = 0; i < t->count; i++)
        count += t->kinds[i] == TOKEN_ADDED || t->kinds[i] == TOKEN_SPECIAL;
    if (!special_tokens_init(&t->added, count) || !special_tokens_init(&t->parsed, count))
        return no_memory(err);
    for (int32_t i = 0; i < t->count; i++) {
        const char *text = t->bytes + t->starts[i];
        uint32_t length = token_length(t, i);
        if (!length) continue;
        if (t->kinds[i] == TOKEN_ADDED) special_tokens_add(&t->added, text, length, i);
        if (t->kinds[i] == TOKEN_ADDED || t->kinds[i] == TOKEN_SPECIAL)
            special_tokens_add(&t->parsed, text, length, i);
    }
    special_tokens_sort(&t->added);
    special_tokens_sort(&t->parsed);
    return ST_OK;
}

static enum status build(struct tokenizer *t, const struct tokenizer_spec *spec, bool *in_alphabet,
                         struct error *err)
{
    enum status status = build_texts(t, spec, in_alphabet, err);
    if (status) return status;
    build_byte_ids(t, in_alphabet);
    status = build_merges(t, spec, err);
    if (!status) status = build_pieces(t, spec->ignore_merges, in_alphabet, err);
    if (!status) status = build_specials(t, err);
    if (!status) status = pretokenize_create(spec->pretokenizer, &t->pretokenize, err);
    return status;
}

enum status tokenizer_create(const struct tokenizer_spec *spec, struct tokenizer **out,
                             struct error *err)
{
    enum status status = check_spec(spec, err);
    if (status) return status;
    struct tokenizer *t = must_alloc(sizeof *t);
    t->count = spec->token_count;
    t->bos = spec->bos;
    t->eos = spec->eos;
    t->adds_bos = spec->add_bos && spec->bos >= 0;
    t->nfc = spec->nfc;
    bool *in_alphabet = try_alloc((size_t)t->count, sizeof *in_alphabet);
    status = in_alphabet ? build(t, spec, in_alphabet, err) : no_memory(err);
    free(in_alphabet);
    if (status) {
        tokenizer_free(t);
        return status;
    }
    *out = t;
    return ST_OK;
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    if (!tokenizer) return;
    free(tokenizer->bytes);
    free(tokenizer->starts);
    free(tokenizer->kinds);
    token_table_release(&tokenizer->pieces);
    bpe_free(tokenizer->bpe);
    pretokenize_free(tokenizer->pretokenize);
    special_tokens_release(&tokenizer->added);
    special_tokens_release(&tokenizer->parsed);
    free(tokenizer);
}

int32_t tokenizer_size(const struct tokenizer *tokenizer)
{
    return tokenizer->count;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->adds_bos;
}

int32_t tokenizer_find_special(const struct tokenizer *tokenizer, const char *text)
{
    size_t length = strlen(text);
    const struct special_token *found = special_tokens_at(&tokenizer->parsed, text, length);
    return found && found->length == length ? found->id : -1;
}

const char *tokenizer_token_view(const struct tokenizer *tokenizer, int32_t id, bool show_special,
                                 size_t *length)
{
    *length = 0;
    if (id < 0 || id >= tokenizer->count) return "";
    if (tokenizer->kinds[id] == TOKEN_SPECIAL && !show_special) return "";
    *length = token_length(tokenizer, id);
    return tokenizer->bytes + tokenizer->starts[id];
}

void tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, bool show_special,
                           struct strbuf *out)
{
    size_t length;
    const char *bytes = tokenizer_token_view(tokenizer, id, show_special, &length);
    strbuf_append(out, bytes, length);
}

void token_list_append(struct token_list *list, int32_t id)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 64;
        list->ids = must_realloc(list->ids, list->capacity * sizeof *list->ids);
    }
    list->ids[list->count++] = id;
}

/* --- encoding */

/* What one call of tokenizer_encode works with. */
struct encoder {
    const struct tokenizer *tokenizer;
    struct pieces pieces;
    struct bpe_scratch scratch;
    int32_t *ids; /* [capacity] one piece's */
    size_t capacity;
    struct strbuf normal; /* a stretch in NFC */
    struct token_list *out;
};

/* The piece's bytes as ids, merged. A byte without a token is left out, as Hugging Face's
 * tokenizers do (SmolLM2 has none for U+0004 and a few more). */
static bool merge_piece(struct encoder *encoder, const char *piece, size_t length)
{
    if (length > INT32_MAX) return false;
    if (length > encoder->capacity) {
        int32_t *ids = try_realloc(encoder->ids, length, sizeof *ids);
        if (!ids) return false;
        encoder->ids = ids;
        encoder->capacity = length;
    }
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        int32_t id = encoder->tokenizer->byte_ids[(unsigned char)piece[i]];
        if (id >= 0) encoder->ids[count++] = id;
    }
    if (!bpe_apply(encoder->tokenizer->bpe, &encoder->scratch, encoder->ids, &count)) return false;
    for (size_t i = 0; i < count; i++)
        token_list_append(encoder->out, encoder->ids[i]);
    return true;
}

static bool encode_piece(struct encoder *encoder, const char *piece, size_t length)
{
    const struct tokenizer *t = encoder->tokenizer;
    int32_t id = length <= t->longest_piece ? token_table_find(&t->pieces, piece, length) : -1;
    if (id < 0) return merge_piece(encoder, piece, length);
    token_list_append(encoder->out, id);
    return true;
}

/* A stretch of text without special tokens. */
static bool encode_stretch(struct encoder *encoder, const char *text, size_t length)
{
    if (encoder->tokenizer->nfc && nfc_may_change(text, length)) {
        strbuf_clear(&encoder->normal);
        if (!nfc_append(text, length, &encoder->normal)) return false;
        text = strbuf_cstr(&encoder->normal);
        length = encoder->normal.length;
    }
    const char *piece;
    size_t piece_length;
    int more;
    pieces_start(&encoder->pieces, text, length);
    while ((more = pieces_next(&encoder->pieces, &piece, &piece_length)) > 0)
        if (!encode_piece(encoder, piece, piece_length)) return false;
    return more == 0;
}

static bool encode_text(struct encoder *encoder, const char *text, size_t length,
                        const struct special_tokens *specials)
{
    for (size_t at = 0; at < length;) {
        size_t found_at;
        const struct special_token *found =
            special_tokens_next(specials, text, length, at, &found_at);
        if (!encode_stretch(encoder, text + at, found_at - at)) return false;
        if (!found) break;
        token_list_append(encoder->out, found->id);
        at = found_at + found->length;
    }
    return true;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             bool parse_special, struct token_list *out, struct error *err)
{
    struct encoder encoder = {.tokenizer = tokenizer, .out = out};
    size_t before = out->count;
    bool done =
        pieces_begin(&encoder.pieces, tokenizer->pretokenize) &&
        encode_text(&encoder, text, length, parse_special ? &tokenizer->parsed : &tokenizer->added);
    pieces_end(&encoder.pieces);
    bpe_scratch_release(&encoder.scratch);
    free(encoder.ids);
    strbuf_free(&encoder.normal);
    if (done) return ST_OK;
    out->count = before;
    return fail(err, ST_NO_MEMORY, "out of memory while tokenizing %zu bytes", length);
}
