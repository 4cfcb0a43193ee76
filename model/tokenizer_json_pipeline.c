/* tokenizer.json says what to do with a text in a small language of its own: normalizers,
 * pre-tokenizers, processors and decoders that nest. We follow what byte-level BPE models are
 * written with and refuse every other part by name, rather than tokenize almost as the model was
 * trained.
 */
#include "base/base.h"
#include "model/pretokenizer_names.h"
#include "model/tokenizer_json_private.h"

/* --- lists that may nest: walked in order, without recursion */

#define MAX_NESTING 8

/* A walk over the leaves of a part that may be a Sequence of parts that may be Sequences. */
struct leaves {
    const char *list_key;
    struct {
        const json_t *list;
        size_t next;
    } open[MAX_NESTING];
    size_t depth;
    const json_t *single; /* the root when it is no Sequence, until it was given */
};

static enum status leaves_begin(struct leaves *leaves, const json_t *root, const char *list_key,
                                const char *what, struct error *err)
{
    *leaves = (struct leaves){.list_key = list_key, .single = root};
    if (!root || !type_is(root, "Sequence")) return ST_OK;
    leaves->single = NULL;
    leaves->open[leaves->depth++].list = member(root, list_key);
    return json_is_array(leaves->open[0].list)
               ? ST_OK
               : fail(err, ST_BAD_FILE, "%s: a Sequence without the list '%s'", what, list_key);
}

/* The next leaf, *leaf NULL when there is none. */
static enum status leaves_next(struct leaves *leaves, const char *what, const json_t **leaf,
                               struct error *err)
{
    *leaf = leaves->single;
    leaves->single = NULL;
    while (!*leaf && leaves->depth > 0) {
        const json_t *list = leaves->open[leaves->depth - 1].list;
        size_t next = leaves->open[leaves->depth - 1].next++;
        const json_t *part = json_array_get(list, next);
        if (next >= json_array_size(list)) {
            leaves->depth--;
        } else if (!type_is(part, "Sequence")) {
            *leaf = part;
        } else if (leaves->depth == MAX_NESTING) {
            return fail(err, ST_UNSUPPORTED, "%s: Sequences more than %d deep", what, MAX_NESTING);
        } else {
            leaves->open[leaves->depth].list = member(part, leaves->list_key);
            leaves->open[leaves->depth++].next = 0;
        }
    }
    return ST_OK;
}

/* --- normalizer */

static enum status read_normalizer(const json_t *root, struct tokenizer_spec *spec,
                                   struct error *err)
{
    struct leaves leaves;
    const json_t *leaf;
    enum status status =
        leaves_begin(&leaves, member(root, "normalizer"), "normalizers", "normalizer", err);
    while (!status && !(status = leaves_next(&leaves, "normalizer", &leaf, err)) && leaf) {
        if (!type_is(leaf, "NFC"))
            return unsupported(err, "normalizer", leaf, "none or {\"type\":\"NFC\"}");
        spec->nfc = true;
    }
    return status;
}

/* --- pre_tokenizer */

static enum status add_step(struct tokenizer_spec *spec, struct split_step step, struct error *err)
{
    if (spec->step_count == PRETOKENIZE_MAX_STEPS)
        return fail(err, ST_UNSUPPORTED, "pre_tokenizer has more than %d steps",
                    PRETOKENIZE_MAX_STEPS);
    spec->steps[spec->step_count++] = step;
    return ST_OK;
}

static bool read_behavior(const char *name, enum split_behavior *out)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (enum split_behavior)i;
        return true;
    }
    return false;
}

static enum status read_split(const json_t *split, struct tokenizer_spec *spec, struct error *err)
{
    const json_t *pattern = member(split, "pattern");
    const json_t *regex = member(pattern, "Regex"), *literal = member(pattern, "String");
    const json_t *text = regex ? regex : literal;
    struct split_step step = {.literal = !regex, .invert = true_member(split, "invert")};
    if (!json_is_string(text))
        return unsupported(err, "pre_tokenizer Split.pattern", split,
                           "{\"Regex\": text} or {\"String\": text}");
    if (!read_behavior(text_member(split, "behavior"), &step.behavior))
        return unsupported(err, "pre_tokenizer Split.behavior", member(split, "behavior"),
                           "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
    step.length = json_string_length(text);
    step.pattern = tokenizer_json_keep(spec, json_string_value(text), step.length);
    return step.pattern ? add_step(spec, step, err)
                        : fail(err, ST_NO_MEMORY, "tokenizer.json: out of memory");
}

static struct split_step digits_step(const json_t *digits)
{
    bool each = true_member(digits, "individual_digits");
    return (struct split_step){.pattern = pretokenizer_digit_pattern,
                               .length = strlen(pretokenizer_digit_pattern),
                               .behavior = each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS};
}

/* ByteLevel puts a space before every piece that it gets, where asked, and may cut by GPT-2's
 * pattern; use_regex is true when absent, as in old files. */
static enum status read_byte_level(const json_t *part, struct tokenizer_spec *spec,
                                   struct error *err)
{
    struct split_step step = {.prefix_space = true_member(part, "add_prefix_space")};
    if (!member(part, "use_regex") || true_member(part, "use_regex")) {
        step.pattern = pretokenizer_gpt2_pattern;
        step.length = strlen(step.pattern);
    }
    return step.pattern || step.prefix_space ? add_step(spec, step, err) : ST_OK;
}

/* Steps that a name stands for run as one pattern and are shown by their name. */
static void recognise_steps(struct tokenizer_spec *spec)
{
    const struct split_step *first = &spec->steps[0], *second = &spec->steps[1];
    for (int kind = 0; kind < PRETOKENIZE_STEPS; kind++) {
        struct split_step known[PRETOKENIZE_MAX_STEPS];
        bool same = pretokenizer_steps((enum pretokenizer)kind, known) == 1 &&
                    spec->step_count == 1 && first->pattern && first->length == known->length &&
                    !memcmp(first->pattern, known->pattern, known->length) && !first->literal &&
                    !first->invert && first->behavior == SPLIT_ISOLATED && !first->prefix_space;
        if (same) spec->pretokenizer = (enum pretokenizer)kind;
    }
    if (spec->step_count == 2 && first->pattern == pretokenizer_digit_pattern &&
        first->behavior == SPLIT_ISOLATED && second->pattern == pretokenizer_gpt2_pattern &&
        !second->prefix_space)
        spec->pretokenizer = PRETOKENIZE_SMOLLM;
}

static enum status read_pretokenizer(const json_t *root, struct tokenizer_spec *spec,
                                     struct error *err)
{
    static const char supported[] = "ByteLevel, or a Sequence of Split and Digits that ends in it";
    const json_t *whole = member(root, "pre_tokenizer"), *leaf;
    struct leaves leaves;
    bool byte_level = false;
    spec->pretokenizer = PRETOKENIZE_STEPS;
    enum status status = leaves_begin(&leaves, whole, "pretokenizers", "pre_tokenizer", err);
    while (!status && !(status = leaves_next(&leaves, "pre_tokenizer", &leaf, err)) && leaf) {
        /* What comes after ByteLevel would see its alphabet instead of the text. */
        if (byte_level) return unsupported(err, "pre_tokenizer", leaf, supported);
        if (type_is(leaf, "Split"))
            status = read_split(leaf, spec, err);
        else if (type_is(leaf, "Digits"))
            status = add_step(spec, digits_step(leaf), err);
        else if (type_is(leaf, "ByteLevel"))
            status = read_byte_level(leaf, spec, err), byte_level = true;
        else
            status = unsupported(err, "pre_tokenizer", leaf, supported);
    }
    if (!status && !byte_level) return unsupported(err, "pre_tokenizer", whole, supported);
    if (!status) recognise_steps(spec);
    return status;
}

/* --- post_processor */

int32_t tokenizer_json_find_added(const struct tokenizer_spec *spec, const char *text)
{
    for (int32_t i = 0; i < spec->added_count; i++) {
        int32_t id = spec->added[i].id;
        if (!strcmp(spec->tokens[id].text, text)) return id;
    }
    return -1;
}

/* The added token that a piece of a template stands for, or -1. The template's own table may give
 * it ids; one is what we can put. */
static int32_t template_token(const json_t *template, const json_t *piece,
                              const struct tokenizer_spec *spec)
{
    const char *name = text_member(member(piece, "SpecialToken"), "id");
    const json_t *ids = member(member(member(template, "special_tokens"), name), "ids");
    if (!*name) return -1;
    if (!ids) return tokenizer_json_find_added(spec, name);
    const json_t *id = json_array_get(ids, 0);
    bool usable = json_array_size(ids) == 1 && json_is_integer(id) && json_integer_value(id) >= 0 &&
                  json_integer_value(id) < spec->token_count &&
                  spec->tokens[json_integer_value(id)].text;
    return usable ? (int32_t)json_integer_value(id) : -1;
}

/* A TemplateProcessing of one text: at most one token before it, which must be BOS (a file without
 * tokenizer_config.json names its BOS here), and at most one behind it. */
static enum status read_template(const json_t *template, struct tokenizer_spec *spec,
                                 struct error *err)
{
    const json_t *single = member(template, "single");
    size_t count = json_array_size(single), at = 0;
    int32_t before = -1, behind = -1;
    if (!member(json_array_get(single, at), "Sequence"))
        before = template_token(template, json_array_get(single, at++), spec);
    bool good = (at == 0 || (before >= 0 && (spec->bos < 0 || spec->bos == before))) &&
                member(json_array_get(single, at++), "Sequence");
    if (good && at < count) {
        behind = template_token(template, json_array_get(single, at++), spec);
        good = behind >= 0;
    }
    if (!good || at != count)
        return unsupported(err, "post_processor.single", single,
                           "BOS or nothing, the text, one special token or nothing");
    if (before >= 0) spec->bos = before;
    spec->add_bos = before >= 0;
    spec->last = behind;
    spec->add_last = behind >= 0;
    return ST_OK;
}

enum status tokenizer_json_processor(const json_t *root, struct tokenizer_spec *spec,
                                     struct error *err)
{
    struct leaves leaves;
    const json_t *leaf;
    bool template = false;
    enum status status =
        leaves_begin(&leaves, member(root, "post_processor"), "processors", "post_processor", err);
    while (!status && !(status = leaves_next(&leaves, "post_processor", &leaf, err)) && leaf) {
        if (type_is(leaf, "ByteLevel")) continue; /* moves offsets, not tokens */
        if (!type_is(leaf, "TemplateProcessing") || template)
            return unsupported(err, "post_processor", leaf,
                               "ByteLevel and at most one TemplateProcessing");
        template = true;
        status = read_template(leaf, spec, err);
    }
    return status;
}

/* --- decoder */

static enum status read_decoder(const json_t *root, struct error *err)
{
    struct leaves leaves;
    const json_t *leaf;
    enum status status = leaves_begin(&leaves, member(root, "decoder"), "decoders", "decoder", err);
    while (!status && !(status = leaves_next(&leaves, "decoder", &leaf, err)) && leaf)
        if (!type_is(leaf, "ByteLevel"))
            return unsupported(err, "decoder", leaf, "{\"type\":\"ByteLevel\"}");
    return status;
}

enum status tokenizer_json_pipeline(const json_t *root, struct tokenizer_spec *spec,
                                    struct error *err)
{
    enum status status = read_normalizer(root, spec, err);
    if (!status) status = read_pretokenizer(root, spec, err);
    if (!status) status = read_decoder(root, err);
    return status;
}
