/* Byte-level BPE: merges from the input, text from the input; merging against the definition, and
 * whatever goes in comes back.
 *
 * Input: a byte (bits 0 and 1: pre-tokenizer, 2: NFC, 3: pieces that are tokens are taken whole), a
 * number of merges, three bytes for each (bits 0 and 1: which side is a merged token; left; right),
 * then the text. */
#include "tests/fuzz/support_input.h"
#include "model/bpe.h"
#include "model/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#define MAX_MERGES 40
#define MAX_TEXT   4096
#define NAIVE_TEXT 256 /* the definition is cubic */

struct merges {
    struct bpe_merge list[MAX_MERGES];
    int32_t count;
};

/* `index` names a byte, or with `merged` the token of an earlier merge. */
static int32_t operand(const struct merges *merges, bool merged, uint8_t index)
{
    return merged && merges->count ? merges->list[index % merges->count].result : index;
}

static void read_merges(struct input *input, struct vocabulary *v, struct merges *merges)
{
    int32_t count = input_byte(input) % (MAX_MERGES + 1);
    while (merges->count < count && input->left >= 3) {
        uint8_t sides = input_byte(input);
        int32_t left = operand(merges, sides & 1, input_byte(input));
        int32_t right = operand(merges, sides & 2, input_byte(input));
        if (v->spec.tokens[left].length + v->spec.tokens[right].length > 64) continue;
        merges->list[merges->count++] =
            (struct bpe_merge){left, right, vocabulary_merge(v, left, right)};
    }
}

/* Rescan for the best pair until there is none; of a pair that stands twice the later rank counts.
 */
static size_t merge_by_definition(const struct merges *merges, int32_t *ids, size_t count)
{
    for (;;) {
        int32_t best = merges->count;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int32_t rank = merges->count;
            while (--rank >= 0 &&
                   (merges->list[rank].left != ids[i] || merges->list[rank].right != ids[i + 1]))
                ;
            if (rank < 0 || rank >= best) continue;
            best = rank;
            at = i;
        }
        if (best == merges->count) return count;
        ids[at] = merges->list[best].result;
        memmove(&ids[at + 1], &ids[at + 2], (count - at - 2) * sizeof *ids);
        count--;
    }
}

/* The ids of a text, piece by piece by the definition. */
static void encode_by_definition(enum pretokenizer kind, const struct merges *merges,
                                 struct input text, struct token_list *out)
{
    static struct pretokenize *compiled[4]; /* as long as the process */
    struct pieces pieces;
    const char *piece;
    size_t length;
    int32_t ids[NAIVE_TEXT];
    struct tokenizer_spec spec = {.pretokenizer = kind};
    if (!compiled[kind] && pretokenize_create(&spec, &compiled[kind], NULL)) die("no pattern");
    if (!pieces_begin(&pieces, compiled[kind])) die("no pieces");
    pieces_start(&pieces, text.text, text.left);
    while (pieces_next(&pieces, &piece, &length) > 0) {
        for (size_t i = 0; i < length; i++)
            ids[i] = (uint8_t)piece[i];
        size_t count = merge_by_definition(merges, ids, length);
        for (size_t i = 0; i < count; i++)
            token_list_append(out, ids[i]);
    }
    pieces_end(&pieces);
}

static void check_merging(const struct tokenizer *tokenizer, const struct tokenizer_spec *spec,
                          const struct merges *merges, struct input text)
{
    struct token_list found = {0}, expected = {0};
    if (text.left > NAIVE_TEXT) text.left = NAIVE_TEXT;
    encode_by_definition(spec->pretokenizer, merges, text, &expected);
    if (tokenizer_encode(tokenizer, text.text, text.left, false, &found, NULL)) die("encoding");
    invariant(found.count == expected.count, "%zu tokens, by definition %zu", found.count,
              expected.count);
    for (size_t i = 0; i < found.count; i++)
        invariant(found.ids[i] == expected.ids[i], "token %zu is %d, by definition %d", i,
                  found.ids[i], expected.ids[i]);
    free(found.ids);
    free(expected.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct vocabulary v;
    struct merges merges = {.count = 0};
    struct tokenizer *tokenizer = NULL;
    uint8_t flags = input_byte(&input);
    vocabulary_begin(&v);
    v.spec.pretokenizer = (enum pretokenizer)(flags & 3);
    v.spec.nfc = flags & 4;
    v.spec.ignore_merges = flags & 8;
    read_merges(&input, &v, &merges);
    if (input.left > MAX_TEXT) input.left = MAX_TEXT;
    if (tokenizer_create(&v.spec, &tokenizer, NULL)) die("a sound vocabulary was refused");
    check_tokenizer(tokenizer, input, true, v.spec.nfc);
    if (!v.spec.nfc && !v.spec.ignore_merges) check_merging(tokenizer, &v.spec, &merges, input);
    tokenizer_free(tokenizer);
    vocabulary_release(&v);
    return 0;
}
