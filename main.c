/* espalier: an LLM serving engine for requests that branch. This page is the list of its commands.
 */
#include "bench/commands.h"
#include "model/commands.h"
#include "quant/checkpoint/commands.h"
#include "server/commands.h"
#include "traces/commands.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"serve", command_serve, "serve a model over the OpenAI API"},
    {"generate", command_generate, "one prompt, tokens as they come"},
    {"quantize", command_quantize, "make a VS-Quant checkpoint"},
    {"inspect", command_inspect, "what is in a model file"},
    {"tokenize", command_tokenize, "text to token ids"},
    {"perplexity", command_perplexity, "quality of a model on a text"},
    {"bench", command_bench, "speed of the engine beside its floor"},
    {"trace", command_trace, "workload traces: inspect, convert, generate"},
    {"replay", command_replay, "a trace over HTTP against any OpenAI-style server"},
    {"simulate", command_simulate, "the scheduler over a trace, in virtual time"},
    {"profile", command_profile, "what a step costs here, recorded for simulate"},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *out)
{
    fputs("Example: espalier generate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --chat "
          "--prompt \"Name three trees.\"\n\n"
          "Usage: espalier COMMAND [OPTIONS]\n\nCommands:\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\nespalier COMMAND --help explains one; espalier --version prints the version.\n", out);
}

/* A closed standard stream would be the next file or socket that is opened. What is written to this
 * one still fails, and is told. */
static void occupy_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) _exit(1);
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_help(stdout);
        return 0;
    }
    if (!strcmp(name, "--version")) {
        puts("espalier " ESPALIER_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    if (*name) fprintf(stderr, "espalier: unknown command '%s'\n\n", name);
    print_help(stderr);
    return 2;
}

/* A result that did not arrive is a failure, whatever the command thinks. */
int main(int argc, char **argv)
{
    occupy_standard_streams();
    int status = run(argc, argv);
    int problem = fflush(stdout) ? errno : 0;
    if (!problem && !ferror(stdout)) return status;
    if (status == 0)
        log_error("standard output: %s", problem ? strerror(problem) : "a part was not written");
    return status ? status : 1;
}
