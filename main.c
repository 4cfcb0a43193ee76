/* espalier: an LLM serving engine for requests that branch. This page is the list of its commands.
 */
#include "bench/commands.h"
#include "model/commands.h"
#include "server/commands.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"serve", command_serve, "serve a model over the OpenAI API"},
    {"generate", command_generate, "one prompt, tokens as they come"},
    {"inspect", command_inspect, "what is in a model file"},
    {"tokenize", command_tokenize, "text to token ids"},
    {"perplexity", command_perplexity, "quality of a model on a text"},
    {"bench", command_bench, "speed of the engine beside its floor"},
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

int main(int argc, char **argv)
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
