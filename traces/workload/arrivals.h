/* Arrival times of a seed, for a rate of one a unit of time: whoever wants another divides them.
 */
#ifndef TRACES_WORKLOAD_ARRIVALS_H
#define TRACES_WORKLOAD_ARRIVALS_H

#include "traces/workload/generate.h"

#define AZURE_MOST_IN_A_BIN 64

struct arrivals {
    enum workload_arrivals kind;
    double shape; /* GAMMA */
    uint64_t seed;
    uint64_t index;
    double now;
    struct { /* AZURE: the times in the bin, and where it began */
        double times[AZURE_MOST_IN_A_BIN];
        int count, next;
        uint64_t bin;      /* the next one, counted from the trace's beginning */
        double start_bins; /* where the sequence starts, in bins */
    } azure;
};

void arrivals_start(struct arrivals *arrivals, enum workload_arrivals kind, double cv,
                    uint64_t seed);
double arrivals_next(struct arrivals *arrivals); /* never less than the one before */

/* Arrivals of the Azure conversation trace in each of AZURE_BINS times of 5 s. */
#define AZURE_BINS 700
extern const uint8_t azure_arrivals[AZURE_BINS];

#endif
