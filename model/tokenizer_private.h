/* What tokenizer.c builds and encode.c reads; nobody else includes it. */
#ifndef MODEL_TOKENIZER_PRIVATE_H
#define MODEL_TOKENIZER_PRIVATE_H

#include "model/bpe.h"
#include "model/pretokenize.h"
#include "model/special_tokens.h"
#include "model/token_table.h"
#include "model/tokenizer.h"

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
    struct special_tokens matched;    /* in the text as it comes */
    struct special_tokens normalized; /* in the normalized text between those */
    int32_t bos, eos;
    int32_t last; /* -1: nothing goes behind a text */
    bool adds_bos, nfc;
};

#endif
