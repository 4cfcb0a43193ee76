#include "model/tokenize_lines.h"
#include "base/base.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void print_member(const char *key, json_t *value)
{
    json_t *root = json_object();
    json_object_set_new(root, key, value);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

static enum status print_text(const struct tokenizer *tokenizer, const json_t *tokens,
                              bool show_special, struct error *err)
{
    struct token_list ids = {0};
    struct strbuf text = {0};
    enum status status = ST_OK;
    size_t i;
    const json_t *id;
    json_array_foreach(tokens, i, id)
    {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= tokenizer_size(tokenizer))
            status = fail(err, ST_INVALID, "element %zu is no id; allowed are 0 to %d", i,
                          tokenizer_size(tokenizer) - 1);
        token_list_append(&ids, (int32_t)value);
    }
    if (!status) {
        tokenizer_decode(tokenizer, ids.ids, ids.count, show_special, &text);
        print_member("text", json_stringn(strbuf_cstr(&text), text.length));
    }
    strbuf_free(&text);
    free(ids.ids);
    return status;
}

static void print_ids(const struct token_list *ids)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < ids->count; i++)
        json_array_append_new(tokens, json_integer(ids->ids[i]));
    print_member("tokens", tokens);
}

static enum status convert_line(const struct tokenizer *tokenizer, const char *line, size_t length,
                                bool special, bool add_special, struct error *err)
{
    json_error_t why;
    struct token_list ids = {0};
    json_t *value = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    enum status status = ST_OK;
    if (!value) {
        status = fail(err, ST_INVALID, "%s", why.text);
    } else if (json_is_array(value)) {
        status = print_text(tokenizer, value, special, err);
    } else if (json_is_string(value)) {
        status = tokenizer_encode_text(tokenizer, json_string_value(value),
                                       json_string_length(value), special, add_special, &ids, err);
        if (!status) print_ids(&ids);
    } else {
        status = fail(err, ST_INVALID, "neither a string nor an array of ids");
    }
    json_decref(value);
    free(ids.ids);
    return status;
}

enum status tokenize_lines(const struct tokenizer *tokenizer, const struct strbuf *input,
                           bool special, bool add_special, struct error *err)
{
    size_t number = 0;
    for (size_t at = 0; at < input->length;) {
        const char *line = input->data + at;
        const char *end = memchr(line, '\n', input->length - at);
        size_t length = end ? (size_t)(end - line) : input->length - at;
        number++;
        enum status status = convert_line(tokenizer, line, length, special, add_special, err);
        if (status) return fail_prefix(err, "standard input, line %zu", number);
        at += length + 1;
    }
    return ST_OK;
}

/* --- speed */

static double processor_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

enum status tokenize_speed(const struct tokenizer *tokenizer, const struct strbuf *input,
                           bool special, struct error *err)
{
    struct token_list ids = {0};
    enum status status = ST_OK;
    double best = 0, total = 0;
    int runs = 0;
    if (!input->length) return fail(err, ST_INVALID, "standard input is empty");
    while (!status && (runs < 3 || total < 0.4)) {
        ids.count = 0;
        double start = processor_seconds();
        status = tokenizer_encode(tokenizer, input->data, input->length, special, &ids, err);
        double taken = processor_seconds() - start;
        if (!runs++ || taken < best) best = taken;
        total += taken;
    }
    if (!status)
        printf("{\"bytes\": %zu, \"tokens\": %zu, \"runs\": %d, \"seconds\": %.6f, "
               "\"mb_per_s\": %.2f}\n",
               input->length, ids.count, runs, best, (double)input->length / best / 1e6);
    free(ids.ids);
    return status;
}
