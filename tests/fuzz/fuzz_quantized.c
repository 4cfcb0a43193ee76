/* A quantized directory: refused with words, or every row of it can be read. Checksums are computed
 * here, so that an input gets behind them; a part @@r is quantization.json as it stands.
 *
 * Input: parts, each "@@LETTER" on a line and a text: c config.json, t tokenizer.json, w the header
 * of model.safetensors, d its data, q quantization.json without checksums, r the same whole.
 */
#include "model/checksum.h"
#include "model/json_reader.h"
#include "model/quantized_directory.h"
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors",
                                    QUANTIZATION_FILE};

/* The parts of one input, views of it. */
struct parts {
    struct input_part config, tokenizer, header, data, record, raw;
};

static struct parts take_parts(struct input input)
{
    struct parts parts = {0};
    struct input_part part;
    for (int count = 0; count < 16 && input_part(&input, &part); count++) {
        struct input_part *place = part_is(&part, "c")   ? &parts.config
                                   : part_is(&part, "t") ? &parts.tokenizer
                                   : part_is(&part, "w") ? &parts.header
                                   : part_is(&part, "d") ? &parts.data
                                   : part_is(&part, "q") ? &parts.record
                                   : part_is(&part, "r") ? &parts.raw
                                                         : NULL;
        if (place) *place = part;
    }
    return parts;
}

static json_t *sum_json(const void *bytes, size_t length)
{
    return json_string(checksum_of(length ? bytes : "", length).digits);
}

/* Of every tensor whose place lies in data[size]. */
static json_t *tensor_sums(const json_t *header, const char *data, size_t size)
{
    json_t *sums = json_object(), *entry;
    const char *name;
    json_object_foreach((json_t *)header, name, entry)
    {
        const json_t *offsets = json_object_get(entry, "data_offsets");
        json_int_t begin = json_integer_value(json_array_get(offsets, 0));
        json_int_t end = json_integer_value(json_array_get(offsets, 1));
        if (begin >= 0 && end >= begin && (size_t)end <= size)
            json_object_set_new(sums, name, sum_json(data + begin, (size_t)(end - begin)));
    }
    return sums;
}

static void write_record(json_t *record)
{
    struct strbuf text = {0};
    char *dump = json_dumps(record, JSON_INDENT(1));
    strbuf_append(&text, dump, strlen(dump) - 2);
    strbuf_text(&text, ",\n" QUANTIZATION_SEAL);
    strbuf_text(&text, checksum_of(text.data, text.length).digits);
    strbuf_text(&text, QUANTIZATION_SEAL_END);
    scratch_file(QUANTIZATION_FILE, text.data, text.length);
    strbuf_free(&text);
    free(dump);
}

static void write_weights(const struct parts *parts, struct strbuf *file)
{
    uint64_t length = parts->header.length;
    strbuf_append(file, &length, sizeof length);
    strbuf_append(file, parts->header.text, parts->header.length);
    if (parts->data.length) strbuf_append(file, parts->data.text, parts->data.length);
    scratch_file(names[2], file->data, file->length);
}

/* quantization.json with checksums that are right; the header must be JSON for that. */
static void write_sealed(const struct parts *parts, const struct strbuf *weights)
{
    struct error err = {0};
    json_t *header, *record;
    if (json_parse_object(parts->header.text, parts->header.length, 8, &header, &err)) return;
    if (json_parse_object(parts->record.text, parts->record.length, 8, &record, &err) == ST_OK) {
        json_object_set_new(
            record, "checksums",
            json_pack(
                "{s:o, s:{s:o, s:o}, s:o}", "header",
                sum_json(weights->data, 8 + parts->header.length), "files", names[0],
                sum_json(parts->config.text, parts->config.length), names[1],
                sum_json(parts->tokenizer.text, parts->tokenizer.length), "tensors",
                tensor_sums(header, parts->data.text ? parts->data.text : "", parts->data.length)));
        write_record(record);
        json_decref(record);
    }
    json_decref(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct parts parts = take_parts((struct input){(const char *)data, size});
    struct strbuf weights = {0};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        scratch_remove(names[i]);
    if (!parts.header.text) return 0;
    write_weights(&parts, &weights);
    if (parts.config.text) scratch_file(names[0], parts.config.text, parts.config.length);
    if (parts.tokenizer.text) scratch_file(names[1], parts.tokenizer.text, parts.tokenizer.length);
    if (parts.raw.text)
        scratch_file(QUANTIZATION_FILE, parts.raw.text, parts.raw.length);
    else if (parts.record.text)
        write_sealed(&parts, &weights);
    strbuf_free(&weights);
    check_checkpoint(scratch_directory());
    return 0;
}
