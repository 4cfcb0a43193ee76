/* A tokenizer of every byte and a few hundred made-up words (model/synthetic.h): byte b is id 3 +
 * b. */
#ifndef SUPPORT_TOKENIZER_H
#define SUPPORT_TOKENIZER_H

#include "model/tokenizer.h"

#define TEST_VOCAB 512
#define TEST_EOS   2
#define BYTE_ID(b) (3 + (unsigned char)(b))

struct tokenizer *test_tokenizer(void);

#endif
