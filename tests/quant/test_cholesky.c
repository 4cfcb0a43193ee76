/* The factor of an inverse: U^T U H = I, and what is no positive definite matrix is said to be
 * none. */
#include "base/base.h"
#include "base/thread_pool.h"
#include "quant/cholesky.h"
#include "tests/quant/support_gram.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool factor(double *h, int64_t n, int threads)
{
    struct thread_pool *pool;
    struct error err;
    cr_assert_eq(thread_pool_create(threads, &pool, &err), ST_OK);
    bool made = inverse_factor(h, n, pool);
    thread_pool_free(pool);
    return made;
}

static double *copy_of(const double *h, int64_t n)
{
    double *copy = must_alloc((size_t)(n * n) * sizeof *copy);
    memcpy(copy, h, (size_t)(n * n) * sizeof *copy);
    return copy;
}

/* U^T U H, entry [i][j] */
static double product(const double *u, const double *h, int64_t n, int64_t i, int64_t j)
{
    double total = 0;
    for (int64_t k = 0; k <= i; k++)
        for (int64_t m = k; m < n; m++)
            total += u[k * n + i] * u[k * n + m] * h[m * n + j];
    return total;
}

static void check_inverse(const double *u, const double *h, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            if (j < i) cr_assert_eq(u[i * n + j], 0, "below the diagonal");
            double scale = sqrt(h[j * n + j] / h[i * n + i]);
            double off = fabs(product(u, h, n, i, j) - (i == j)) / (scale > 1 ? scale : 1);
            cr_assert(off < 1e-9, "n %lld: [%lld][%lld] is off by %g", (long long)n, (long long)i,
                      (long long)j, off);
        }
}

Test(cholesky, inverse_of_every_size)
{
    static const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 16, 33, 64, 65, 90};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        int64_t n = sizes[i];
        struct rng rng = {(uint64_t)n};
        double *h = correlated_gram(&rng, 3 * n, n), *one = copy_of(h, n), *three = copy_of(h, n);
        cr_assert(factor(one, n, 1));
        cr_assert(factor(three, n, 3));
        check_inverse(one, h, n);
        cr_assert(memcmp(one, three, (size_t)(n * n) * sizeof *one) == 0, "bits by threads");
        free(h);
        free(one);
        free(three);
    }
}

/* Fewer rows than columns: the Gram matrix has no inverse. Then one that is negative, and nan. */
Test(cholesky, refuses_what_is_not_positive_definite)
{
    enum { N = 12 };
    struct rng rng = {9};
    double *h = correlated_gram(&rng, 5, N);
    double *negative = correlated_gram(&rng, 3 * N, N), *nan_inside = copy_of(negative, N);
    /* An exact dependence: column 4 is twice column 3. */
    for (int64_t k = 0; k < N; k++)
        h[k * N + 4] = 2 * h[k * N + 3];
    for (int64_t k = 0; k < N; k++)
        h[4 * N + k] = 2 * h[3 * N + k];
    h[4 * N + 4] = 4 * h[3 * N + 3] - 1e-6;
    negative[6 * N + 6] = -1;
    nan_inside[2 * N + 5] = NAN;
    cr_assert_not(factor(h, N, 1));
    cr_assert_not(factor(negative, N, 1));
    cr_assert_not(factor(nan_inside, N, 1));
    free(h);
    free(negative);
    free(nan_inside);
}
