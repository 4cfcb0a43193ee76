#include "traces/simulate/estimate.h"

#include "base/base.h"

#include <math.h>

/* The 97.5 % quantile of Student's t with `freedom` degrees: exact up to 10, then Cornish and
 * Fisher's expansion around the normal's. */
static double student(int32_t freedom)
{
    static const double exact[] = {0,     12.706, 4.303, 3.182, 2.776, 2.571,
                                   2.447, 2.365,  2.306, 2.262, 2.228};
    if (freedom < (int32_t)COUNT_OF(exact)) return exact[freedom];
    double z = 1.959964, n = freedom;
    return z + (z * z * z + z) / (4 * n) + (5 * pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

double jackknife_reach(const double *without, int32_t count)
{
    double sum = 0, squares = 0;
    if (count < 2) return NAN;
    for (int32_t i = 0; i < count; i++)
        sum += without[i];
    for (int32_t i = 0; i < count; i++)
        squares += (without[i] - sum / count) * (without[i] - sum / count);
    return student(count - 1) * sqrt(squares * (count - 1) / count);
}

struct estimate jackknife(double value, const double *without, int32_t count)
{
    double reach = jackknife_reach(without, count);
    if (isnan(reach)) return (struct estimate){value, NAN, NAN};
    return (struct estimate){value, fmax(value - reach, 0), value + reach};
}
