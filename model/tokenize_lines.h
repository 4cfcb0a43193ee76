/* What espalier tokenize does with --json-lines and --speed. */
#ifndef MODEL_TOKENIZE_LINES_H
#define MODEL_TOKENIZE_LINES_H

#include "base/status.h"
#include "base/strbuf.h"
#include "model/tokenizer.h"

/* Converts every line of `input` and prints one JSON document for each: a string to its ids, an
 * array of ids to its text. Errors name the line. */
enum status tokenize_lines(const struct tokenizer *tokenizer, const struct strbuf *input,
                           bool special, bool add_special, struct error *err);

/* Tokenizes `input` again and again for about half a second and prints {"bytes", "tokens", "runs",
 * "seconds", "mb_per_s"}: the fastest run, in processor time of this one thread, so that what else
 * the machine does counts little. */
enum status tokenize_speed(const struct tokenizer *tokenizer, const struct strbuf *input,
                           bool special, struct error *err);

#endif
