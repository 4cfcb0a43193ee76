/* A tokenizer.json's regular expression in PCRE2's words.
 *
 * Those files were written for Oniguruma (what Hugging Face's tokenizers run them with, on UTF-8).
 * The two languages agree in most things and differ in details that move token borders: \s, \w and
 * \h are other sets, {1,3}+ is no possessive quantifier there, ^ and $ stand at every line, (?m)
 * lets the dot match a newline. What has an equal in PCRE2 is rewritten; the rest is refused by
 * name, because a pattern that almost matches tokenizes almost as the model was trained.
 */
#ifndef MODEL_SPLIT_PATTERN_H
#define MODEL_SPLIT_PATTERN_H

#include "base/status.h"
#include "base/strbuf.h"

#include <stddef.h>

#define SPLIT_PATTERN_MAX ((size_t)16 << 10) /* the longest published one has 700 bytes */

/* Appends the pattern for PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE with LF as the only newline.
 * ST_UNSUPPORTED with the offset and what stands there. Groups capture nothing. */
enum status split_pattern_translate(const char *pattern, size_t length, struct strbuf *out,
                                    struct error *err);

#endif
