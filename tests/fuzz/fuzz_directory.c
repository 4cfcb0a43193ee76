/* A Hugging Face directory, its files together: an index and its shards, the configuration, the
 * tokenizer. Refused with words, or every row of it can be read.
 *
 * Input: parts, each "@@FILE SIZE" on a line and a text. A weight file is written as the length of
 * the text, the text, and SIZE bytes of data, so that its header stays well-formed while it
 * changes. */
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DATA 65536

static const struct {
    char letter;
    const char *name;
    bool weights;
} files[] = {
    {'c', "config.json", false},
    {'g', "generation_config.json", false},
    {'t', "tokenizer.json", false},
    {'k', "tokenizer_config.json", false},
    {'i', "model.safetensors.index.json", false},
    {'w', "model.safetensors", true},
    {'1', "model-00001-of-00002.safetensors", true},
    {'2', "model-00002-of-00002.safetensors", true},
};

static void write_weights(const char *name, const struct input_part *part, size_t size)
{
    struct strbuf bytes = {0};
    uint64_t length = part->length;
    strbuf_append(&bytes, &length, sizeof length);
    strbuf_append(&bytes, part->text, part->length);
    for (size_t i = 0; i < size; i++)
        strbuf_char(&bytes, (char)(i * 37));
    scratch_file(name, bytes.data, bytes.length);
    strbuf_free(&bytes);
}

/* The number after the letter: "@@1 96". */
static size_t size_of(const struct input_part *part)
{
    size_t size = 0;
    for (size_t i = 2; i < part->name_length && part->name[i] >= '0' && part->name[i] <= '9'; i++)
        size = size * 10 + (size_t)(part->name[i] - '0');
    return size < MAX_DATA ? size : MAX_DATA;
}

static void write_part(const struct input_part *part)
{
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        if (!part->name_length || part->name[0] != files[i].letter) continue;
        if (files[i].weights)
            write_weights(files[i].name, part, size_of(part));
        else
            scratch_file(files[i].name, part->text, part->length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct input_part part;
    for (size_t i = 0; i < COUNT_OF(files); i++)
        scratch_remove(files[i].name);
    for (int count = 0; count < 16 && input_part(&input, &part); count++)
        write_part(&part);
    check_checkpoint(scratch_directory());
    return 0;
}
