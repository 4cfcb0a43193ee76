/* An answer whose branches decode at the same time, drawn on a terminal: serial text streams as it
 * is; the branches of a stage stand side by side in a region at the bottom that is redrawn in place
 * and, when they join, gives way to their whole texts, one after another, as a reader would have
 * them (so that the scrollback holds the answer).
 *
 * Text in, bytes for the terminal out, no I/O. What is shown is what columns_frame last returned;
 * nothing else may write to the terminal in between. The region is never higher or wider than the
 * screen allows and nothing in it scrolls, so moving the cursor relative to its last line suffices.
 * Model text cannot move the cursor (server/terminal_text.h).
 *
 * A column is at least 16 wide. Where not all fit, those whose branches were active most recently
 * are shown and a line says how many ("3 of 8 shown"); a branch keeps its column until it has been
 * silent while every other branch could have had several tokens.
 */
#ifndef SERVER_TERMINAL_COLUMNS_H
#define SERVER_TERMINAL_COLUMNS_H

#include "base/strbuf.h"

#include <stddef.h>
#include <stdint.h>

struct columns;

/* A screen of width x height; less than 3 either way is taken as 3. Begins in a serial stage. */
struct columns *columns_create(int32_t width, int32_t height);
void columns_free(struct columns *columns);

/* Serial text from here on; joins the branches if there are any. */
void columns_begin_serial(struct columns *columns);

/* `count` branches from here on (>= 1), after a join of those before. titles[i] heads a column and
 * is not part of the text; titles or titles[i] NULL: the branch's number. */
void columns_begin_parallel(struct columns *columns, const char *const *titles, int32_t count);

/* More text of a branch, its prompt included; in a serial stage `branch` is 0. Any bytes, cut
 * anywhere. */
void columns_push(struct columns *columns, int32_t branch, const char *bytes, size_t length);

/* The branches' texts become plain text in their order. No effect in a serial stage. */
void columns_join(struct columns *columns);

/* Appends what brings the screen up to date; nothing when it is. The cursor must stand where the
 * last frame left it, before the first one at the beginning of a line. After columns_join it stands
 * behind the text. */
void columns_frame(struct columns *columns, struct strbuf *out);

#endif
