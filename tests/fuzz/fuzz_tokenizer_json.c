/* tokenizer.json and tokenizer_config.json: refused with words, or a tokenizer that works.
 *
 * Input: tokenizer.json, then if wanted "@@" lines before tokenizer_config.json, before
 * chat_template.jinja, and before a text to tokenize. */
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"
#include "model/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja"};
    struct input input = {(const char *)data, size};
    struct input_part part;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (input_part(&input, &part))
            scratch_file(names[i], part.text, part.length);
        else
            scratch_remove(names[i]);
    struct tokenizer_spec spec;
    struct error err = {0};
    enum status status = tokenizer_spec_from_json(scratch_directory(), &spec, &err);
    check_words(status, &err);
    if (status) return 0;
    invariant(spec.bos >= -1 && spec.bos < spec.token_count, "BOS %d", spec.bos);
    invariant(spec.eos >= -1 && spec.eos < spec.token_count, "EOS %d", spec.eos);
    input_part(&input, &part);
    check_spec(&spec, (struct input){part.text, part.length});
    tokenizer_spec_free(&spec);
    return 0;
}
