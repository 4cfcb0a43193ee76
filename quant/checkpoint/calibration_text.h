/* The text that a recipe is calibrated on: windows of CALIBRATION_WINDOW tokens of a file, a pipe
 * or standard input ("-"), evenly spread over it, each beginning with BOS where the model's texts
 * do. */
#ifndef QUANT_CHECKPOINT_CALIBRATION_TEXT_H
#define QUANT_CHECKPOINT_CALIBRATION_TEXT_H

#include "model/checkpoint.h"

#include <jansson.h>

struct calibration_text {
    int32_t *tokens; /* [windows][CALIBRATION_WINDOW]; NULL: no text */
    int32_t windows;
    json_t *record; /* path, bytes, checksum, tokens: for quantization.json */
};

/* At most `windows` of them. ST_INVALID where the text has too few, with how much is needed. */
enum status calibration_text_read(const char *path, const struct checkpoint *source,
                                  int32_t windows, struct calibration_text *out, struct error *err);
void calibration_text_free(struct calibration_text *text);

#endif
