#include "quant/checkpoint/table_rows.h"
#include "base/base.h"
#include "quant/check.h"

#include <math.h>
#include <stdlib.h>

#define CHUNK_BYTES ((int64_t)16 << 20) /* of rows in f32 */

/* Rows [first, first + rows) of a table. */
struct chunk {
    const struct checkpoint_tensor *table;
    int64_t first, rows;
    float *weights;
    int8_t *values;
    uint16_t *scales;
    double *errors, *squares; /* [rows]; squares -1: a weight of the row is refused */
};

static double squares_of(const float *row, int64_t cols)
{
    double sum = 0;
    for (int64_t k = 0; k < cols; k++) {
        if (!quant_value_allowed(row[k])) return -1;
        sum += (double)row[k] * (double)row[k];
    }
    return sum;
}

static void code_rows(void *argument, int64_t begin, int64_t end, int member)
{
    const struct chunk *c = argument;
    int64_t cols = c->table->cols;
    (void)member;
    for (int64_t i = begin; i < end; i++) {
        float *row = c->weights + i * cols;
        checkpoint_read_rows(c->table, c->first + i, 1, row);
        c->squares[i] = squares_of(row, cols);
        if (c->squares[i] >= 0)
            c->errors[i] =
                w8_quantize_row(row, cols, c->values + i * cols, c->scales + i * w8_groups(cols));
    }
}

static enum status check_row(const struct chunk *c, int64_t row, struct error *err)
{
    const float *values = c->weights + row * c->table->cols;
    if (c->squares[row] >= 0) return ST_OK;
    int64_t k = 0;
    while (quant_value_allowed(values[k]))
        k++;
    return fail(err, ST_BAD_FILE,
                "tensor %s: row %lld, column %lld is %g; weights are finite and at most 1e37",
                c->table->name, (long long)(c->first + row), (long long)k, (double)values[k]);
}

/* The next chunk: coded, added to the sums in the order of rows, and written. */
static enum status write_chunk(struct chunk *c, enum tensor_role role, struct thread_pool *pool,
                               struct weight_file *file, double sums[2], struct error *err)
{
    thread_pool_for(pool, c->rows, 16, code_rows, c);
    for (int64_t i = 0; i < c->rows; i++) {
        enum status status = check_row(c, i, err);
        if (status) return status;
        sums[0] += c->errors[i];
        sums[1] += c->squares[i];
    }
    struct w8_matrix rows = {c->rows, c->table->cols, c->values, c->scales};
    return weight_file_w8(file, role, 0, &rows, err);
}

static enum status write_chunks(struct chunk *c, int64_t chunk_rows, enum tensor_role role,
                                struct thread_pool *pool, struct weight_file *file, double *error,
                                struct error *err)
{
    double sums[2] = {0, 0};
    for (c->first = 0; c->first < c->table->rows; c->first += c->rows) {
        int64_t left = c->table->rows - c->first;
        c->rows = left < chunk_rows ? left : chunk_rows;
        enum status status = write_chunk(c, role, pool, file, sums, err);
        if (status) return status;
    }
    *error = sums[1] > 0 ? sums[0] / sums[1] : 0;
    return ST_OK;
}

enum status table_write(const struct checkpoint_tensor *table, enum tensor_role role,
                        struct thread_pool *pool, struct weight_file *file, double *error,
                        struct error *err)
{
    int64_t rows = CHUNK_BYTES / (table->cols * (int64_t)sizeof(float));
    if (rows < 1) rows = 1;
    if (rows > table->rows) rows = table->rows;
    size_t cells = (size_t)(rows * table->cols);
    double *sums = try_alloc((size_t)rows, 2 * sizeof *sums);
    struct chunk chunk = {
        .table = table,
        .weights = try_alloc(cells, sizeof(float)),
        .values = try_alloc(cells, 1),
        .scales = try_alloc((size_t)(rows * w8_groups(table->cols)), sizeof(uint16_t)),
        .errors = sums,
        .squares = sums ? sums + rows : NULL,
    };
    enum status status = chunk.weights && chunk.values && chunk.scales && sums
                             ? write_chunks(&chunk, rows, role, pool, file, error, err)
                             : fail(err, ST_NO_MEMORY, "no memory for %lld rows of tensor %s",
                                    (long long)rows, table->name);
    free(chunk.weights);
    free(chunk.values);
    free(chunk.scales);
    free(sums);
    return status;
}
