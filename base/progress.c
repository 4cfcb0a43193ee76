#include "base/progress.h"
#include "base/base.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_US 100000 /* ten times a second: smooth to the eye, nothing beside the work */
#define BAR_CELLS 30
#define LINE_US   10000000 /* in a log: at most a line in ten seconds, */
#define LINES     10       /* and at most so many */

static int64_t now_us(void)
{
    struct clock clock = clock_monotonic();
    return clock_now(&clock);
}

static int terminal_columns(void)
{
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20) return 80;
    return size.ws_col;
}

static double share_of(const struct progress *bar, int64_t done)
{
    return bar->total > 0 ? (double)done / (double)bar->total : 1;
}

/* "N s left" after `lead`, or nothing while nothing is known. */
static void rest_words(const struct progress *bar, double share, int64_t now, const char *lead,
                       char words[32])
{
    double elapsed_s = (double)(now - bar->started_us) / 1e6;
    words[0] = 0;
    if (share > 0 && elapsed_s > 1)
        snprintf(words, 32, "%s%.0f s left", lead, elapsed_s * (1 - share) / share);
}

/* "label [#####.....]  42 %  3 s left", cut to the terminal's width so that \r stays on one line.
 */
static void draw(struct progress *bar, int64_t done, int64_t now)
{
    double share = share_of(bar, done);
    char cells[BAR_CELLS + 1], line[256], rest[32];
    for (int i = 0; i < BAR_CELLS; i++)
        cells[i] = i < (int)(share * BAR_CELLS) ? '#' : '.';
    cells[BAR_CELLS] = 0;
    rest_words(bar, share, now, "  ", rest);
    snprintf(line, sizeof line, "%s [%s] %3d %%%s", bar->label, cells, (int)(share * 100), rest);
    fprintf(stderr, "\r\033[K%.*s", terminal_columns() - 1, line);
    fflush(stderr);
    bar->told_us = now;
}

/* Short work says nothing in a log, and the end says itself. */
static void tell(struct progress *bar, int64_t done, int64_t now)
{
    char rest[32];
    if (done == bar->total || now - bar->told_us < LINE_US) return;
    if ((done - bar->told) * LINES < bar->total) return;
    rest_words(bar, share_of(bar, done), now, ", ", rest);
    log_info("%s: %d %%%s", bar->label, (int)(100 * share_of(bar, done)), rest);
    bar->told_us = now;
    bar->told = done;
}

void progress_begin(struct progress *bar, const char *label, int64_t total)
{
    int64_t now = now_us();
    *bar = (struct progress){.label = label,
                             .total = total,
                             .started_us = now,
                             .told_us = now,
                             .terminal = isatty(STDERR_FILENO) != 0};
    if (bar->terminal) draw(bar, 0, now);
}

void progress_update(struct progress *bar, int64_t done)
{
    int64_t now = now_us();
    if (done > bar->total) done = bar->total;
    if (done < 0) done = 0;
    if (!bar->terminal)
        tell(bar, done, now);
    else if (now - bar->told_us >= REDRAW_US)
        draw(bar, done, now);
}

void progress_end(struct progress *bar)
{
    if (!bar->terminal) return;
    fputs("\r\033[K", stderr); /* the bar leaves no trace: what comes next is the result */
    fflush(stderr);
    bar->terminal = 0;
}
