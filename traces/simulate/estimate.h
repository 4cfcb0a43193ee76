/* How sure a figure is that several seeds gave together. */
#ifndef TRACES_SIMULATE_ESTIMATE_H
#define TRACES_SIMULATE_ESTIMATE_H

#include <stdint.h>

/* A value with its 95 % interval (Student's t); NAN, NAN: one seed alone has none. */
struct estimate {
    double mean, low, high;
};

/* Half the width of the interval by the jackknife, from the values with one seed left out at a
 * time: [count]; NAN with fewer than 2. */
double jackknife_reach(const double *without, int32_t count);

/* Of a value that is never below 0. */
struct estimate jackknife(double value, const double *without, int32_t count);

#endif
