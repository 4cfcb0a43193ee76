#include "traces/workload/arrivals.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>

/* A uniform number in (0, 1): its logarithm is finite. */
static double open_unit(struct rng *rng)
{
    return ((double)(rng_next(rng) >> 11) + 0.5) * 0x1p-53;
}

/* Of mean `shape`, scale 1 (Marsaglia and Tsang, A simple method for generating gamma variables,
 * ACM TOMS 26, 2000; below a shape of 1 by the power of a uniform number). */
static double gamma_number(struct rng *rng, double shape)
{
    double below = shape < 1 ? pow(open_unit(rng), 1 / shape) : 1;
    double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = rng_normal(rng), v = 1 + c * x;
        v = v * v * v;
        if (v > 0 && log(open_unit(rng)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v * below;
    }
}

/* --- Azure: in each bin as many as the trace has, at uniform times; behind the end it begins
 * anew. */

static int azure_total(void)
{
    int total = 0;
    for (int i = 0; i < AZURE_BINS; i++)
        total += azure_arrivals[i];
    return total;
}

/* At a random request of the trace's first half, as the study does. */
static void azure_start(struct arrivals *arrivals)
{
    double left = unit_from_bits(rng_at(arrivals->seed, 0)) * azure_total() / 2;
    int bin = 0;
    while (left >= azure_arrivals[bin])
        left -= azure_arrivals[bin++];
    arrivals->azure.bin = (uint64_t)bin;
    arrivals->azure.start_bins = bin + left / azure_arrivals[bin];
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void azure_fill(struct arrivals *arrivals)
{
    uint64_t bin = arrivals->azure.bin++;
    struct rng rng = {rng_at(arrivals->seed, bin + 1)};
    int count = azure_arrivals[bin % AZURE_BINS];
    for (int i = 0; i < count; i++)
        arrivals->azure.times[i] = (double)bin + rng_unit(&rng);
    qsort(arrivals->azure.times, (size_t)count, sizeof(double), rising);
    arrivals->azure.count = count;
    arrivals->azure.next = 0;
}

static double azure_next(struct arrivals *arrivals)
{
    double time;
    do {
        while (arrivals->azure.next == arrivals->azure.count)
            azure_fill(arrivals);
        time = arrivals->azure.times[arrivals->azure.next++];
    } while (time < arrivals->azure.start_bins);
    return (time - arrivals->azure.start_bins) * azure_total() / AZURE_BINS;
}

void arrivals_start(struct arrivals *arrivals, enum workload_arrivals kind, double cv,
                    uint64_t seed)
{
    *arrivals = (struct arrivals){.kind = kind, .seed = seed};
    if (kind == ARRIVALS_GAMMA) arrivals->shape = 1 / (cv * cv);
    if (kind == ARRIVALS_AZURE) azure_start(arrivals);
}

double arrivals_next(struct arrivals *arrivals)
{
    struct rng rng = {rng_at(arrivals->seed, arrivals->index++)};
    if (arrivals->kind == ARRIVALS_AZURE)
        arrivals->now = azure_next(arrivals);
    else if (arrivals->kind == ARRIVALS_GAMMA)
        arrivals->now += gamma_number(&rng, arrivals->shape) / arrivals->shape;
    else
        arrivals->now -= log(open_unit(&rng));
    return arrivals->now;
}
