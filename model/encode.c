/* The life of a text: special tokens are cut out, the stretches between them are normalized where
 * the model asks for it, split into pieces, and each piece is looked up whole or merged from its
 * bytes.
 *
 *     "<|im_start|>user\nHi"     special_tokens.c   [<|im_start|>] "user\nHi"
 *                                pretokenize.c      "user" "\n" "Hi"
 *                                token_table.c      4093   198   25519
 *                                bpe.c              (only for pieces that are no token)
 */
#include "base/base.h"
#include "model/normalize.h"
#include "model/tokenizer_private.h"

#include <stdlib.h>

/* --- encoding */

/* What one call of tokenizer_encode works with. */
struct encoder {
    const struct tokenizer *tokenizer;
    bool parse_special;
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
static int encode_stretch(struct encoder *encoder, const char *text, size_t length)
{
    const char *piece;
    size_t piece_length;
    int more;
    pieces_start(&encoder->pieces, text, length);
    while ((more = pieces_next(&encoder->pieces, &piece, &piece_length)) > 0)
        if (!encode_piece(encoder, piece, piece_length)) return PIECES_NO_MEMORY;
    return more;
}

/* Cuts the tokens of `set` out and gives what lies between them to `between`. 0, or a negative
 * PIECES_ value. */
static int encode_around(struct encoder *encoder, const struct special_tokens *set,
                         const char *text, size_t length,
                         int (*between)(struct encoder *, const char *, size_t))
{
    struct special_scan scan = {set, text, length, encoder->parse_special, 0, 0};
    const struct special_token *found;
    size_t at = 0, start, end;
    int rc;
    while (set->count && (found = special_scan_next(&scan, &start, &end))) {
        if (start > at && (rc = between(encoder, text + at, start - at)) < 0) return rc;
        token_list_append(encoder->out, found->id);
        at = end;
    }
    return at < length ? between(encoder, text + at, length - at) : 0;
}

/* A stretch as it came: into normal form, and then the added tokens that are looked for there. */
static int encode_normalized(struct encoder *encoder, const char *text, size_t length)
{
    const struct tokenizer *t = encoder->tokenizer;
    if (t->nfc && nfc_may_change(text, length)) {
        strbuf_clear(&encoder->normal);
        encoder->normal.may_fail = true;
        if (!nfc_append(text, length, &encoder->normal) || encoder->normal.failed)
            return PIECES_NO_MEMORY;
        text = strbuf_cstr(&encoder->normal);
        length = encoder->normal.length;
    }
    return encode_around(encoder, &t->normalized, text, length, encode_stretch);
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             bool parse_special, struct token_list *out, struct error *err)
{
    struct encoder encoder = {.tokenizer = tokenizer, .parse_special = parse_special, .out = out};
    size_t before = out->count;
    int rc = PIECES_NO_MEMORY;
    if (pieces_begin(&encoder.pieces, tokenizer->pretokenize))
        rc = encode_around(&encoder, &tokenizer->matched, text, length, encode_normalized);
    pieces_end(&encoder.pieces);
    bpe_scratch_release(&encoder.scratch);
    free(encoder.ids);
    strbuf_free(&encoder.normal);
    if (rc >= 0) return ST_OK;
    out->count = before;
    if (rc == PIECES_NO_TIME)
        return fail(err, ST_UNSUPPORTED,
                    "the model's pre-tokenizer pattern takes too long on this text (%zu bytes)",
                    length);
    return fail(err, ST_NO_MEMORY, "out of memory while tokenizing %zu bytes", length);
}

enum status tokenizer_encode_text(const struct tokenizer *tokenizer, const char *text,
                                  size_t length, bool parse_special, bool add_special,
                                  struct token_list *out, struct error *err)
{
    size_t before = out->count;
    if (add_special && tokenizer->adds_bos) token_list_append(out, tokenizer->bos);
    enum status status = tokenizer_encode(tokenizer, text, length, parse_special, out, err);
    if (status)
        out->count = before;
    else if (add_special && tokenizer->last >= 0)
        token_list_append(out, tokenizer->last);
    return status;
}
