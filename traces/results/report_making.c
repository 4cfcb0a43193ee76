/* How the page was made: the command, versions, the machine, what the caller knows. */
#include "traces/results/report_parts.h"

#include "base/base.h"
#include "traces/results/html.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

char *report_command_line(int argc, char *const *argv)
{
    struct strbuf line = {0};
    strbuf_text(&line, "espalier");
    for (int i = 0; i < argc; i++)
        strbuf_shell_word(&line, argv[i]);
    return strbuf_take(&line);
}

/* The first "model name" of /proc/cpuinfo; false where there is none (not all processors say it).
 */
static bool processor_name(char *name, int size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        snprintf(name, (size_t)size, "%s", colon + 1 + strspn(colon + 1, " \t"));
        name[strcspn(name, "\n")] = 0;
        found = true;
    }
    if (file) fclose(file);
    return found;
}

char *report_machine(void)
{
    struct strbuf text = {0};
    struct utsname system;
    char name[192];
    if (processor_name(name, sizeof name)) strbuf_format(&text, "%s, ", name);
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 0x1p30;
    strbuf_format(&text, "%ld processors, %.1f GiB", sysconf(_SC_NPROCESSORS_ONLN), memory);
    if (!uname(&system))
        strbuf_format(&text, ", %s %s %s", system.sysname, system.release, system.machine);
    return strbuf_take(&text);
}

static void add_fact(struct strbuf *out, const char *name, const char *text)
{
    strbuf_text(out, "<dt>");
    html_text(out, name);
    strbuf_text(out, "</dt><dd>");
    html_text(out, text);
    strbuf_text(out, "</dd>\n");
}

static void add_machine(struct strbuf *out)
{
    char *words = report_machine();
    add_fact(out, "machine", words);
    free(words);
}

static bool has_fact(const struct report *report, const char *name)
{
    for (size_t i = 0; i < report->fact_count; i++)
        if (!strcmp(report->facts[i].name, name)) return true;
    return false;
}

void report_making(const struct report *report, struct strbuf *out)
{
    report_heading(out, "How it was made");
    if (report->command) {
        strbuf_text(out, "<pre>");
        html_text(out, report->command);
        strbuf_text(out, "</pre>\n");
    }
    strbuf_text(out, "<dl>\n");
    for (size_t i = 0; i < report->fact_count; i++)
        add_fact(out, report->facts[i].name, report->facts[i].text);
    if (!has_fact(report, "version")) add_fact(out, "version", "espalier " ESPALIER_VERSION);
    if (!has_fact(report, "machine")) add_machine(out);
    strbuf_text(out, "</dl>\n");
}
