/* Building a tokenizer's tables, and looking tokens up. A piece may be taken whole only when the
 * merges would arrive at that very token, so every token's bytes are merged once when the tables
 * are built; most words of a text then cost one lookup (model/encode.c).
 */
#include "model/tokenizer.h"
#include "base/base.h"
#include "model/tokenizer_private.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

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
    if (spec->add_last && (spec->last < 0 || spec->last >= spec->token_count))
        return fail(err, ST_BAD_FILE, "tokenizer: the last token is %d, allowed is 0 to %d",
                    spec->last, spec->token_count - 1);
    uint64_t total = 0;
    for (int32_t i = 0; i < spec->token_count; i++)
        total += spec->tokens[i].text ? spec->tokens[i].length : 0;
    if (total >= UINT32_MAX)
        return fail(err, ST_BAD_FILE, "tokenizer: %llu bytes of token texts",
                    (unsigned long long)total);
    return ST_OK;
}

/* Marks the tokens of the model's own vocabulary. */
static void mark_vocab(const struct tokenizer_spec *spec, bool *in_vocab)
{
    for (int32_t i = 0; i < spec->token_count; i++)
        in_vocab[i] = spec->tokens[i].text && spec->tokens[i].kind == TOKEN_NORMAL;
    for (int32_t i = 0; i < spec->added_count; i++)
        in_vocab[spec->added[i].id] |= spec->added[i].in_vocab;
}

/* Fills bytes, starts and kinds, and leaves in_vocab[i] true only for tokens that can be made by
 * merging. An added token of a tokenizer.json goes through the byte alphabet as well: that is how
 * Hugging Face's decoder shows it. */
static enum status build_texts(struct tokenizer *t, const struct tokenizer_spec *spec,
                               bool *in_vocab, struct error *err)
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
        bool decoded = kind != TOKEN_UNUSED && (kind == TOKEN_NORMAL || spec->added) &&
                       alphabet_decode(token->text, token->length, t->bytes + at, &length);
        in_vocab[i] &= decoded;
        if (!decoded && kind != TOKEN_UNUSED) {
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

static enum status build_byte_ids(struct tokenizer *t, const struct tokenizer_spec *spec,
                                  const bool *in_vocab, struct error *err)
{
    for (int byte = 0; byte < 256; byte++)
        t->byte_ids[byte] = -1;
    for (int32_t i = t->count - 1; i >= 0; i--) /* of equal tokens the first stays */
        if (in_vocab[i] && token_length(t, i) == 1)
            t->byte_ids[(unsigned char)t->bytes[t->starts[i]]] = i;
    for (int byte = 0; spec->every_byte && byte < 256; byte++)
        if (t->byte_ids[byte] < 0)
            return fail(err, ST_UNSUPPORTED,
                        "tokenizer: %s is set and byte 0x%02x has no token; supported where every "
                        "byte has one, or without it",
                        spec->every_byte, (unsigned)byte);
    return ST_OK;
}

/* Texts as the file writes them to ids: what merges are written in. Normal tokens come first, so
 * that a control token of the same text does not hide them; where the file says which tokens are
 * only added (spec->added), those are left out. */
static bool index_texts(const struct tokenizer_spec *spec, const bool *in_vocab,
                        struct token_table *texts)
{
    if (!token_table_init(texts, (size_t)spec->token_count)) return false;
    for (int normal = 1; normal >= 0; normal--) {
        for (int32_t i = 0; i < spec->token_count; i++) {
            const struct tokenizer_token *token = &spec->tokens[i];
            if (!token->text || token->kind == TOKEN_UNUSED) continue;
            if (spec->added && !in_vocab[i]) continue;
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
                                const bool *in_vocab, struct error *err)
{
    struct token_table texts = {0};
    struct strbuf joined = {0};
    enum status status = ST_OK;
    struct bpe_merge *merges = try_alloc((size_t)spec->merge_count, sizeof *merges);
    if (!merges || !index_texts(spec, in_vocab, &texts)) status = no_memory(err);
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

static enum status build_pieces(struct tokenizer *t, bool ignore_merges, const bool *in_vocab,
                                struct error *err)
{
    uint32_t longest = 1;
    for (int32_t i = 0; i < t->count; i++)
        if (in_vocab[i] && token_length(t, i) > longest) longest = token_length(t, i);
    t->longest_piece = longest;
    struct bpe_scratch scratch = {0};
    int32_t *ids = try_alloc(longest, sizeof *ids);
    bool done = ids && token_table_init(&t->pieces, (size_t)t->count);
    for (int32_t i = 0; done && i < t->count; i++) {
        if (!in_vocab[i] || !token_length(t, i)) continue;
        int whole = ignore_merges ? 1 : merges_to_itself(t, i, &scratch, ids);
        if (whole > 0) token_table_add(&t->pieces, t->bytes + t->starts[i], token_length(t, i), i);
        done = whole >= 0;
    }
    bpe_scratch_release(&scratch);
    free(ids);
    return done ? ST_OK : no_memory(err);
}

/* Adds a token to the set where it is looked for: `matched` in the text as it comes, `normalized`
 * in the text in normal form. */
static bool add_special(struct tokenizer *t, const struct tokenizer_spec *spec, int32_t id,
                        const struct added_token *flags)
{
    const struct tokenizer_token *token = &spec->tokens[id];
    struct special_token special = {.text = token->text,
                                    .length = token->length,
                                    .id = id,
                                    .special = token->kind == TOKEN_SPECIAL,
                                    .single_word = flags->single_word,
                                    .lstrip = flags->lstrip,
                                    .rstrip = flags->rstrip};
    if (!token->length) return true;
    return special_tokens_add(flags->normalized ? &t->normalized : &t->matched, &special);
}

static enum status build_specials(struct tokenizer *t, const struct tokenizer_spec *spec,
                                  struct error *err)
{
    size_t count = (size_t)spec->added_count;
    for (int32_t i = 0; !spec->added && i < t->count; i++)
        count += t->kinds[i] == TOKEN_ADDED || t->kinds[i] == TOKEN_SPECIAL;
    if (!special_tokens_init(&t->matched, count) || !special_tokens_init(&t->normalized, count))
        return no_memory(err);
    bool done = true;
    for (int32_t i = 0; done && i < spec->added_count; i++)
        done = add_special(t, spec, spec->added[i].id, &spec->added[i]);
    for (int32_t i = 0; done && !spec->added && i < t->count; i++)
        if (t->kinds[i] == TOKEN_ADDED || t->kinds[i] == TOKEN_SPECIAL)
            done = add_special(t, spec, i, &(struct added_token){0});
    special_tokens_sort(&t->matched);
    special_tokens_sort(&t->normalized);
    return done ? ST_OK : no_memory(err);
}

static enum status build(struct tokenizer *t, const struct tokenizer_spec *spec, bool *in_vocab,
                         struct error *err)
{
    mark_vocab(spec, in_vocab);
    enum status status = build_texts(t, spec, in_vocab, err);
    if (!status) status = build_byte_ids(t, spec, in_vocab, err);
    if (!status) status = build_merges(t, spec, in_vocab, err);
    if (!status) status = build_pieces(t, spec->ignore_merges, in_vocab, err);
    if (!status) status = build_specials(t, spec, err);
    if (!status) status = pretokenize_create(spec, &t->pretokenize, err);
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
    t->last = spec->add_last ? spec->last : -1;
    t->nfc = spec->nfc;
    bool *in_vocab = try_alloc((size_t)t->count, sizeof *in_vocab);
    status = in_vocab ? build(t, spec, in_vocab, err) : no_memory(err);
    free(in_vocab);
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
    special_tokens_release(&tokenizer->matched);
    special_tokens_release(&tokenizer->normalized);
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
    const struct special_token *found = special_tokens_find(&tokenizer->matched, text, length);
    if (!found) found = special_tokens_find(&tokenizer->normalized, text, length);
    return found ? found->id : -1;
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
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        void *ids = list->may_fail ? try_realloc(list->ids, capacity, sizeof *list->ids)
                                   : must_realloc(list->ids, capacity * sizeof *list->ids);
        list->failed |= !ids;
        if (!ids) return;
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
}
