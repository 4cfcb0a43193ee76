#include "quant/vsq4z.h"

#include <string.h>

size_t vsq4z_matrix_bytes(int64_t rows, int64_t cols)
{
    return (size_t)rows * (size_t)(vsq4z_code_bytes(cols) + vsq4z_scale_bytes(cols) +
                                   vsq4z_zero_bytes(cols) + (int64_t)sizeof(float));
}

void vsq4z_store_row(const struct vsq4z_row *row, int64_t index, const struct vsq4z_arrays *to)
{
    int64_t vectors = vsq4z_vectors(row->cols);
    uint8_t *codes = to->codes + index * vsq4z_code_bytes(row->cols);
    uint8_t *scales = to->scales + index * vsq4z_scale_bytes(row->cols);
    uint8_t *zeros = to->zeros + index * vsq4z_zero_bytes(row->cols);
    memset(scales, 0, (size_t)vsq4z_scale_bytes(row->cols));
    memset(zeros, 0, (size_t)vsq4z_zero_bytes(row->cols));
    for (int64_t v = 0; v < vectors; v++) {
        scales[v / 2] |= (uint8_t)(row->scales[v] << v % 2 * 4);
        zeros[v / 8] |= (uint8_t)((row->zeros[v] - 7) << v % 8);
    }
    for (int64_t k = 0; k < vectors * VSQ4Z_VECTOR; k += 2)
        codes[k / 2] = (uint8_t)(row->codes[k] | row->codes[k + 1] << 4);
    to->row_scale[index] = row->row_scale;
}

void vsq4z_row_values(const struct vsq4z_row *row, float *out)
{
    for (int64_t k = 0; k < row->cols; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        out[k] = (float)(row->scales[v] * (row->codes[k] - row->zeros[v])) * row->row_scale;
    }
}
