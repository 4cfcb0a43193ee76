#include "server/generate_screen.h"
#include "base/alloc.h"
#include "server/terminal_columns.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct screen {
    bool quiet;
    struct columns *columns; /* NULL: in reading order */
    struct strbuf out;
    const struct answer *answer;
    size_t stage;    /* in reading order: where the reader is... */
    int32_t branch;  /* ...in it... */
    size_t position; /* ...in its text */
};

static bool can_move_cursor(void)
{
    const char *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) && terminal && *terminal && strcmp(terminal, "dumb") != 0;
}

struct screen *screen_create(bool quiet)
{
    struct screen *screen = must_alloc(sizeof *screen);
    struct winsize size = {0};
    screen->quiet = quiet;
    if (quiet || !can_move_cursor()) return screen;
    /* A terminal that does not know its size says 0. */
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row;
    screen->columns = columns_create(known ? size.ws_col : 80, known ? size.ws_row : 24);
    return screen;
}

void screen_free(struct screen *screen)
{
    if (!screen) return;
    columns_free(screen->columns);
    strbuf_free(&screen->out);
    free(screen);
}

bool screen_has_columns(const struct screen *screen)
{
    return screen->columns != NULL;
}

void screen_begin(struct screen *screen, const struct answer *answer)
{
    const struct answer_stage *stage = &answer->stages[answer->count - 1];
    screen->answer = answer;
    if (!screen->columns) return;
    if (stage->parallel)
        columns_begin_parallel(screen->columns, NULL, stage->count);
    else
        columns_begin_serial(screen->columns);
}

void screen_text(struct screen *screen, int32_t branch, const char *bytes, size_t length)
{
    if (screen->columns && length) columns_push(screen->columns, branch, bytes, length);
}

/* The reader goes on as far as there is text that nothing can come before any more. */
static void read_on(struct screen *screen)
{
    const struct answer *answer = screen->answer;
    while (answer && screen->stage < answer->count) {
        const struct answer_stage *stage = &answer->stages[screen->stage];
        const struct answer_branch *branch = &stage->branches[screen->branch];
        strbuf_append(&screen->out, strbuf_cstr(&branch->text) + screen->position,
                      branch->text.length - screen->position);
        screen->position = branch->text.length;
        if (!branch->ended) return;
        screen->position = 0;
        if (++screen->branch < stage->count) continue;
        screen->branch = 0;
        screen->stage++;
    }
}

static enum status write_out(struct screen *screen, struct error *err)
{
    if (!screen->out.length) return ST_OK;
    size_t written = fwrite(screen->out.data, 1, screen->out.length, stdout);
    bool whole = written == screen->out.length && fflush(stdout) == 0;
    strbuf_clear(&screen->out);
    return whole ? ST_OK : fail(err, ST_IO, "standard output: %s", strerror(errno));
}

enum status screen_show(struct screen *screen, struct error *err)
{
    if (screen->quiet) return ST_OK;
    if (screen->columns)
        columns_frame(screen->columns, &screen->out);
    else
        read_on(screen);
    return write_out(screen, err);
}

enum status screen_end(struct screen *screen, struct error *err)
{
    if (screen->columns) columns_join(screen->columns);
    return screen_show(screen, err);
}
