#include "model/safetensors_set.h"
#include "base/base.h"
#include "model/json_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHOLE     "model.safetensors"
#define INDEX     "model.safetensors.index.json"
#define MAX_INDEX (32 << 20) /* bytes; the largest known are a few MB */
#define MAX_FILES 4096

/* A name inside the directory, and one that is safe to print. */
static bool plain_file_name(const char *name)
{
    static const char suffix[] = ".safetensors";
    size_t length = strlen(name), tail = sizeof suffix - 1;
    return tensor_name_valid(name, length) && name[0] != '.' && !strchr(name, '/') &&
           length > tail && !strcmp(name + length - tail, suffix);
}

/* --- the index */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The files that `map` names, each once, sorted; views of the map. */
static enum status list_files(json_t *map, const char ***names, size_t *count, struct error *err)
{
    const char *tensor;
    json_t *value;
    size_t at = 0;
    *names = must_alloc((json_object_size(map) + 1) * sizeof **names);
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !plain_file_name(name))
            return fail(err, ST_BAD_FILE,
                        "weight_map: tensor %.200s is in %s; expected the plain name of a "
                        ".safetensors file beside the index",
                        tensor, name ? "a file of another name" : "something that is no string");
        (*names)[at++] = name;
    }
    qsort(*names, at, sizeof **names, compare_names);
    *count = 0;
    for (size_t i = 0; i < at; i++)
        if (!*count || strcmp((*names)[*count - 1], (*names)[i]) != 0)
            (*names)[(*count)++] = (*names)[i];
    if (*count < 1 || *count > MAX_FILES)
        return fail(err, ST_BAD_FILE, "weight_map names %zu files; allowed is 1 to %d", *count,
                    MAX_FILES);
    return ST_OK;
}

/* --- the files */

static enum status open_file(struct safetensors_set *set, const char *dir, const char *name,
                             struct error *err)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return fail(err, ST_INVALID, "%s: the path is longer than %zu bytes", dir, sizeof path - 1);
    enum status status = safetensors_open(path, &set->files[set->file_count], err);
    if (!status) set->file_count++;
    return status;
}

/* Moves the newest file's tensors to the set; `map` (or NULL) must place each of them there. */
static enum status take_tensors(struct safetensors_set *set, json_t *map, const char *name,
                                struct error *err)
{
    struct tensor_directory *from = &set->files[set->file_count - 1].tensors;
    for (size_t i = 0; map && i < from->count; i++) {
        const char *place = json_string_value(json_object_get(map, from->items[i].name));
        if (!place || strcmp(place, name) != 0)
            return fail(err, ST_BAD_FILE, "tensor %s is in %s, but weight_map says %s",
                        from->items[i].name, name, place ? place : "nothing of it");
    }
    for (size_t i = 0; i < from->count; i++)
        tensor_directory_add(&set->tensors, &from->items[i]);
    from->count = 0; /* the names belong to the set now */
    return ST_OK;
}

/* Every tensor of the map was in its file: counted, as no file has one that the map places
 * elsewhere. */
static enum status check_complete(const struct safetensors_set *set, json_t *map, struct error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value)
    {
        if (!tensor_directory_find(&set->tensors, tensor))
            return fail(err, ST_BAD_FILE, "weight_map: tensor %.200s is not in %s", tensor,
                        json_string_value(value));
    }
    return ST_OK;
}

static enum status open_listed(struct safetensors_set *set, const char *dir, json_t *map,
                               const char **names, size_t count, struct error *err)
{
    enum status status = ST_OK;
    set->files = must_alloc(count * sizeof *set->files);
    for (size_t i = 0; !status && i < count; i++) {
        status = open_file(set, dir, names[i], err);
        if (!status && (status = take_tensors(set, map, names[i], err)))
            fail_prefix(err, "%s/" INDEX, dir);
    }
    if (status) return status;
    status = tensor_directory_finish(&set->tensors, err);
    if (!status) status = check_complete(set, map, err);
    return status ? fail_prefix(err, "%s/" INDEX, dir) : ST_OK;
}

static enum status open_sharded(struct safetensors_set *set, const char *dir, struct error *err)
{
    json_t *index;
    const char **names = NULL;
    size_t count = 0;
    enum status status = json_read_object(dir, INDEX, MAX_INDEX, &index, err);
    if (status) return status;
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map))
        status = fail(err, ST_BAD_FILE, "weight_map is missing or no object");
    else
        status = list_files(map, &names, &count, err);
    if (status)
        fail_prefix(err, "%s/" INDEX, dir);
    else
        status = open_listed(set, dir, map, names, count, err);
    free(names);
    json_decref(index);
    return status;
}

static enum status open_whole(struct safetensors_set *set, const char *dir, struct error *err)
{
    set->files = must_alloc(sizeof *set->files);
    enum status status = open_file(set, dir, WHOLE, err);
    if (!status) status = take_tensors(set, NULL, WHOLE, err);
    return status ? status : tensor_directory_finish(&set->tensors, err);
}

static bool is_there(const char *dir, const char *name)
{
    char path[4096];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

enum status safetensors_set_open(const char *dir, struct safetensors_set *out, struct error *err)
{
    *out = (struct safetensors_set){0};
    bool sharded = !is_there(dir, WHOLE) && is_there(dir, INDEX);
    return sharded ? open_sharded(out, dir, err) : open_whole(out, dir, err);
}

void safetensors_set_close(struct safetensors_set *set)
{
    tensor_directory_free(&set->tensors);
    for (size_t i = 0; i < set->file_count; i++)
        safetensors_close(&set->files[i]);
    free(set->files);
    *set = (struct safetensors_set){0};
}

void safetensors_set_release_pages(const struct safetensors_set *set)
{
    for (size_t i = 0; i < set->file_count; i++)
        mapped_file_release_pages(&set->files[i].map);
}
