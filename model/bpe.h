/* Byte-pair merges: the rule that turns a piece's bytes into tokens.
 *
 * Of all neighbouring pairs that the table knows, the one with the lowest rank is merged (the
 * leftmost among equals), again and again. A heap of (rank, position) over a linked list does that
 * in O(n log n): a piece of 100 KB costs milliseconds, where rescanning for the best pair would
 * take minutes.
 */
#ifndef MODEL_BPE_H
#define MODEL_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpe_merge {
    int32_t left, right, result; /* ids */
};

struct bpe;

/* merges[count] by rank, copied; of a pair that stands twice the later rank counts, as in Hugging
 * Face's tokenizers. NULL when out of memory. */
struct bpe *bpe_create(const struct bpe_merge *merges, int32_t count);
void bpe_free(struct bpe *bpe);

/* Working memory of one thread. Zero-initialise. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    uint64_t *heap;
    size_t symbol_capacity, heap_capacity;
};
void bpe_scratch_release(struct bpe_scratch *scratch);

/* Merges ids[*count] in place and lowers *count. *count < 2^31. False when out of memory. */
bool bpe_apply(const struct bpe *bpe, struct bpe_scratch *scratch, int32_t *ids, size_t *count);

#endif
