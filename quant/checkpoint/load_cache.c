#include "quant/checkpoint/load_cache.h"
#include "base/base.h"
#include "base/cache_folder.h"
#include "model/checksum.h"
#include "model/quantized_directory.h"
#include "model/score_text.h"
#include "quant/checkpoint/driver.h"
#include "quant/checkpoint/partial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW  512 /* tokens of a window of the sample text, and windows of it at most */
#define WINDOWS 4

/* docs/architecture.md, built into the program. */
extern const char architecture_md[];
extern const size_t architecture_md_size;

/* --- where */

static enum status cache_root(char root[PATH_MAX], struct error *err)
{
    char *folder = cache_folder("quantized");
    int length = folder ? snprintf(root, PATH_MAX, "%s", folder) : -1;
    free(folder);
    if (length < 0 || length > PATH_MAX - 256)
        return fail(err, ST_INVALID,
                    "--weights vsq4z needs a place for what it makes: set XDG_CACHE_HOME or HOME, "
                    "or run espalier quantize --out DIR and give DIR as --model");
    int problem = make_folders(root);
    if (problem)
        return fail(err, ST_IO, "the cache for --weights vsq4z: %s: %s", root, strerror(problem));
    return ST_OK;
}

/* What tells one state of a model's files from another, without reading them. */
static void describe_file(const char *path, struct strbuf *out)
{
    struct stat info;
    if (stat(path, &info)) return;
    strbuf_format(out, "%s %lld %lld.%09ld\n", path, (long long)info.st_size,
                  (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void describe_directory(const char *path, struct strbuf *out)
{
    DIR *dir = opendir(path);
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        names = must_realloc(names, (count + 1) * sizeof *names);
        struct strbuf name = {0};
        strbuf_format(&name, "%s/%s", path, entry->d_name);
        names[count++] = strbuf_take(&name);
    }
    if (dir) closedir(dir);
    if (count) qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        describe_file(names[i], out);
        free(names[i]);
    }
    free(names);
}

/* ROOT/NAME-HASH, which gets .lock, .json (the cost) and nothing (the directory) behind it. */
static enum status cache_place(const char *model, char place[PATH_MAX], struct error *err)
{
    struct strbuf about = {0};
    struct stat info;
    char real[PATH_MAX], name[64];
    enum status status = cache_root(place, err);
    if (status) return status;
    const char *path = realpath(model, real) ? real : model; /* synthetic:SHAPE is no path */
    strbuf_format(&about, "%s %d %s\n", ESPALIER_VERSION, QUANTIZATION_VERSION, path);
    if (!stat(path, &info) && S_ISDIR(info.st_mode))
        describe_directory(path, &about);
    else
        describe_file(path, &about);
    struct checksum hash = checksum_of(strbuf_cstr(&about), about.length);
    strbuf_free(&about);
    const char *last = strrchr(path, '/');
    snprintf(name, sizeof name, "%.48s", last ? last + 1 : path);
    for (char *at = name; *at; at++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_", *at))
            *at = '-';
    size_t length = strlen(place);
    snprintf(place + length, PATH_MAX - length, "/%s-%.12s", name, hash.digits);
    return ST_OK;
}

/* --- one at a time */

static enum status take_lock(const char *place, int *lock, struct error *err)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.lock", place);
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0) return fail(err, ST_IO, "%s: %s", path, strerror(errno));
    if (!flock(*lock, LOCK_EX | LOCK_NB)) return ST_OK;
    log_info("another espalier is quantizing this model: waiting for it");
    while (flock(*lock, LOCK_EX)) {
        if (errno == EINTR) continue;
        fail(err, ST_IO, "%s: %s", path, strerror(errno));
        close(*lock);
        return ST_IO;
    }
    return ST_OK;
}

/* The directory, open, if it is there and whole. */
static struct checkpoint *open_kept(const char *place)
{
    struct checkpoint *kept;
    struct error why = {0};
    if (access(place, F_OK)) return NULL;
    if (checkpoint_open(place, &kept, &why)) {
        log_warn("the cache of --weights vsq4z is damaged and made anew: %s", why.text);
        partial_remove(place);
        return NULL;
    }
    if (checkpoint_has_type(kept, FILE_VSQ4Z)) return kept;
    checkpoint_close(kept);
    return NULL;
}

/* --- what it costs */

static enum status score_sample(struct model_options options, const struct checkpoint *checkpoint,
                                enum weight_format weights, struct text_score *score,
                                struct error *err)
{
    struct model *model;
    struct token_list tokens = {0};
    options.weights = weights;
    options.as_stored = weights == WEIGHT_VSQ4Z;
    options.context = options.kv_blocks = 0;
    options.kv_bytes = 0;
    options.max_rows = 1;
    options.max_tokens = options.max_logits = SCORE_STEP_TOKENS;
    options.progress = options.chats = false;
    enum status status = model_load_checkpoint(&options, checkpoint, &model, err);
    if (status) return status;
    int32_t window = model_context(model) < WINDOW ? model_context(model) : WINDOW;
    status = tokenizer_encode(model_tokenizer(model), architecture_md, architecture_md_size, false,
                              &tokens, err);
    int64_t windows = (int64_t)tokens.count / window;
    if (!status)
        score_text_windows(model, tokens.ids, window,
                           (int32_t)(windows < WINDOWS ? windows : WINDOWS), false, score);
    free(tokens.ids);
    model_free(model);
    return status;
}

/* Measures and writes PLACE.json; a cost that cannot be kept is measured again. */
static enum status measure_cost(const struct model_options *options, const char *place,
                                const struct checkpoint *source, const struct checkpoint *kept,
                                json_t **out, struct error *err)
{
    struct text_score w8 = {0}, vsq4z = {0};
    enum status status;
    log_info("measuring what 4 bits cost on a sample text");
    if ((status = score_sample(*options, source, WEIGHT_W8, &w8, err)) ||
        (status = score_sample(*options, kept, WEIGHT_VSQ4Z, &vsq4z, err)))
        return status;
    *out = json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t)vsq4z.tokens, "w8",
                     vsq4z.tokens ? text_perplexity(&w8) : 0, "vsq4z",
                     vsq4z.tokens ? text_perplexity(&vsq4z) : 0);
    char path[PATH_MAX + 8], temporary[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s.json", place);
    snprintf(temporary, sizeof temporary, "%s.json.%d", place, (int)getpid());
    if (json_dump_file(*out, temporary, JSON_INDENT(1)) || rename(temporary, path))
        unlink(temporary);
    return ST_OK;
}

static json_t *kept_cost(const char *place)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.json", place);
    json_t *cost = json_load_file(path, 0, NULL);
    if (cost && json_is_integer(json_object_get(cost, "tokens")) &&
        json_is_number(json_object_get(cost, "w8")) &&
        json_is_number(json_object_get(cost, "vsq4z")))
        return cost;
    json_decref(cost);
    return NULL;
}

static void say_cost(const char *model, const char *place, const json_t *cost)
{
    double w8 = json_number_value(json_object_get(cost, "w8"));
    double vsq4z = json_number_value(json_object_get(cost, "vsq4z"));
    if (w8 > 0)
        log_warn("--weights vsq4z, rounded without a calibration text, costs %.1f %% of perplexity "
                 "(%.2f with w8, %.2f now, %lld tokens of a sample text); kept in %s",
                 100 * (vsq4z / w8 - 1), w8, vsq4z,
                 (long long)json_integer_value(json_object_get(cost, "tokens")), place);
    log_warn(
        "better: espalier quantize --model %s --out DIR --calibrate TEXTFILE, then --model DIR",
        model);
}

/* --- all of it */

static enum status make(const struct model_options *options, const char *place, struct error *err)
{
    struct quantize_options how = {.model = options->path,
                                   .out = place,
                                   .format = FILE_VSQ4Z,
                                   .clip = CLIP_SEARCH,
                                   .method = METHOD_RTN,
                                   .threads = options->threads,
                                   .force = true};
    json_t *record = NULL;
    enum status status = quantize_checkpoint(&how, &record, err);
    json_decref(record);
    return status;
}

/* *kept: what the cache has of `source`, at `place`; the caller's. It is opened, and so verified,
 * once for all that follows. */
static enum status through_cache(const struct model_options *options,
                                 const struct checkpoint *source, char place[PATH_MAX],
                                 struct checkpoint **kept, struct error *err)
{
    int lock;
    json_t *cost = NULL;
    enum status status = cache_place(options->path, place, err);
    if (!status) status = take_lock(place, &lock, err);
    if (status) return status;
    *kept = open_kept(place);
    if (!*kept) {
        status = make(options, place, err);
        if (!status) status = checkpoint_open(place, kept, err);
    }
    if (!status) cost = kept_cost(place);
    if (!status && !cost) status = measure_cost(options, place, source, *kept, &cost, err);
    close(lock);
    if (!status) say_cost(options->path, place, cost);
    json_decref(cost);
    return status;
}

enum status load_cache_model(const struct model_options *options, struct model **out,
                             struct error *err)
{
    struct model_options resolved = *options;
    struct checkpoint *source, *kept = NULL;
    char place[PATH_MAX];
    if (options->weights != WEIGHT_VSQ4Z) return model_load(options, out, err);
    enum status status = checkpoint_open(options->path, &source, err);
    if (status) return status;
    if (!checkpoint_has_type(source, FILE_VSQ4Z)) {
        status = through_cache(options, source, place, &kept, err);
        resolved.path = place;
    }
    if (!status) status = model_load_checkpoint(&resolved, kept ? kept : source, out, err);
    checkpoint_close(kept);
    checkpoint_close(source);
    return status;
}
