/* A workload's specification from the words of a command line.
 */
#ifndef TRACES_WORKLOAD_SPEC_TEXT_H
#define TRACES_WORKLOAD_SPEC_TEXT_H

#include "traces/workload/generate.h"
#include "base/options.h"

/* As they were typed; NULL (NAN for numbers) where an option was not given. Views. */
struct workload_texts {
    const char *preset, *lengths, *arrivals, *levels, *width, *stages, *branch_tokens, *lead, *tail;
    const char *prefixes, *slo_ttft, *slo_tpot;
    double branching, cached;
    struct option_texts classes;
};

struct workload_texts workload_texts_none(void);

/* Says what branches are like, where nobody branches (a preset has some): true. */
bool workload_texts_idle(const struct workload_texts *texts);
#define WORKLOAD_IDLE_WORDS                                                              \
    "--width, --stages, --branch-tokens, --lead and --tail say what branches are like: " \
    "--branching says how many requests have them"

/* The preset, or workload_default, and upon it what was given. Class names are kept in `names`
 * [WORKLOAD_MAX_CLASSES]; release spec->lengths with lengths_release. ST_USAGE: the option, what
 * was found, what is allowed. */
enum status workload_from_texts(const struct workload_texts *texts, struct workload_spec *spec,
                                char names[][64], struct error *err);

/* Rows of an option table, for traces that are made or annotated. */
#define WORKLOAD_BRANCHING_OPTIONS(t)                                                             \
    {"branching", OPT_REAL, &(t).branching, "SHARE", "share of the requests that branch, 0 to 1", \
     0,           1},                                                                             \
        {"width",                                                                                 \
         OPT_STRING,                                                                              \
         &(t).width,                                                                              \
         "MIN:MAX",                                                                               \
         "branches of a parallel stage, uniform (default 2:8)",                                   \
         0,                                                                                       \
         0},                                                                                      \
        {"stages",                                                                                \
         OPT_STRING,                                                                              \
         &(t).stages,                                                                             \
         "MIN:MAX",                                                                               \
         "parallel stages of a branching request, uniform (default 1:3)",                         \
         0,                                                                                       \
         0},                                                                                      \
        {"branch-tokens",                                                                         \
         OPT_STRING,                                                                              \
         &(t).branch_tokens,                                                                      \
         "MEDIAN:SIGMA[:MIN:MAX]",                                                                \
         "tokens of a branch: lognormal, drawn again until within MIN to MAX\n(default "          \
         "130:0.6:50:400; without MIN:MAX any length)",                                           \
         0,                                                                                       \
         0},                                                                                      \
        {"lead",                                                                                  \
         OPT_STRING,                                                                              \
         &(t).lead,                                                                               \
         "MIN:MAX",                                                                               \
         "tokens of the serial stage before each parallel one (default 20:79)",                   \
         0,                                                                                       \
         0},                                                                                      \
    {                                                                                             \
        "tail", OPT_STRING, &(t).tail, "MIN:MAX",                                                 \
            "tokens of the last serial stage (default 50:199)", 0, 0                              \
    }

#define WORKLOAD_SLO_OPTIONS(t)                                                                   \
    {"slo-ttft",                                                                                  \
     OPT_STRING,                                                                                  \
     &(t).slo_ttft,                                                                               \
     "TIME",                                                                                      \
     "limit of the time to the first token, such as 2s\n(default none; presets: 2s)",             \
     0,                                                                                           \
     0},                                                                                          \
    {                                                                                             \
        "slo-tpot", OPT_STRING, &(t).slo_tpot, "TIME",                                            \
            "limit of the time per output token, such as 50ms\n(default none; presets: 50ms)", 0, \
            0                                                                                     \
    }

#endif
