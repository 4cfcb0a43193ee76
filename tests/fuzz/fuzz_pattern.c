/* A pre-tokenizer out of a model file: patterns in Oniguruma's words are translated, compiled by
 * PCRE2 and cut a text. Refused with words, or the pieces tile the text, or it took too long.
 *
 * Input: steps, one a line up to an empty line, then the text. A step is a letter and a pattern:
 * i, r, p, n, c for isolated, removed, merged with the previous, with the next, contiguous; the
 * capital inverts; "=" behind it makes the pattern a literal; "_" is the space before a piece. */
#include "tests/fuzz/support_input.h"
#include "model/pretokenize.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT 200

static bool read_step(struct input line, struct split_step *step)
{
    static const char behaviors[] = "irpnc";
    char letter = (char)tolower(*line.text);
    const char *found = strchr(behaviors, letter);
    *step = (struct split_step){.prefix_space = letter == '_'};
    if (letter == '_') return true;
    if (!found || !letter) return false;
    step->behavior = (enum split_behavior)(found - behaviors);
    step->invert = letter != *line.text;
    step->literal = line.left > 1 && line.text[1] == '=';
    size_t head = step->literal ? 2 : 1;
    step->pattern = line.text + head;
    step->length = line.left - head;
    return true;
}

/* Whether every byte of the text is in some piece. */
static bool tiles(const struct tokenizer_spec *spec)
{
    for (int32_t i = 0; i < spec->step_count; i++)
        if (spec->steps[i].behavior == SPLIT_REMOVED || spec->steps[i].prefix_space) return false;
    return true;
}

static void check_pieces(const struct tokenizer_spec *spec, const struct pretokenize *pretokenize,
                         struct input text)
{
    struct pieces pieces;
    const char *piece;
    size_t length, total = 0, count = 0;
    int more;
    if (!pieces_begin(&pieces, pretokenize)) die("no memory");
    pieces_start(&pieces, text.text, text.left);
    while ((more = pieces_next(&pieces, &piece, &length)) > 0) {
        invariant(length > 0, "an empty piece");
        invariant(!tiles(spec) || piece == text.text + total, "a piece out of its place");
        total += length;
        /* A space put before a piece can be cut off, and so on at every step. */
        invariant(++count <= (text.left + 1) << spec->step_count, "%zu pieces of %zu bytes", count,
                  text.left);
    }
    invariant(more || !tiles(spec) || total == text.left, "%zu of %zu bytes", total, text.left);
    pieces_end(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size}, line;
    struct tokenizer_spec spec = {.pretokenizer = PRETOKENIZE_STEPS};
    struct pretokenize *pretokenize;
    struct error err = {0};
    while (spec.step_count < PRETOKENIZE_MAX_STEPS && (line = input_line(&input)).left)
        if (read_step(line, &spec.steps[spec.step_count])) spec.step_count++;
    if (input.left > MAX_TEXT) input.left = MAX_TEXT;
    enum status status = pretokenize_create(&spec, &pretokenize, &err);
    invariant(!status || err.text[0], "a refusal without words");
    if (status) return 0;
    check_pieces(&spec, pretokenize, input);
    pretokenize_free(pretokenize);
    return 0;
}
