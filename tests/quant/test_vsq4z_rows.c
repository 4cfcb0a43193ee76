/* The bytes of VSQ4z, and that its products are int8's, int32 for int32. */
#include "base/base.h"
#include "quant/vsq4z.h"
#include "tests/quant/support_rows.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 5 };

struct stored {
    struct vsq4z_arrays arrays;
    struct vsq4z_matrix view;
};

static struct stored stored_open(int64_t cols)
{
    struct vsq4z_arrays a = {.codes = must_alloc((size_t)(ROWS * vsq4z_code_bytes(cols))),
                             .scales = must_alloc((size_t)(ROWS * vsq4z_scale_bytes(cols))),
                             .zeros = must_alloc((size_t)(ROWS * vsq4z_zero_bytes(cols))),
                             .row_scale = must_alloc(ROWS * sizeof(float))};
    /* What was there before must not matter. */
    memset(a.codes, 0xa5, (size_t)(ROWS * vsq4z_code_bytes(cols)));
    memset(a.scales, 0xa5, (size_t)(ROWS * vsq4z_scale_bytes(cols)));
    memset(a.zeros, 0xa5, (size_t)(ROWS * vsq4z_zero_bytes(cols)));
    return (struct stored){a, {ROWS, cols, a.codes, a.scales, a.zeros, a.row_scale}};
}

static void stored_close(struct stored *s)
{
    free(s->arrays.codes);
    free(s->arrays.scales);
    free(s->arrays.zeros);
    free(s->arrays.row_scale);
}

/* `extreme`: every s 15 and q 0 or 15, so that levels are -120, -105, 105 and 120. */
static void random_row(struct rng *rng, bool extreme, struct vsq4z_row *row)
{
    int64_t vectors = vsq4z_vectors(row->cols);
    for (int64_t v = 0; v < vectors; v++) {
        row->scales[v] = (uint8_t)(extreme ? 15 : rng_below(rng, 16));
        row->zeros[v] = (uint8_t)(7 + rng_below(rng, 2));
    }
    for (int64_t k = 0; k < vectors * VSQ4Z_VECTOR; k++)
        row->codes[k] = (uint8_t)(k >= row->cols ? row->zeros[k / VSQ4Z_VECTOR]
                                  : extreme      ? 15 * rng_below(rng, 2)
                                                 : rng_below(rng, 16));
    row->row_scale = (float)rng_unit(rng);
}

static void check_equal(const struct vsq4z_row *a, const struct vsq4z_row *b, int64_t cols)
{
    size_t vectors = (size_t)vsq4z_vectors(cols);
    cr_assert_eq(b->cols, cols);
    cr_assert_eq(a->row_scale, b->row_scale);
    cr_assert(memcmp(a->codes, b->codes, vectors * VSQ4Z_VECTOR) == 0, "%lld cols",
              (long long)cols);
    cr_assert(memcmp(a->scales, b->scales, vectors) == 0, "%lld cols", (long long)cols);
    cr_assert(memcmp(a->zeros, b->zeros, vectors) == 0, "%lld cols", (long long)cols);
}

static void load_row(const struct vsq4z_matrix *m, int64_t index, struct vsq4z_row *row)
{
    row->row_scale = m->row_scale[index];
    for (int64_t v = 0; v < vsq4z_vectors(m->cols); v++) {
        row->scales[v] = (uint8_t)vsq4z_scale(m, index, v);
        row->zeros[v] = (uint8_t)vsq4z_zero(m, index, v);
    }
    for (int64_t k = 0; k < vsq4z_vectors(m->cols) * VSQ4Z_VECTOR; k++)
        row->codes[k] = (uint8_t)vsq4z_code(m, index, k);
}

Test(vsq4z_rows, rows_come_back_as_they_were_stored)
{
    struct rng rng = {11};
    for (const int64_t *cols = row_lengths; *cols; cols++) {
        struct stored s = stored_open(*cols);
        struct vsq4z_row rows[ROWS], back = row_open(*cols);
        for (int r = 0; r < ROWS; r++) {
            rows[r] = row_open(*cols);
            random_row(&rng, r == 1, &rows[r]);
            vsq4z_store_row(&rows[r], r, &s.arrays);
        }
        for (int r = 0; r < ROWS; r++) {
            load_row(&s.view, r, &back);
            check_equal(&rows[r], &back, *cols);
            row_close(&rows[r]);
        }
        row_close(&back);
        stored_close(&s);
    }
}

Test(vsq4z_rows, the_bytes_are_those_of_the_drawing)
{
    uint8_t codes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t all[48], scales[3] = {3, 14, 9}, zeros[3] = {8, 7, 8};
    memcpy(all, codes, 16);
    for (int k = 16; k < 48; k++)
        all[k] = k < 33 ? 15 : 8;
    struct vsq4z_row row = {33, 0.5f, all, scales, zeros};
    struct stored s = stored_open(33);
    vsq4z_store_row(&row, 2, &s.arrays);
    const uint8_t *c = s.arrays.codes + 2 * 24;
    cr_assert_eq(c[0], 0x10);
    cr_assert_eq(c[7], 0xfe);
    cr_assert_eq(c[16], 0x8f); /* column 32, and padding with q = z = 8 */
    cr_assert_eq(c[23], 0x88);
    cr_assert_eq(s.arrays.scales[2 * 2], 0xe3);
    cr_assert_eq(s.arrays.scales[2 * 2 + 1], 0x09);
    cr_assert_eq(s.arrays.zeros[2], 0x05);
    cr_assert_eq(s.arrays.row_scale[2], 0.5f);
    cr_assert_eq(vsq4z_matrix_bytes(5, 33), 5 * (24 + 2 + 1 + 4));
    stored_close(&s);
}

/* The product of a row straight from 4 bits: per vector, an integer sum times s. */
static int32_t product_from_codes(const struct vsq4z_matrix *m, int64_t row, const int8_t *x)
{
    int32_t total = 0;
    for (int64_t v = 0; v < vsq4z_vectors(m->cols); v++) {
        int32_t sum = 0, inputs = 0;
        for (int64_t k = v * VSQ4Z_VECTOR; k < (v + 1) * VSQ4Z_VECTOR; k++) {
            int32_t value = k < m->cols ? x[k] : 77; /* padding weighs 0 whatever meets it */
            sum += vsq4z_code(m, row, k) * value;
            inputs += value;
        }
        total += vsq4z_scale(m, row, v) * (sum - vsq4z_zero(m, row, v) * inputs);
    }
    return total;
}

static int32_t product_from_levels(const int8_t *levels, const int8_t *x, int64_t cols)
{
    int32_t total = 0;
    for (int64_t k = 0; k < cols; k++)
        total += levels[k] * x[k];
    return total;
}

static void check_products(struct rng *rng, int64_t cols, bool extreme)
{
    struct stored s = stored_open(cols);
    struct vsq4z_row row = row_open(cols);
    int8_t *x = must_alloc((size_t)cols), *levels = must_alloc((size_t)cols);
    float *values = must_alloc((size_t)cols * sizeof *values);
    for (int r = 0; r < ROWS; r++) {
        random_row(rng, extreme, &row);
        for (int64_t k = 0; k < cols; k++)
            x[k] = (int8_t)(extreme ? (rng_below(rng, 2) ? 127 : -127)
                                    : (int64_t)rng_below(rng, 255) - 127);
        vsq4z_store_row(&row, r, &s.arrays);
        for (int64_t k = 0; k < cols; k++)
            levels[k] = (int8_t)vsq4z_level(&s.view, r, k);
        vsq4z_row_values(&row, values);
        for (int64_t k = 0; k < cols; k++) {
            cr_assert(abs(levels[k]) <= VSQ4Z_MAX_LEVEL);
            cr_assert_eq(values[k], (float)levels[k] * row.row_scale);
        }
        cr_assert_eq(product_from_codes(&s.view, r, x), product_from_levels(levels, x, cols),
                     "%lld cols", (long long)cols);
    }
    free(values);
    free(levels);
    free(x);
    row_close(&row);
    stored_close(&s);
}

Test(vsq4z_rows, four_bits_and_int8_have_the_same_sums)
{
    struct rng rng = {12};
    for (const int64_t *cols = row_lengths; *cols; cols++) {
        check_products(&rng, *cols, false);
        check_products(&rng, *cols, true);
    }
}

/* The longest row with the largest sum there is: it fits an int32, as VSQ4Z_MAX_COLS promises. */
Test(vsq4z_rows, the_longest_row_does_not_overflow)
{
    int64_t sum = (int64_t)VSQ4Z_MAX_COLS * VSQ4Z_MAX_LEVEL * 127;
    cr_assert_leq(sum, INT32_MAX);
    cr_assert_gt(sum + (int64_t)VSQ4Z_VECTOR * VSQ4Z_MAX_LEVEL * 127, INT32_MAX);
    cr_assert_eq(VSQ4Z_MAX_COLS % VSQ4Z_VECTOR, 0);
}
