/* espalier tokenize --json-lines: many texts, or many lists of ids, in one run. */
#ifndef MODEL_TOKENIZE_LINES_H
#define MODEL_TOKENIZE_LINES_H

#include "base/status.h"
#include "base/strbuf.h"
#include "model/tokenizer.h"

/* Converts every line of `input` and prints one JSON document for each: a string to its ids, an
 * array of ids to its text. Errors name the line. */
enum status tokenize_lines(const struct tokenizer *tokenizer, const struct strbuf *input,
                           bool special, bool add_special, struct error *err);

#endif
