#include "quant/doubles.h"
#include "quant/lanes.h"

EVERY_ISA double doubles_dot(const double *a, const double *b, int64_t count)
{
    lanes_d sums = {};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        sums += lanes_load_d(a + i) * lanes_load_d(b + i);
    double total = 0;
    for (int lane = 0; lane < 8; lane++)
        total += sums[lane];
    for (; i < count; i++)
        total += a[i] * b[i];
    return total;
}

EVERY_ISA void doubles_add_scaled(double *y, double factor, const double *x, int64_t count)
{
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        lanes_store_d(y + i, lanes_load_d(y + i) + lanes_load_d(x + i) * factor);
    for (; i < count; i++)
        y[i] += x[i] * factor;
}
