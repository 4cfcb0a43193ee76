/* `espalier quantize` without its command line: a checkpoint in, a quantized directory out.
 *
 * Layer by layer: one layer in f32 and its codes are in memory, and of the embedding and the head a
 * few rows at a time. What is written is opened once, with every check of the reader, before it
 * gets its name. The same bytes for any number of threads. */
#ifndef QUANT_CHECKPOINT_DRIVER_H
#define QUANT_CHECKPOINT_DRIVER_H

#include "base/options.h"
#include "model/checkpoint.h"
#include "quant/checkpoint/recipe.h"

#include <jansson.h>

struct quantize_options {
    const char *model, *out;
    enum file_type format; /* FILE_VSQ4Z or FILE_W8 */
    enum clip clip;
    enum method method;
    const char *calibrate; /* a text, or NULL */
    int32_t windows;       /* of it, at most */
    struct option_texts keep;
    int threads; /* 0: one per core */
    bool force;  /* replace a quantized directory */
};

/* *record: what quantization.json says; the caller's. */
enum status quantize_checkpoint(const struct quantize_options *options, json_t **record,
                                struct error *err);

/* Words of the options, as they are typed and written. */
const char *format_word(enum file_type format); /* "vsq4z", "w8" */

#endif
