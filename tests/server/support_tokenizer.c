#include "support_tokenizer.h"
#include "model/synthetic.h"

#include <criterion/criterion.h>

struct tokenizer *test_tokenizer(void)
{
    struct tokenizer_spec spec;
    struct tokenizer *tokenizer;
    struct error err = {0};
    synthetic_tokenizer(TEST_VOCAB, PRETOKENIZE_GPT2, &spec);
    cr_assert_eq(tokenizer_create(&spec, &tokenizer, &err), ST_OK, "%s", err.text);
    synthetic_tokenizer_free(&spec);
    return tokenizer;
}
