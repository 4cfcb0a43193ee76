#include "quant/checkpoint/side_files.h"
#include "base/base.h"
#include "model/checksum.h"
#include "model/mapped_file.h"
#include "quant/checkpoint/config_json.h"
#include "quant/checkpoint/tokenizer_export.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of Hugging Face's kind; every other format is one file, or none. */
static bool from_directory(const struct checkpoint *source)
{
    return !strcmp(checkpoint_format(source), "safetensors");
}

static enum status join(char path[PATH_MAX], const char *dir, const char *name, struct error *err)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return ST_OK;
    return fail(err, ST_INVALID, "%s: the path is longer than %d bytes", dir, PATH_MAX - 1);
}

/* --- copied */

static enum status copy_file(const char *dir, const char *name, bool needed,
                             struct partial *partial, struct error *err)
{
    char path[PATH_MAX];
    struct mapped_file file;
    struct error why = {0};
    enum status status = join(path, dir, name, &why);
    if (!status) status = mapped_file_open(path, &file, &why);
    if (status == ST_NOT_FOUND && !needed) return ST_OK;
    if (status) return fail(err, status, "%s", why.text);
    status = partial_write(partial, name, file.data, file.size, err);
    mapped_file_close(&file);
    return status;
}

static enum status copy_files(const char *dir, struct partial *partial, struct error *err)
{
    static const struct {
        const char *name;
        bool needed;
    } files[] = {
        {"config.json", true},          {"generation_config.json", false},
        {"tokenizer.json", true},       {"tokenizer_config.json", false},
        {"chat_template.jinja", false}, {"special_tokens_map.json", false},
    };
    enum status status = ST_OK;
    for (size_t i = 0; !status && i < COUNT_OF(files); i++)
        status = copy_file(dir, files[i].name, files[i].needed, partial, err);
    return status;
}

/* --- made */

/* Takes `json` over. */
static enum status write_json(struct partial *partial, const char *name, json_t *json,
                              struct error *err)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    invariant(text, "no JSON text of %s", name);
    struct strbuf line = {0};
    strbuf_text(&line, text);
    strbuf_char(&line, '\n');
    enum status status = partial_write(partial, name, line.data, line.length, err);
    strbuf_free(&line);
    free(text);
    json_decref(json);
    return status;
}

static enum status make_files(const struct checkpoint *source, struct partial *partial,
                              struct error *err)
{
    const struct model_config *config = checkpoint_config(source);
    const struct tokenizer_spec *spec = checkpoint_tokenizer(source);
    enum status status;
    if ((status = write_json(partial, "config.json", config_json(config), err)) ||
        (status =
             write_json(partial, "generation_config.json", generation_config_json(config), err)) ||
        (status = write_json(partial, "tokenizer.json", tokenizer_json(spec), err)))
        return status;
    return write_json(partial, "tokenizer_config.json",
                      tokenizer_config_json(spec, config->max_context), err);
}

enum status side_files_write(const char *source_path, const struct checkpoint *source,
                             struct partial *partial, struct error *err)
{
    return from_directory(source) ? copy_files(source_path, partial, err)
                                  : make_files(source, partial, err);
}

/* --- where it came from */

static enum status add_source(json_t *files, const char *path, const char *name, struct error *err)
{
    struct mapped_file file;
    enum status status = mapped_file_open(path, &file, err);
    if (status) return status;
    struct checksum sum = checksum_of(file.data, file.size);
    json_t *entry = json_pack("{s:s, s:I, s:s}", "name", name, "bytes", (json_int_t)file.size,
                              "xxh3_128", sum.digits);
    mapped_file_close(&file);
    if (!entry) return fail(err, ST_INVALID, "%s: the name is no UTF-8 text", path);
    json_array_append_new(files, entry);
    return ST_OK;
}

static int weights_only(const struct dirent *entry)
{
    static const char suffix[] = ".safetensors";
    size_t length = strlen(entry->d_name), tail = sizeof suffix - 1;
    return length > tail && !strcmp(entry->d_name + length - tail, suffix);
}

static enum status add_directory(json_t *files, const char *dir, struct error *err)
{
    struct dirent **names;
    char path[PATH_MAX];
    int count = scandir(dir, &names, weights_only, alphasort);
    if (count < 0) return fail(err, ST_IO, "%s: %s", dir, strerror(errno));
    enum status status = ST_OK;
    for (int i = 0; i < count; i++) {
        if (!status) status = join(path, dir, names[i]->d_name, err);
        if (!status) status = add_source(files, path, names[i]->d_name, err);
        free(names[i]);
    }
    free(names);
    return status;
}

enum status source_json(const char *source_path, const struct checkpoint *source, json_t **out,
                        struct error *err)
{
    const char *slash = strrchr(source_path, '/');
    json_t *files = json_array();
    enum status status = ST_OK;
    if (from_directory(source))
        status = add_directory(files, source_path, err);
    else if (checkpoint_file_count(source))
        status = add_source(files, source_path, slash ? slash + 1 : source_path, err);
    if (status) {
        json_decref(files);
        return status;
    }
    *out = json_pack("{s:s, s:s, s:o}", "path", source_path, "format", checkpoint_format(source),
                     "files", files);
    return *out ? ST_OK : fail(err, ST_INVALID, "--model: the path is no UTF-8 text");
}
