#include "base/log.h"
#include "base/status.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic int threshold = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_line(enum log_level level, const char *format, ...)
{
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed)) return;
    char line[1024];
    int used = snprintf(line, sizeof line, "espalier: %s", prefix[level]);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    va_end(args);
    make_printable(line);
    int room = (int)sizeof line - used - 2;
    used += more < 0 ? 0 : (more > room ? room : more);
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, (size_t)used);
    (void)written; /* nowhere to report a failing standard error */
}
