/* The file of --record: JSON lines, docs/replay.md describes each field.
 *
 *   {"espalier_replay": 1, ...}   the run: command, server, machine, limits (header.h)
 *   {"index": 0, ...}             a request, in the order of their ends
 *   {"end": {...}}                the run's end; missing when the writer was killed
 *
 * A search writes its runs one behind another.
 */
#ifndef TRACES_REPLAY_RECORD_FILE_H
#define TRACES_REPLAY_RECORD_FILE_H

#include "base/status.h"
#include "traces/replay/flight.h"

#include <jansson.h>

struct record_writer;

/* ST_IO: the file and why. */
enum status record_file_create(const char *path, struct record_writer **out, struct error *err);
void record_file_header(struct record_writer *writer, const json_t *header);
void record_file_flight(struct record_writer *writer, const struct flight *flight);
void record_file_end(struct record_writer *writer, const json_t *end);
/* ST_IO: something of it was not written. NULL is allowed. */
enum status record_file_close(struct record_writer *writer, struct error *err);

/* Gets what a file has, in its order; all are views. `on_end` may never come for a run. */
struct record_reader {
    enum status (*on_header)(void *context, json_t *header, struct error *err);
    void (*on_flight)(void *context, const struct flight *flight);
    void (*on_end)(void *context, json_t *end);
    void *context;
};

/* "-" is standard input. ST_BAD_FILE: the line, the field, what was found, what is expected. */
enum status record_file_read(const char *path, const struct record_reader *reader,
                             struct error *err);

#endif
