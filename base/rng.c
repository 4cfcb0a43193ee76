#include "base/rng.h"

#include <math.h>

double rng_normal(struct rng *rng)
{
    double u = 1.0 - rng_unit(rng); /* (0, 1] */
    double v = rng_unit(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
