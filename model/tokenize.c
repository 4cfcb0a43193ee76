/* espalier tokenize: standard input to token ids. */
#include "base/base.h"
#include "base/options.h"
#include "model/chat_json.h"
#include "model/checkpoint.h"
#include "model/commands.h"
#include "model/load_options.h"
#include "model/tokenize_lines.h"
#include "model/tokenizer_json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct tokenize_options {
    const char *model, *chat_template;
    bool json, json_lines, speed, special, no_bos, pieces, chat;
};

/* What was made of the input. */
struct tokenized {
    struct token_list ids;
    struct strbuf text; /* the rendered chat */
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

static bool has_file(const char *dir, const char *name)
{
    struct strbuf path = {0};
    strbuf_format(&path, "%s/%s", dir, name);
    bool found = access(path.data, R_OK) == 0;
    strbuf_free(&path);
    return found;
}

static enum status open_tokenizer(const char *path, struct tokenizer **out,
                                  enum chat_template *chat, struct error *err)
{
    struct tokenizer_spec alone = {0};
    struct checkpoint *checkpoint = NULL;
    const struct tokenizer_spec *spec = &alone;
    enum status status;
    if (!has_file(path, "config.json") && has_file(path, "tokenizer.json")) {
        status = tokenizer_spec_from_json(path, &alone, err);
    } else {
        status = checkpoint_open(path, &checkpoint, err);
        if (!status) spec = checkpoint_tokenizer(checkpoint);
    }
    if (!status && (!spec || spec->token_count == 0))
        status = fail(err, ST_UNSUPPORTED, "%s: the model has no tokenizer", path);
    if (!status && (status = tokenizer_create(spec, out, err))) fail_prefix(err, "%s", path);
    if (!status) *chat = chat_template_choose(*chat, spec->chat_template, false);
    tokenizer_spec_free(&alone);
    if (checkpoint) checkpoint_close(checkpoint);
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

static void print_json(const struct tokenizer *tokenizer, const struct tokenized *done,
                       const struct tokenize_options *o)
{
    const struct token_list *ids = &done->ids;
    bool pieces = o->pieces;
    json_t *root = json_object(), *tokens = json_array(), *texts = json_array();
    for (size_t i = 0; i < ids->count; i++) {
        json_array_append_new(tokens, json_integer(ids->ids[i]));
        if (pieces) json_array_append_new(texts, piece_json(tokenizer, ids->ids[i]));
    }
    json_object_set_new(root, "tokens", tokens);
    json_object_set_new(root, "count", json_integer((json_int_t)ids->count));
    if (pieces) json_object_set(root, "pieces", texts);
    if (o->chat)
        json_object_set_new(root, "text",
                            json_stringn(strbuf_cstr(&done->text), done->text.length));
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

static enum status render(struct chat *chat, const struct tokenizer *tokenizer,
                          struct tokenized *done, struct error *err)
{
    struct strbuf bos = {0}, eos = {0};
    tokenizer_token_bytes(tokenizer, tokenizer_bos(tokenizer), true, &bos);
    tokenizer_token_bytes(tokenizer, tokenizer_eos(tokenizer), true, &eos);
    chat->bos = strbuf_cstr(&bos);
    chat->eos = strbuf_cstr(&eos);
    enum status status = chat_render_text(chat, &done->text, err);
    if (!status) status = chat_render_tokens(chat, tokenizer, &done->ids, err);
    strbuf_free(&bos);
    strbuf_free(&eos);
    return status;
}

static enum status tokenize_chat(enum chat_template family, const struct tokenizer *tokenizer,
                                 const struct strbuf *input, struct tokenized *done,
                                 struct error *err)
{
    struct chat chat;
    json_error_t where;
    json_t *document = json_loadb(strbuf_cstr(input), input->length, JSON_ALLOW_NUL, &where);
    if (!document)
        return fail(err, ST_INVALID, "standard input is not JSON: %s (line %d, column %d)",
                    where.text, where.line, where.column);
    enum status status = chat_from_json(document, &chat, err);
    if (!status) {
        chat.family = family;
        chat.now = time(NULL); /* one day for both forms */
        status = render(&chat, tokenizer, done, err);
        free((void *)chat.messages);
    }
    json_decref(document);
    return status;
}

static void print(const struct tokenize_options *o, const struct tokenizer *tokenizer,
                  const struct tokenized *done)
{
    if (o->json)
        print_json(tokenizer, done, o);
    else
        print_plain(tokenizer, &done->ids, o->pieces);
}

static enum status run(const struct tokenize_options *o, struct error *err)
{
    struct tokenizer *tokenizer = NULL;
    struct strbuf input = {0};
    struct tokenized done = {0};
    enum chat_template family;
    enum status status = chat_template_option(o->chat_template, &family, err);
    if (!status) status = open_tokenizer(o->model, &tokenizer, &family, err);
    if (!status) status = read_all(STDIN_FILENO, &input, err);
    if (!status && o->json_lines)
        status = tokenize_lines(tokenizer, &input, o->special, !o->no_bos, err);
    else if (!status && o->speed)
        status = tokenize_speed(tokenizer, &input, o->special, err);
    else if (!status)
        status = o->chat ? tokenize_chat(family, tokenizer, &input, &done, err)
                         : tokenizer_encode_text(tokenizer, strbuf_cstr(&input), input.length,
                                                 o->special, !o->no_bos, &done.ids, err);
    if (!status && !o->json_lines && !o->speed) print(o, tokenizer, &done);
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(err, ST_IO, "standard output: %s", strerror(errno));
    free(done.ids.ids);
    strbuf_free(&done.text);
    strbuf_free(&input);
    tokenizer_free(tokenizer);
    return status;
}

int command_tokenize(int argc, char **argv)
{
    struct tokenize_options o = {0};
    const struct option_spec table[] = {
        {"model", OPT_STRING, &o.model, "PATH",
         "GGUF file or Hugging Face directory (tokenizer.json alone is enough)", 0, 0},
        {"special", OPT_FLAG, &o.special, NULL,
         "text such as <|im_end|> becomes the special token\n(without it, it is text like any "
         "other)",
         0, 0},
        {"no-bos", OPT_FLAG, &o.no_bos, NULL,
         "no BOS in front and no EOS behind, even where the model asks for it", 0, 0},
        {"chat", OPT_FLAG, &o.chat, NULL,
         "the input is a chat in JSON: a list of messages, or an object\nwith \"messages\" and "
         "\"add_generation_prompt\",\n\"continue_final_message\", \"enable_thinking\", "
         "\"date_string\"",
         0, 0},
        CHAT_TEMPLATE_OPTION(&o.chat_template),
        {"pieces", OPT_FLAG, &o.pieces, NULL, "show what each token stands for", 0, 0},
        {"json", OPT_FLAG, &o.json, NULL,
         "one JSON document: {\"tokens\": [...], \"count\": N};\nwith --chat also \"text\", as it "
         "was rendered",
         0, 0},
        {"json-lines", OPT_FLAG, &o.json_lines, NULL,
         "every input line is a JSON string and gives {\"tokens\": [...]}, or an\narray of ids and "
         "gives {\"text\": ...} (special tokens with --special)",
         0, 0},
        {"speed", OPT_FLAG, &o.speed, NULL,
         "tokenize the input again and again and show the speed instead", 0, 0},
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
    enum status status = run(&o, &err);
    if (status) log_error("tokenize: %s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
