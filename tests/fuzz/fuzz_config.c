/* config.json and generation_config.json: refused with words, or a configuration that can be.
 *
 * Input: config.json, then if wanted a line "@@" and generation_config.json. */
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"
#include "model/hf_config.h"
#include "model/rope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"config.json", "generation_config.json"};
    static float frequencies[MODEL_MAX_HEAD_DIM / 2];
    struct input input = {(const char *)data, size};
    struct input_part part;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (input_part(&input, &part))
            scratch_file(names[i], part.text, part.length);
        else
            scratch_remove(names[i]);
    struct model_config config = {0};
    struct error err = {0};
    enum status status = hf_config_read(scratch_directory(), &config, &err);
    check_words(status, &err);
    if (status) return 0;
    invariant(model_config_check(&config, &err) == ST_OK, "%s", err.text);
    invariant(config.bos >= -1 && config.bos < config.vocab, "BOS %d", config.bos);
    for (int32_t i = 0; i < config.eos_count; i++)
        invariant(config.eos[i] >= 0 && config.eos[i] < config.vocab, "EOS %d", config.eos[i]);
    model_rope_frequencies(&config, frequencies);
    return 0;
}
