#include "traces/replay/live.h"
#include "base/log.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LINE_US 10000000 /* in a log */
#define RATE_US 2000000  /* the rate is that of so long */

void live_begin(struct live *live, const char *label)
{
    *live = (struct live){.label = label, .terminal = isatty(STDERR_FILENO) != 0};
}

static void count_rate(struct live *live, const struct run_progress *progress)
{
    int64_t since_us = progress->now_us - live->last_us;
    if (since_us < RATE_US && live->last_us) return;
    if (since_us > 0)
        live->rate = 1e6 * (double)(progress->sent - live->last_sent) / (double)since_us;
    live->last_us = progress->now_us;
    live->last_sent = progress->sent;
}

static void write_line(const struct live *live, const struct run_progress *progress, int64_t met,
                       char line[256])
{
    char of[32] = "", attained[32] = "";
    if (progress->expected) snprintf(of, sizeof of, "/%lld", (long long)progress->expected);
    if (progress->ended)
        snprintf(attained, sizeof attained, "  attainment %.0f %%",
                 100.0 * (double)met / (double)progress->ended);
    snprintf(line, 256, "%s  %.0f s  sent %lld%s  %.2f/s  in flight %d  done %lld%s", live->label,
             (double)progress->now_us / 1e6, (long long)progress->sent, of, live->rate,
             progress->in_flight, (long long)progress->ended, attained);
}

void live_update(struct live *live, const struct run_progress *progress, int64_t met)
{
    char line[256];
    struct winsize size = {0};
    count_rate(live, progress);
    if (!live->terminal && progress->now_us - live->told_us < LINE_US) return;
    live->told_us = progress->now_us;
    write_line(live, progress, met, line);
    if (!live->terminal) {
        log_info("%s", line);
        return;
    }
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20 ? 80 : size.ws_col;
    fprintf(stderr, "\r\033[K%.*s", columns - 1, line);
    fflush(stderr);
    live->drawn = true;
}

void live_end(struct live *live)
{
    if (live->drawn) fputs("\r\033[K", stderr);
    live->drawn = false;
}
