#include "quant/checkpoint/driver.h"
#include "base/base.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "quant/checkpoint/calibration_text.h"
#include "quant/checkpoint/side_files.h"
#include "quant/checkpoint/table_rows.h"
#include "quant/checkpoint/weight_file.h"

#include <stdlib.h>
#include <string.h>

const char *format_word(enum file_type format)
{
    return format == FILE_VSQ4Z ? "vsq4z" : "w8";
}

/* Everything one run holds. */
struct run {
    const struct quantize_options *options;
    struct checkpoint *source;
    struct thread_pool *pool;
    struct format_plan plan;
    struct calibration_text text;
    struct recipe *recipe;
    struct partial partial;
    struct weight_file *file;
    json_t *head;
    int64_t weights, bytes; /* of matrices, as written */
    struct progress bar;
    bool begun; /* partial is in use */
};

/* --- records */

/* Bytes of a matrix in its format. */
static int64_t coded_bytes(enum file_type type, int64_t rows, int64_t cols)
{
    return type == FILE_VSQ4Z ? (int64_t)vsq4z_matrix_bytes(rows, cols)
                              : w8_matrix_bytes(rows, cols);
}

static void record_matrix(struct run *run, enum tensor_role role, int32_t layer,
                          const struct coded_matrix *m)
{
    int64_t bytes = coded_bytes(m->type, m->rows, m->cols);
    double bits = 8 * (double)bytes / ((double)m->rows * (double)m->cols);
    run->weights += m->rows * m->cols;
    run->bytes += bytes;
    weight_file_record(run->file, role, layer,
                       json_pack("{s:s, s:[I, I], s:f, s:f, s:f}", "format",
                                 file_type_name(m->type), "shape", (json_int_t)m->rows,
                                 (json_int_t)m->cols, "bits", bits, "error", m->error, "clipped",
                                 m->clipped));
}

static json_t *options_json(const struct quantize_options *o, const json_t *text)
{
    json_t *keep = json_array();
    for (size_t i = 0; i < o->keep.count; i++)
        json_array_append_new(keep, json_string(o->keep.values[i]));
    return json_pack("{s:s, s:s, s:s, s:o, s:O?}", "format", format_word(o->format), "method",
                     method_name(o->method), "clip", clip_name(o->clip), "keep", keep, "calibrate",
                     text);
}

/* --- tensors */

/* The embedding, the head where there is one, the last norm. */
static enum status write_tables(struct run *run, struct error *err)
{
    enum status status = ST_OK;
    for (enum tensor_role role = TENSOR_EMBEDDING; !status && role <= TENSOR_HEAD; role++) {
        const struct checkpoint_tensor *table = checkpoint_tensor(run->source, role, 0);
        if (!table) continue;
        struct coded_matrix m = {.type = FILE_W8, .rows = table->rows, .cols = table->cols};
        status = table_write(table, role, run->pool, run->file, &m.error, err);
        if (!status) record_matrix(run, role, 0, &m);
    }
    struct float_layer norm = {0};
    if (!status)
        status = float_tensor_load(run->source, TENSOR_FINAL_NORM, 0, run->pool, &norm, err);
    if (!status)
        status = weight_file_vector(run->file, TENSOR_FINAL_NORM, 0,
                                    norm.tensors[TENSOR_FINAL_NORM].values, err);
    float_layer_release(&norm);
    return status;
}

static enum status write_matrix(struct run *run, enum tensor_role role, int32_t layer,
                                const struct coded_matrix *m, struct error *err)
{
    struct vsq4z_matrix vsq4z = coded_vsq4z(m);
    struct w8_matrix w8 = coded_w8(m);
    record_matrix(run, role, layer, m);
    return m->type == FILE_VSQ4Z ? weight_file_vsq4z(run->file, role, layer, &vsq4z, err)
                                 : weight_file_w8(run->file, role, layer, &w8, err);
}

static enum status write_coded(struct run *run, int32_t layer, const struct float_layer *vectors,
                               const struct coded_matrix *matrices, struct error *err)
{
    enum status status = ST_OK;
    for (enum tensor_role role = TENSOR_ATTN_NORM; !status && role < TENSOR_ROLES; role++)
        if (matrices[role].rows)
            status = write_matrix(run, role, layer, &matrices[role], err);
        else if (vectors->tensors[role].values)
            status = weight_file_vector(run->file, role, layer, vectors->tensors[role].values, err);
    return status;
}

static enum status write_layer(struct run *run, int32_t layer, struct error *err)
{
    struct float_layer vectors = {0};
    struct coded_matrix matrices[TENSOR_ROLES] = {0};
    enum status status = recipe_layer(run->recipe, layer, format_plan_types(&run->plan, layer),
                                      &vectors, matrices, err);
    if (!status) status = write_coded(run, layer, &vectors, matrices, err);
    for (enum tensor_role role = 0; role < TENSOR_ROLES; role++)
        coded_matrix_release(&matrices[role]);
    float_layer_release(&vectors);
    checkpoint_release_pages(run->source);
    return status;
}

static enum status write_tensors(struct run *run, struct error *err)
{
    int32_t layers = run->plan.layers;
    progress_begin(&run->bar, "quantizing", layers + 1);
    enum status status = write_tables(run, err);
    for (int32_t layer = 0; !status && layer < layers; layer++) {
        progress_update(&run->bar, layer + 1);
        status = write_layer(run, layer, err);
    }
    progress_end(&run->bar);
    return status;
}

/* --- the run */

/* Opened once with all checks of the reader, so that nothing gets its name that does not load. */
static enum status check_result(const struct run *run, struct error *err)
{
    struct checkpoint *made;
    enum status status = checkpoint_open(run->partial.path, &made, err);
    if (status) return fail_prefix(err, "what was written cannot be read");
    checkpoint_close(made);
    return ST_OK;
}

static void warn_of_codes(const struct run *run)
{
    if (checkpoint_has_type(run->source, FILE_VSQ4Z) || checkpoint_has_type(run->source, FILE_W8))
        log_warn("%s is quantized already: what is lost stays lost, errors count from there; the "
                 "model that it was made from gives a better one",
                 run->options->model);
}

/* What can be wrong without a byte being written. */
static enum status prepare(struct run *run, struct error *err)
{
    const struct quantize_options *o = run->options;
    enum status status;
    if ((status = checkpoint_open(o->model, &run->source, err)) ||
        (status = format_plan_make(run->source, o->format, o->keep.values, o->keep.count,
                                   &run->plan, err)) ||
        (status = thread_pool_create(o->threads, &run->pool, err)))
        return status;
    warn_of_codes(run);
    if (o->calibrate)
        status = calibration_text_read(o->calibrate, run->source, o->windows, &run->text, err);
    if (status) return status;
    struct recipe_options options = {.format = o->format,
                                     .clip = o->clip,
                                     .method = o->method,
                                     .tokens = run->text.tokens,
                                     .windows = run->text.windows};
    return recipe_create(&options, run->source, run->pool, &run->recipe, err);
}

static enum status begin(struct run *run, struct error *err)
{
    const struct quantize_options *o = run->options;
    json_t *source;
    enum status status = partial_begin(o->out, o->force, &run->partial, err);
    if (status) return status;
    run->begun = true;
    if ((status = side_files_write(o->model, run->source, &run->partial, err)) ||
        (status = weight_file_create(&run->partial, run->source, &run->plan, &run->file, err)) ||
        (status = source_json(o->model, run->source, &source, err)))
        return status;
    run->head =
        json_pack("{s:o, s:o}", "source", source, "options", options_json(o, run->text.record));
    return ST_OK;
}

static enum status finish(struct run *run, json_t **record, struct error *err)
{
    double bits = 8 * (double)run->bytes / (double)run->weights;
    json_object_set_new(run->head, "matrices",
                        json_pack("{s:I, s:I, s:f}", "weights", (json_int_t)run->weights, "bytes",
                                  (json_int_t)run->bytes, "bits", bits));
    enum status status = weight_file_finish(run->file, run->head, record, err);
    if (!status) status = check_result(run, err);
    if (!status) {
        run->begun = false;
        status = partial_commit(&run->partial, err);
    }
    if (status && *record) {
        json_decref(*record);
        *record = NULL;
    }
    return status;
}

static void release(struct run *run)
{
    weight_file_close(run->file);
    if (run->begun) partial_abandon(&run->partial);
    json_decref(run->head);
    recipe_free(run->recipe);
    calibration_text_free(&run->text);
    format_plan_release(&run->plan);
    if (run->pool) thread_pool_free(run->pool);
    checkpoint_close(run->source);
}

enum status quantize_checkpoint(const struct quantize_options *options, json_t **record,
                                struct error *err)
{
    struct run run = {.options = options};
    *record = NULL;
    enum status status = prepare(&run, err);
    if (!status) status = begin(&run, err);
    if (!status) status = write_tensors(&run, err);
    if (!status) status = finish(&run, record, err);
    release(&run);
    return status;
}
