/* model.safetensors and quantization.json of a quantized directory (docs/formats.md), streamed.
 *
 * The file has its full size from the start, so a disk that is too small is found before the work.
 * Tensors come in any order, the rows of a matrix ascending, each once; checksums are taken on the
 * way. quantization.json is written last: a directory without it loads nowhere.
 */
#ifndef QUANT_CHECKPOINT_WEIGHT_FILE_H
#define QUANT_CHECKPOINT_WEIGHT_FILE_H

#include "quant/checkpoint/layout.h"
#include "quant/checkpoint/partial.h"

struct weight_file;

/* `partial` and `plan` are borrowed until weight_file_close. */
enum status weight_file_create(struct partial *partial, const struct checkpoint *source,
                               const struct format_plan *plan, struct weight_file **out,
                               struct error *err);
void weight_file_close(struct weight_file *file); /* closes the file; weight_file_finish or not */

/* A norm or a bias. */
enum status weight_file_vector(struct weight_file *file, enum tensor_role role, int32_t layer,
                               const float *values, struct error *err);

/* The next rows of a matrix (all of them, or a part at a time). */
enum status weight_file_vsq4z(struct weight_file *file, enum tensor_role role, int32_t layer,
                              const struct vsq4z_matrix *rows, struct error *err);
enum status weight_file_w8(struct weight_file *file, enum tensor_role role, int32_t layer,
                           const struct w8_matrix *rows, struct error *err);

/* What is said of a matrix in quantization.json; a member of `record` may be any of the report's.
 * The record is taken over. */
void weight_file_record(struct weight_file *file, enum tensor_role role, int32_t layer,
                        json_t *record);

/* Every part must have come. Syncs the file and writes quantization.json: `head`'s members (source,
 * options, ...) between the version and the records. *record: what it says; the caller's. */
enum status weight_file_finish(struct weight_file *file, json_t *head, json_t **record,
                               struct error *err);

#endif
