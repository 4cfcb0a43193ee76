#include "traces/simulate/stopping.h"

#include "base/base.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Made before: a handler may only write. The progress bar's line is cleared first. */
static char words[128];

static void on_signal(int number)
{
    ssize_t wrote = write(STDERR_FILENO, words, strlen(words));
    (void)wrote;
    raise(number); /* by SA_RESETHAND it ends the process when this returns */
}

void stopping_tells_what_is_kept(void)
{
    static const int signals[] = {SIGINT, SIGTERM};
    snprintf(words, sizeof words,
             "%sespalier: stopped; finished searches are kept: run again to go on\n",
             isatty(STDERR_FILENO) ? "\r\033[K" : "");
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}, before;
        if (sigaction(signals[i], NULL, &before) || before.sa_handler == SIG_IGN) continue;
        sigaction(signals[i], &action, NULL);
    }
}
