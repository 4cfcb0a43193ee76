/* What the tokenizer's tests share: golden data, and tokenizers from where they lie. */
#ifndef TESTS_SUPPORT_TOKENIZER_H
#define TESTS_SUPPORT_TOKENIZER_H

#include "base/base.h"
#include "model/tokenizer.h"

#include <jansson.h>

/* SET/FILE below tests/data/golden, or below $ESPALIER_TEST_GOLDEN; NULL when it is not there. */
json_t *golden_json(const char *set, const char *file);

/* The tokenizer of a golden set's directory; its Jinja source (caller frees) when `jinja` is not
 * NULL. */
struct tokenizer *golden_tokenizer(const char *set, char **jinja);

/* The tokenizer of the default GGUF, or NULL when the file is not there. */
struct tokenizer *default_tokenizer(char **jinja);

/* Fails the test unless the ids are equal. `what` names the case. */
void check_ids(const struct token_list *found, const json_t *expected, const char *what);

/* Ids of a text; caller frees .ids. */
struct token_list encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                         bool parse_special);

#endif
