/* Unicode's normal form C (utf8proc's tables), for models whose tokenizer asks for it. */
#ifndef MODEL_NORMALIZE_H
#define MODEL_NORMALIZE_H

#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether it could change anything: a text whose characters are all below U+0300 is its own form.
 */
bool nfc_may_change(const char *text, size_t length);

/* Appends text[length] in NFC; broken bytes stay as they are, and nothing composes across them.
 * O(n log n) whatever the text, also in a run of a million combining marks. False: out of memory.
 */
bool nfc_append(const char *text, size_t length, struct strbuf *out);

#endif
