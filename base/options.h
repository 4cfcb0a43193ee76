/* Command lines. One table of options gives the parser, --help and the messages of a wrong usage.
 *
 *     struct option_spec table[] = {
 *         {"model", OPT_STRING, &o.model, "PATH", "GGUF file, directory or synthetic:SHAPE"},
 *         {"kv-memory", OPT_SIZE, &o.kv_bytes, "SIZE", "memory for the KV cache (default 512MiB)"},
 * ...
 *     };
 *
 * `--name value` and `--name=value` are both taken, `--name` alone for OPT_FLAG. --help is
 * understood everywhere. Sizes take KiB MiB GiB (and plain bytes), times take ms and s (and us);
 * lists are ints separated by commas.
 */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPT_FLAG,   /* bool */
    OPT_STRING, /* const char *, view of argv */
    OPT_INT,    /* int64_t */
    OPT_INT32,  /* int32_t; maximum is at most INT32_MAX and not 0 */
    OPT_REAL,   /* double */
    OPT_SIZE,   /* int64_t, bytes */
    OPT_TIME,   /* int64_t, microseconds */
    OPT_INTS,   /* struct option_ints */
    OPT_TEXTS,  /* struct option_texts: may be given more than once */
};

struct option_ints {
    int64_t values[64];
    int count;
};

struct option_texts {
    const char *values[64]; /* views of argv */
    size_t count;
};

struct option_spec {
    const char *name; /* without the dashes; NULL: a heading in --help */
    enum option_type type;
    void *target;      /* keeps its default when the option is absent */
    const char *value; /* what --help shows after the name, e.g. "PATH" */
    const char *help;  /* one line or a few, separated by \n */
    int64_t minimum,
        maximum; /* for OPT_INT, OPT_INT32, OPT_SIZE, OPT_TIME and each of OPT_INTS; both 0: any */
};

struct command_help {
    const char *name;    /* "espalier serve" */
    const char *example; /* shown first */
    const char *summary;
};

/* 0: parsed. 1: --help was asked for and printed on standard output. -1: wrong usage, said on
 * standard error (the caller exits with 2). Words that are no option are an error. argv[0] is
 * skipped. */
int options_parse(const struct command_help *help, const struct option_spec *table, size_t count,
                  int argc, char **argv);

/* "64MiB" -> bytes, "250ms" -> microseconds; ST_INVALID with what was found and what is allowed. */
enum status parse_size(const char *text, int64_t *bytes, struct error *err);
enum status parse_time(const char *text, int64_t *us, struct error *err);

#endif
