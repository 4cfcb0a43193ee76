/* Goodput of one setting: the highest rate at which the attainment target holds (DistServe, arXiv
 * 2401.09670), over the requests of all seeds together; or in closed loop the best goodput among
 * the numbers of clients that hold it.
 *
 * Rates stand on a grid of steps of 1 %, so that what a search finds does not depend on where it
 * began, and two policies are compared at the same rates.
 *
 * How sure it is: the jackknife over seeds. With one seed left out at a time the answer is found
 * again from the same runs; the spread of these gives the interval, and, left out in two policies
 * at once, that of their ratio.
 */
#ifndef TRACES_SIMULATE_SEARCH_H
#define TRACES_SIMULATE_SEARCH_H

#include "base/options.h"
#include "traces/simulate/cells.h"
#include "traces/simulate/estimate.h"

#define SEARCH_SEEDS  32
#define SEARCH_POINTS 96

struct point {
    double load;
    int32_t level;
    bool whole; /* every seed ran to its end; else the target was missed for sure before */
    struct cell cells[SEARCH_SEEDS]; /* [seeds] */
};

struct search {
    int32_t seeds;
    struct point *points; /* [count], in the order they were tried; search_release */
    int32_t count, capacity;
    int32_t best;                 /* the point found; -1: none holds the target */
    double value;                 /* its rate, or in closed loop its requests/s that met their SLO;
                                     0 without one */
    double without[SEARCH_SEEDS]; /* [seeds] the value with this seed left out, between the points
                                     by straight lines; with one seed the value itself */
};

/* Called after each run, from the thread that searches; may be NULL. */
struct search_watch {
    void (*ran)(void *context, double virtual_s);
    void *context;
};

struct search_options {
    int32_t seeds;
    double hint;    /* a load near the answer, 0: none */
    bool from_hint; /* where the target does not hold at `hint` nothing is found, and that is told
                       by one load */
    const struct option_ints *clients; /* closed loop; count 0: found by itself */
};

enum status search_goodput(const struct setting *setting, const struct search_options *options,
                           const struct search_watch *watch, struct search *search,
                           struct error *err);
void search_release(struct search *search);

/* Works out `best`, `value` and `without` from the points. */
void search_conclude(const struct setting *setting, struct search *search);

/* Of all seeds but `without` (-1: of all). */
double point_attainment(const struct point *point, int32_t seeds, enum slo_kind kind,
                        int32_t without);

/* Open loop: the next rate of the grid. */
double search_load_above(double rate);

struct point *search_add_point(struct search *search);

/* a / b, paired: each seed left out of both. Its logarithm is what is normal. */
struct estimate search_ratio(const struct search *a, const struct search *b);

#endif
