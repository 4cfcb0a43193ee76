/* The small files of a quantized directory: copied as they are from a Hugging Face directory, made
 * from what the reader understood of any other source. */
#ifndef QUANT_CHECKPOINT_SIDE_FILES_H
#define QUANT_CHECKPOINT_SIDE_FILES_H

#include "model/checkpoint.h"
#include "quant/checkpoint/partial.h"

enum status side_files_write(const char *source_path, const struct checkpoint *source,
                             struct partial *partial, struct error *err);

/* {"path", "format", "files": [{"name", "bytes", "xxh3_128"}]}: which weights these were. */
enum status source_json(const char *source_path, const struct checkpoint *source, json_t **out,
                        struct error *err);

#endif
