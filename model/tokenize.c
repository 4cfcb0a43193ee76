/* espalier tokenize: standard input to token ids. */
#include "base/base.h"
#include "base/options.h"
#include "model/checkpoint.h"
#include "model/commands.h"
#include "model/tokenizer.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tokenize_options {
    const char *model;
    bool json, special, no_bos, pieces;
};

static enum status read_all(int file, struct strbuf *out, struct error *err)
{
    char bytes[1 << 16];
    for (;;) {
        ssize_t got = read(file, bytes, sizeof bytes);
        if (got == 0) return ST_OK;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(err, ST_IO, "standard input: %s", strerror(errno));
        strbuf_append(out, bytes, (size_t)got);
    }
}

static enum status open_tokenizer(const char *path, struct tokenizer **out, struct error *err)
{
    struct checkpoint *checkpoint;
    enum status status = checkpoint_open(path, &checkpoint, err);
    if (status) return status;
    const struct tokenizer_spec *spec = checkpoint_tokenizer(checkpoint);
    if (!spec || spec->token_count == 0)
        status = fail(err, ST_UNSUPPORTED, "%s: the model has no tokenizer", path);
    else
        status = tokenizer_create(spec, out, err);
    checkpoint_close(checkpoint);
    return status;
}

/* What a token stands for, as a JSON string (U+FFFD where it is no whole character). */
static json_t *piece_json(const struct tokenizer *tokenizer, int32_t id)
{
    struct strbuf text = {0};
    tokenizer_decode(tokenizer, &id, 1, true, &text);
    json_t *piece = json_stringn(strbuf_cstr(&text), text.length);
    strbuf_free(&text);
    return piece;
}

static void print_json(const struct tokenizer *tokenizer, const struct token_list *ids, bool pieces)
{
    json_t *root = json_object(), *tokens = json_array(), *texts = json_array();
    for (size_t i = 0; i < ids->count; i++) {
        json_array_append_new(tokens, json_integer(ids->ids[i]));
        if (pieces) json_array_append_new(texts, piece_json(tokenizer, ids->ids[i]));
    }
    json_object_set_new(root, "tokens", tokens);
    json_object_set_new(root, "count", json_integer((json_int_t)ids->count));
    if (pieces) json_object_set(root, "pieces", texts);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(texts);
    json_decref(root);
}

/* One line of ids, or with pieces one line a token: the id and what it stands for, quoted. */
static void print_plain(const struct tokenizer *tokenizer, const struct token_list *ids,
                        bool pieces)
{
    for (size_t i = 0; i < ids->count; i++) {
        if (!pieces) {
            printf("%s%d", i ? " " : "", ids->ids[i]);
            continue;
        }
        json_t *piece = piece_json(tokenizer, ids->ids[i]);
        printf("%7d  ", ids->ids[i]);
        json_dumpf(piece, stdout, JSON_ENCODE_ANY);
        putchar('\n');
        json_decref(piece);
    }
    if (!pieces) putchar('\n');
}

static enum status run(const struct tokenize_options *o, struct error *err)
{
    struct tokenizer *tokenizer = NULL;
    struct strbuf text = {0};
    struct token_list ids = {0};
    enum status status = open_tokenizer(o->model, &tokenizer, err);
    if (!status) status = read_all(STDIN_FILENO, &text, err);
    if (!status && tokenizer_adds_bos(tokenizer) && !o->no_bos)
        token_list_append(&ids, tokenizer_bos(tokenizer));
    if (!status)
        status =
            tokenizer_encode(tokenizer, strbuf_cstr(&text), text.length, o->special, &ids, err);
    if (!status && o->json) print_json(tokenizer, &ids, o->pieces);
    if (!status && !o->json) print_plain(tokenizer, &ids, o->pieces);
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(err, ST_IO, "standard output: %s", strerror(errno));
    free(ids.ids);
    strbuf_free(&text);
    tokenizer_free(tokenizer);
    return status;
}

int command_tokenize(int argc, char **argv)
{
    struct tokenize_options o = {0};
    const struct option_spec table[] = {
        {"model", OPT_STRING, &o.model, "PATH", "GGUF file or Hugging Face directory", 0, 0},
        {"special", OPT_FLAG, &o.special, NULL,
         "text such as <|im_end|> becomes the special token\n(without it, it is text like any "
         "other)",
         0, 0},
        {"no-bos", OPT_FLAG, &o.no_bos, NULL, "no BOS in front, even where the model asks for it",
         0, 0},
        {"pieces", OPT_FLAG, &o.pieces, NULL, "show what each token stands for", 0, 0},
        {"json", OPT_FLAG, &o.json, NULL, "one JSON document: {\"tokens\": [...], \"count\": N}", 0,
         0},
    };
    const struct command_help help = {
        "espalier tokenize",
        "echo -n 'Hello world' | espalier tokenize --model models/SmolLM2-135M-Instruct.Q4_1.gguf",
        "Reads text on standard input and prints its token ids."};
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed < 0 ? 2 : 0;
    if (!o.model) {
        fputs("espalier tokenize: --model PATH is required; see --help\n", stderr);
        return 2;
    }
    struct error err = {0};
    if (!run(&o, &err)) return 0;
    log_error("tokenize: %s", err.text);
    return 1;
}
