/* model.safetensors and quantization.json of a quantized directory (docs/formats.md), streamed.
 *
 * The file has its full size from the start, so a disk that is too small is found before the work.
 * Tensors come in any order, the rows of a matrix ascending, each once; checksums are taken on the
 * way. quantization.json is written last: a directory without it loads nowhere.
 */
#ifndef QUANT_CHECKPOINT_WRITER_H
#define QUANT_CHECKPOINT_WRITER_H

#include "quant/checkpoint/layout.h"
#include "quant/checkpoint/partial.h"

struct writer;

/* `partial` and `plan` are borrowed until writer_close. */
enum status writer_open(struct partial *partial, const struct checkpoint *source,
                        const struct format_plan *plan, struct writer **out, struct error *err);
void writer_close(struct writer *writer); /* closes the file; writer_finish or not */

/* A norm or a bias. */
enum status writer_vector(struct writer *writer, enum tensor_role role, int32_t layer,
                          const float *values, struct error *err);

/* The next rows of a matrix (all of them, or a part at a time). */
enum status writer_vsq4z(struct writer *writer, enum tensor_role role, int32_t layer,
                         const struct vsq4z_matrix *rows, struct error *err);
enum status writer_w8(struct writer *writer, enum tensor_role role, int32_t layer,
                      const struct w8_matrix *rows, struct error *err);

/* What is said of a matrix in quantization.json; a member of `record` may be any of the report's.
 * The record is taken over. */
void writer_record(struct writer *writer, enum tensor_role role, int32_t layer, json_t *record);

/* Every part must have come. Syncs the file and writes quantization.json: `head`'s members (source,
 * options, ...) between the version and the records. *record: what it says; the caller's. */
enum status writer_finish(struct writer *writer, json_t *head, json_t **record, struct error *err);

#endif
