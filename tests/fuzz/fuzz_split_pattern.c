/* A pre-tokenizer's own pattern: refused with words, or one that cuts a text into its pieces.
 *
 * Input: a byte (bits 0 to 2: behaviour, 3: inverted, 4: plain text, 5: a space before), the
 * pattern up to a newline, then the text. */
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"
#include "model/pretokenize.h"

#include <string.h>

#define MAX_TEXT 512 /* a hostile pattern may take its half second on every one */

static void check_pieces(const struct pretokenize *pretokenize, struct input text, bool tiles)
{
    struct pieces pieces;
    struct strbuf joined = {0};
    const char *piece;
    size_t length;
    int more;
    if (!pieces_begin(&pieces, pretokenize)) die("no pieces");
    pieces_start(&pieces, text.text, text.left);
    while ((more = pieces_next(&pieces, &piece, &length)) > 0) {
        invariant(length > 0, "an empty piece");
        strbuf_append(&joined, piece, length);
    }
    invariant(more == 0 || more == PIECES_NO_TIME, "pieces_next gave %d", more);
    if (tiles && more == 0)
        invariant(joined.length == text.left && !memcmp(strbuf_cstr(&joined), text.text, text.left),
                  "the pieces of %zu bytes hold %zu", text.left, joined.length);
    strbuf_free(&joined);
    pieces_end(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct tokenizer_spec spec = {.pretokenizer = PRETOKENIZE_STEPS, .step_count = 1};
    struct pretokenize *pretokenize;
    struct error err = {0};
    uint8_t flags = input_byte(&input);
    const char *end = memchr(input.text, '\n', input.left);
    size_t length = end ? (size_t)(end - input.text) : input.left;
    spec.steps[0] = (struct split_step){.pattern = input.text,
                                        .length = length,
                                        .behavior = (enum split_behavior)((flags & 7) % 5),
                                        .invert = flags & 8,
                                        .literal = flags & 16,
                                        .prefix_space = flags & 32};
    enum status status = pretokenize_create(&spec, &pretokenize, &err);
    check_words(status, &err);
    if (status) return 0;
    struct input text = {input.text + length, input.left - length};
    if (text.left > MAX_TEXT) text.left = MAX_TEXT;
    bool tiles = spec.steps[0].behavior != SPLIT_REMOVED && !spec.steps[0].prefix_space;
    check_pieces(pretokenize, text, tiles);
    pretokenize_free(pretokenize);
    return 0;
}
