#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"
#include "model/utf8.h"
#include "model/chat.h"
#include "model/rope.h"

#include <stdlib.h>
#include <string.h>

/* Vocabularies above this are read, not built: the tables alone would be the time of the run. */
#define MAX_BUILT 4096

void check_words(enum status status, const struct error *err)
{
    invariant(!status || err->text[0], "%s, without words", status_words(status));
}

static void read_rows(const struct checkpoint_tensor *tensor)
{
    float *row = must_alloc((size_t)tensor->cols * sizeof *row);
    for (int64_t i = 0; i < tensor->rows; i++)
        checkpoint_read_rows(tensor, i, 1, row);
    free(row);
}

static void read_tensors(const struct checkpoint *checkpoint)
{
    const struct model_config *config = checkpoint_config(checkpoint);
    for (int32_t layer = 0; layer < config->layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
            const struct checkpoint_tensor *tensor = checkpoint_tensor(checkpoint, role, layer);
            if (tensor) read_rows(tensor);
        }
}

void check_spec(const struct tokenizer_spec *spec, struct input text)
{
    static const char fixed[] = "Hi  42 \xc3\xa9\xcc\x81\n\xff<s>ab";
    struct tokenizer *tokenizer;
    struct error err = {0};
    if (!spec->token_count || spec->token_count > MAX_BUILT) return;
    enum status status = tokenizer_create(spec, &tokenizer, &err);
    check_words(status, &err);
    if (status) return;
    check_tokenizer(tokenizer, (struct input){fixed, sizeof fixed - 1}, false, spec->nfc);
    check_tokenizer(tokenizer, text, false, spec->nfc);
    for (int32_t id = -1; id <= spec->token_count; id++) {
        size_t length;
        tokenizer_token_view(tokenizer, id, true, &length);
    }
    tokenizer_free(tokenizer);
    chat_template_choose(CHAT_NONE, spec->chat_template, false);
}

void check_checkpoint(const char *path)
{
    static float frequencies[MODEL_MAX_HEAD_DIM / 2];
    struct checkpoint *checkpoint;
    struct error err = {0};
    enum status status = checkpoint_open(path, &checkpoint, &err);
    check_words(status, &err);
    if (status) return;
    const struct model_config *config = checkpoint_config(checkpoint);
    invariant(model_config_check(config, &err) == ST_OK, "%s", err.text);
    invariant(is_utf8(config->name, strlen(config->name)), "the name is no UTF-8");
    model_rope_frequencies(config, frequencies);
    read_tensors(checkpoint);
    check_spec(checkpoint_tokenizer(checkpoint), (struct input){"", 0});
    checkpoint_close(checkpoint);
}
