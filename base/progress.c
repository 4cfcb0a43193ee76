#include "base/progress.h"
#include "base/base.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_US 100000 /* ten times a second: smooth to the eye, nothing beside the work */
#define BAR_CELLS 30

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

/* "label [#####.....]  42 %  3 s left", cut to the terminal's width so that \r stays on one line.
 */
static void draw(struct progress *bar, int64_t done, int64_t now)
{
    double share = bar->total > 0 ? (double)done / (double)bar->total : 1;
    char cells[BAR_CELLS + 1], line[256], rest[32] = "";
    for (int i = 0; i < BAR_CELLS; i++)
        cells[i] = i < (int)(share * BAR_CELLS) ? '#' : '.';
    cells[BAR_CELLS] = 0;
    double elapsed_s = (double)(now - bar->started_us) / 1e6;
    if (done > 0 && elapsed_s > 1)
        snprintf(rest, sizeof rest, "  %.0f s left", elapsed_s * (1 - share) / share);
    snprintf(line, sizeof line, "%s [%s] %3d %%%s", bar->label, cells, (int)(share * 100), rest);
    fprintf(stderr, "\r\033[K%.*s", terminal_columns() - 1, line);
    fflush(stderr);
    bar->drawn_us = now;
}

void progress_begin(struct progress *bar, const char *label, int64_t total)
{
    *bar = (struct progress){.label = label, .total = total, .on = isatty(STDERR_FILENO)};
    if (!bar->on) return;
    bar->started_us = now_us();
    draw(bar, 0, bar->started_us);
}

void progress_update(struct progress *bar, int64_t done)
{
    if (!bar->on) return;
    int64_t now = now_us();
    if (now - bar->drawn_us < REDRAW_US) return;
    if (done > bar->total) done = bar->total;
    draw(bar, done < 0 ? 0 : done, now);
}

void progress_end(struct progress *bar)
{
    if (!bar->on) return;
    fputs("\r\033[K", stderr); /* the bar leaves no trace: what comes next is the result */
    fflush(stderr);
    bar->on = 0;
}
