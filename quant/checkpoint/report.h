/* The end of `espalier quantize`: what quantization.json says, as a table. */
#ifndef QUANT_CHECKPOINT_REPORT_H
#define QUANT_CHECKPOINT_REPORT_H

#include "model/checkpoint.h"

#include <jansson.h>

void report_print(const json_t *record, const char *out);

#endif
