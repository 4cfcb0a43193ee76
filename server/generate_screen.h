/* Where a reader sees an answer in stages while it is decoded. On a terminal its branches stand
 * side by side (server/terminal_columns.h); anywhere else, and on a terminal that cannot move its
 * cursor, the text comes in reading order: a branch's waits until those before it have ended.
 *
 *     create, (begin, text*, show)*, end, free
 */
#ifndef SERVER_GENERATE_SCREEN_H
#define SERVER_GENERATE_SCREEN_H

#include "base/status.h"
#include "server/generate_answer.h"

struct screen;

/* On standard output; `quiet`: shows nothing (--json prints the answer at its end). */
struct screen *screen_create(bool quiet);
void screen_free(struct screen *screen);
bool screen_has_columns(const struct screen *screen);

/* A stage begins: the last of `answer`, which outlives the screen. */
void screen_begin(struct screen *screen, const struct answer *answer);
/* More text has been put behind the branch's. */
void screen_text(struct screen *screen, int32_t branch, const char *bytes, size_t length);
/* Writes what there is to show; ST_IO with the reason where it cannot be written. */
enum status screen_show(struct screen *screen, struct error *err);
/* Nothing more will come: on a terminal the branches become plain text. */
enum status screen_end(struct screen *screen, struct error *err);

#endif
