/* What `espalier bench` measures: a file and a JSON document for each.
 *
 *   steps.c   decode steps and prefill of a model, through the executor that serves; stages.c: what
 *             each stage of a step costs at least and took
 *   forest.c  attention alone: rows that share a prefix beside rows that share nothing
 *   tree.c    the prefix tree: inserts and look-ups
 *   fork.c    the scheduler's tick that forks one prompt into branches
 *   planning.c  what taper takes to decide who gets a row
 *   roof.c    what the machine can do: the floors of the others
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench/roof.h"
#include "model/load_options.h"

#include <jansson.h>

struct bench_options {
    struct load_words load;
    struct option_ints rows, prompts;
    int64_t depth, steps, repeats, chunk, blocks;
    bool roof, forest, tree, fork, planning, stages, json;
};

/* Each makes *out (the caller's) or says in *err why it cannot; the printers make it a table. */
enum status measure_steps(const struct bench_options *o, json_t **out, struct error *err);
enum status measure_roof(const struct bench_options *o, json_t **out, struct error *err);
enum status measure_forest(const struct bench_options *o, json_t **out, struct error *err);
enum status measure_tree(const struct bench_options *o, json_t **out, struct error *err);
enum status measure_fork(const struct bench_options *o, json_t **out, struct error *err);
enum status measure_planning(const struct bench_options *o, json_t **out, struct error *err);
void print_steps(const json_t *doc);
void print_roof(const json_t *doc);
void print_forest(const json_t *doc);
void print_tree(const json_t *doc);
void print_fork(const json_t *doc);
void print_planning(const json_t *doc);

/* The threads of --threads and what they can do together. Caller frees the pool. */
struct bench_machine {
    struct thread_pool *pool;
    enum cpu_isa isa;
    struct roof roof;
};
enum status bench_machine_open(const struct bench_options *o, struct bench_machine *machine,
                               struct error *err);

/* The better one of each: what a machine can do is not less for having been busy. */
void roof_raise(struct roof *roof, struct roof other);

/* "roof_gb_per_s" and its like of a document, and the words a table begins with. */
void roof_to_json(const struct roof *roof, json_t *doc);
void print_roof_words(const json_t *doc);

double bench_median(double *values, int32_t count); /* sorts them */

#endif
