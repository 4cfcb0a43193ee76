#include "quant/checkpoint/calibration_text.h"
#include "base/base.h"
#include "model/checksum.h"
#include "model/text_input.h"
#include "model/utf8.h"
#include "quant/checkpoint/calibrate.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT    ((size_t)1 << 30)
#define MIN_WINDOWS 8

/* A product of n inputs is known after n tokens at the earliest. */
static int32_t needed_windows(const struct model_config *c)
{
    int64_t widest = (int64_t)c->heads * c->head_dim;
    if (widest < c->intermediate) widest = c->intermediate;
    if (widest < c->hidden) widest = c->hidden;
    int64_t windows = (widest + CALIBRATION_WINDOW - 1) / CALIBRATION_WINDOW;
    return windows < MIN_WINDOWS ? MIN_WINDOWS : (int32_t)windows;
}

static enum status tokenize(const struct tokenizer_spec *spec, const char *text, size_t length,
                            struct token_list *ids, bool *bos, struct error *err)
{
    struct tokenizer *tokenizer;
    enum status status = tokenizer_create(spec, &tokenizer, err);
    if (status) return status;
    *bos = tokenizer_adds_bos(tokenizer);
    status = tokenizer_encode(tokenizer, text, length, false, ids, err);
    if (!status && ids->failed)
        status = fail(err, ST_NO_MEMORY, "no memory for the tokens of %zu bytes", length);
    tokenizer_free(tokenizer);
    return status;
}

/* The windows in their order, evenly spread over those that the text has. */
static void spread(const struct token_list *ids, int32_t windows, int32_t bos, int32_t *out)
{
    int64_t whole = (int64_t)(ids->count / CALIBRATION_WINDOW);
    for (int32_t i = 0; i < windows; i++, out += CALIBRATION_WINDOW) {
        int64_t from = whole * i / windows * CALIBRATION_WINDOW;
        memcpy(out, ids->ids + from, CALIBRATION_WINDOW * sizeof *out);
        if (bos >= 0) out[0] = bos;
    }
}

static enum status take_windows(const char *path, const struct checkpoint *source,
                                const struct token_list *ids, size_t length, bool bos,
                                int32_t windows, struct calibration_text *out, struct error *err)
{
    int32_t needed = needed_windows(checkpoint_config(source));
    int64_t whole = (int64_t)(ids->count / CALIBRATION_WINDOW);
    if (windows < needed) windows = needed;
    if (whole < needed) {
        double tokens = (double)needed * CALIBRATION_WINDOW;
        double each = ids->count ? (double)length / (double)ids->count : 4;
        return fail(err, ST_INVALID,
                    "%s has %zu tokens in %zu bytes; needed for this model are %.0f (%d windows of "
                    "%d), about %.0f bytes of such text",
                    path, ids->count, length, tokens, needed, CALIBRATION_WINDOW, tokens * each);
    }
    out->windows = whole < windows ? (int32_t)whole : windows;
    out->tokens = try_alloc((size_t)out->windows, CALIBRATION_WINDOW * sizeof *out->tokens);
    if (!out->tokens) return fail(err, ST_NO_MEMORY, "no memory for %d windows", out->windows);
    spread(ids, out->windows, bos ? checkpoint_tokenizer(source)->bos : -1, out->tokens);
    return ST_OK;
}

/* What is no text would be calibrated on for nothing. */
static enum status check_text(const char *path, const char *text, size_t length, struct error *err)
{
    for (size_t at = 0; at < length;) {
        struct utf8_step step = utf8_step(text + at, length - at);
        if (step.kind != UTF8_WHOLE || step.codepoint == 0)
            return fail(err, ST_INVALID, "%s is no UTF-8 text: byte %zu is 0x%02x", path, at,
                        (unsigned)(unsigned char)text[at]);
        at += step.length;
    }
    return ST_OK;
}

enum status calibration_text_read(const char *path, const struct checkpoint *source,
                                  int32_t windows, struct calibration_text *out, struct error *err)
{
    char *text;
    size_t length;
    bool bos;
    struct token_list ids = {.may_fail = true};
    *out = (struct calibration_text){0};
    enum status status = text_input_read(path, MAX_TEXT, &text, &length, err);
    if (status) return fail_prefix(err, "--calibrate");
    const char *label = text_input_label(path);
    status = check_text(label, text, length, err);
    if (!status) status = tokenize(checkpoint_tokenizer(source), text, length, &ids, &bos, err);
    if (!status) status = take_windows(label, source, &ids, length, bos, windows, out, err);
    if (!status)
        out->record = json_pack("{s:s, s:I, s:s, s:i}", "path", path, "bytes", (json_int_t)length,
                                "xxh3_128", checksum_of(text, length).digits, "tokens",
                                out->windows * CALIBRATION_WINDOW);
    if (!status && !out->record)
        status = fail(err, ST_INVALID, "%s: the path is no UTF-8 text", path);
    free(ids.ids);
    free(text);
    if (!status) return ST_OK;
    calibration_text_free(out);
    return fail_prefix(err, "--calibrate");
}

void calibration_text_free(struct calibration_text *text)
{
    free(text->tokens);
    json_decref(text->record);
    *text = (struct calibration_text){0};
}
