/* espalier quantize: any checkpoint that can be read, in VSQ4z or W8. */
#include "base/base.h"
#include "quant/checkpoint/commands.h"
#include "quant/checkpoint/driver.h"
#include "quant/checkpoint/report.h"

#include <stdio.h>
#include <string.h>

struct words {
    const char *model, *out, *format, *clip, *method, *calibrate;
    struct option_texts keep;
    int64_t threads, windows;
    bool force, json;
};

static enum status unknown(const char *option, const char *found, const char *allowed,
                           struct error *err)
{
    return fail(err, ST_USAGE, "--%s %s: allowed are %s", option, found, allowed);
}

static enum status resolve_format(const char *word, enum file_type *out, struct error *err)
{
    if (!strncmp(word, "vsq4:", strlen("vsq4:")))
        return fail(err, ST_USAGE,
                    "--format %s: the paper's formats are for study: espalier perplexity --weights "
                    "%s; written are vsq4z and w8",
                    word, word);
    *out = !strcmp(word, "vsq4z") ? FILE_VSQ4Z : FILE_W8;
    return !strcmp(word, format_word(*out)) ? ST_OK : unknown("format", word, "vsq4z, w8", err);
}

/* Without a word the better one of each format (docs/quantization.md). */
static enum status resolve_clip(const char *word, enum file_type format, enum clip *out,
                                struct error *err)
{
    *out = format == FILE_VSQ4Z ? CLIP_SEARCH : CLIP_MAX;
    if (!word) return ST_OK;
    for (*out = CLIP_MAX; *out <= CLIP_SEARCH; ++*out)
        if (!strcmp(word, clip_name(*out))) return ST_OK;
    return unknown("clip", word, "max, octav, search", err);
}

/* With a text the best recipe measured (docs/quantization.md), without one rounding alone. */
static enum status resolve_method(const struct words *w, enum method *out, struct error *err)
{
    *out = w->calibrate ? METHOD_AWQ_GPTQ : METHOD_RTN;
    if (!w->method) return ST_OK;
    for (*out = METHOD_RTN; *out <= METHOD_AWQ_GPTQ; ++*out)
        if (!strcmp(w->method, method_name(*out))) break;
    if (*out > METHOD_AWQ_GPTQ)
        return unknown("method", w->method, "rtn, awq, gptq, awq+gptq", err);
    if (*out != METHOD_RTN && !w->calibrate)
        return fail(err, ST_USAGE, "--method %s needs a text: --calibrate FILE", w->method);
    return ST_OK;
}

/* Of energies a few thousand tokens say all; H of GPTQ has a million entries. */
static int32_t default_windows(enum method method)
{
    return method == METHOD_GPTQ || method == METHOD_AWQ_GPTQ ? 64 : 16;
}

/* An option that would change nothing is a mistake worth hearing of. */
static enum status check_together(const struct words *w, const struct quantize_options *o,
                                  struct error *err)
{
    if (o->format == FILE_W8 && (o->calibrate || o->method != METHOD_RTN))
        return fail(err, ST_USAGE, "--format w8 rounds to nearest: it takes no %s",
                    o->calibrate ? "--calibrate" : "--method");
    if (w->windows && !o->calibrate)
        return fail(err, ST_USAGE, "--calibrate-windows needs a text: --calibrate FILE");
    return ST_OK;
}

static enum status resolve(const struct words *w, struct quantize_options *o, struct error *err)
{
    enum status status;
    if (!w->model)
        return fail(err, ST_USAGE,
                    "--model is missing: a GGUF file, a Hugging Face directory, or synthetic:tiny");
    if (!w->out) return fail(err, ST_USAGE, "--out is missing: the directory to write");
    *o = (struct quantize_options){.model = w->model,
                                   .out = w->out,
                                   .calibrate = w->calibrate,
                                   .windows = (int32_t)w->windows,
                                   .keep = w->keep,
                                   .threads = (int)w->threads,
                                   .force = w->force};
    if ((status = resolve_format(w->format, &o->format, err)) ||
        (status = resolve_clip(w->clip, o->format, &o->clip, err)) ||
        (status = resolve_method(w, &o->method, err)))
        return status;
    if (!o->windows) o->windows = default_windows(o->method);
    return check_together(w, o, err);
}

static int run(const struct words *w)
{
    struct quantize_options options;
    struct error err = {0};
    json_t *record;
    enum status status = resolve(w, &options, &err);
    if (!status) status = quantize_checkpoint(&options, &record, &err);
    if (status) {
        fprintf(stderr, "espalier quantize: %s\n", err.text);
        return status == ST_USAGE ? 2 : 1;
    }
    if (w->json) {
        json_dumpf(record, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        report_print(record, w->out);
    }
    json_decref(record);
    return 0;
}

int command_quantize(int argc, char **argv)
{
    struct words w = {.format = "vsq4z"};
    struct command_help help = {
        "espalier quantize",
        "espalier quantize --model models/SmolLM2-135M-Instruct.Q4_1.gguf --out "
        "models/smollm2-vsq4z --calibrate TEXTFILE",
        "Makes a VS-Quant checkpoint: a directory that serve, generate, perplexity and bench take\n"
        "as --model. It appears whole or not at all.",
    };
    struct option_spec table[] = {
        {"model", OPT_STRING, &w.model, "PATH",
         "what to quantize: GGUF file, Hugging Face directory or synthetic:SHAPE", 0, 0},
        {"out", OPT_STRING, &w.out, "DIR", "the directory to write", 0, 0},
        {"format", OPT_STRING, &w.format, "FORMAT",
         "vsq4z (4.31 bits a weight, the default) or w8 (8.25 bits)", 0, 0},
        {"calibrate", OPT_STRING, &w.calibrate, "TEXTFILE",
         "a text like what the model will see, or - for standard input: weighs errors, and needed\n"
         "by awq and gptq",
         0, 0},
        {"calibrate-windows", OPT_INT, &w.windows, "N",
         "windows of 512 tokens of it, at most (default 64 for gptq, 16 for the others)", 8, 4096},
        {"method", OPT_STRING, &w.method, "HOW",
         "rtn (rounding), awq, gptq or awq+gptq (the default with --calibrate, else rtn)", 0, 0},
        {"clip", OPT_STRING, &w.clip, "HOW",
         "how scales are chosen: max (the default of w8), octav or search (that of vsq4z)", 0, 0},
        {"keep", OPT_TEXTS, &w.keep, "PATTERN",
         "write matrices whose name fits, e.g. '*.0.mlp.down_proj.*', as w8; may be repeated.\n"
         "q, k and v, gate and up stay together",
         0, 0},
        {"threads", OPT_INT, &w.threads, "N",
         "threads (default: one per core); the bytes written do not depend on it", 0, 1024},
        {"force", OPT_FLAG, &w.force, NULL, "replace a quantized directory at --out", 0, 0},
        {"json", OPT_FLAG, &w.json, NULL, "one JSON document on standard output: quantization.json",
         0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed < 0 ? 2 : 0;
    return run(&w);
}
