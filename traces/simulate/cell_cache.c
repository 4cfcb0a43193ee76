#include "traces/simulate/cell_cache.h"

#include "base/base.h"
#include "base/cache_folder.h"
#include "base/siphash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cell_cache {
    char *directory;
    char program[33];
};

static void hex128(uint64_t low, uint64_t high, char hex[33])
{
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)low, (unsigned long long)high);
}

/* The bytes that run: another build is another engine. */
static bool hash_program(char hex[33])
{
    FILE *file = fopen("/proc/self/exe", "rb");
    if (!file) return false;
    struct siphash hash;
    siphash_begin(&hash, 0, 0);
    char bytes[65536];
    size_t count;
    while ((count = fread(bytes, 1, sizeof bytes, file)) > 0)
        siphash_add(&hash, bytes, count);
    bool whole = !ferror(file);
    fclose(file);
    uint64_t low, high;
    siphash_end(&hash, &low, &high);
    hex128(low, high, hex);
    return whole;
}

/* 0, or errno: why no file can be kept there. */
static int check_directory(const char *path)
{
    struct stat found;
    if (stat(path, &found) != 0) return errno;
    if (!S_ISDIR(found.st_mode)) return ENOTDIR;
    return access(path, R_OK | W_OK | X_OK) == 0 ? 0 : errno;
}

struct cell_cache *cell_cache_open(const char *directory)
{
    struct cell_cache *cache = must_alloc(sizeof *cache);
    cache->directory = directory ? must_strdup(directory) : cache_folder("simulate");
    int problem = cache->directory ? make_folders(cache->directory) : ENOENT;
    if (problem == 0) problem = check_directory(cache->directory);
    if (problem == 0 && hash_program(cache->program)) return cache;
    log_warn("no cache of finished searches: %s: %s",
             cache->directory ? cache->directory : "neither HOME nor XDG_CACHE_HOME is set",
             strerror(problem ? problem : EIO));
    cell_cache_free(cache);
    return NULL;
}

void cell_cache_free(struct cell_cache *cache)
{
    if (!cache) return;
    free(cache->directory);
    free(cache);
}

/* Everything that a search's result depends on, as text. Caller frees. */
static char *key_text(const struct cell_cache *cache, const struct setting *setting,
                      const struct search_options *options)
{
    struct strbuf key = {0};
    char requests[33];
    json_t *profile = profile_json(setting->profile);
    char *profile_text = json_dumps(profile, JSON_COMPACT | JSON_SORT_KEYS);
    source_identity(setting->source, requests);
    strbuf_format(&key, "program %s requests %s profile %s policy %s chunk %d%s%s ", cache->program,
                  requests, profile_text ? profile_text : "", setting->policy_name, setting->chunk,
                  setting->chunk_by_slo ? " by slo" : "",
                  setting->admission == ADMISSION_REFUSE ? " refuse" : "");
    strbuf_format(
        &key, "slo %lld %lld kind %d target %.17g warm %lld seeds %llu x %d hint %.17g%s ",
        (long long)setting->slo.ttft_us, (long long)setting->slo.tpot_us, (int)setting->kind,
        setting->target, (long long)setting->warm_us, (unsigned long long)setting->seed,
        options->seeds, options->hint, options->from_hint ? " or more" : "");
    if (setting->predictor_bias) strbuf_format(&key, " bias %.17g ", setting->predictor_bias);
    if (setting->closed) strbuf_format(&key, "closed %lld", (long long)setting->duration_us);
    for (int i = 0; setting->closed && i < options->clients->count; i++)
        strbuf_format(&key, " %lld", (long long)options->clients->values[i]);
    free(profile_text);
    json_decref(profile);
    return strbuf_take(&key);
}

static char *path_of(const struct cell_cache *cache, const char *key)
{
    struct siphash hash;
    uint64_t low, high;
    char hex[33];
    struct strbuf path = {0};
    siphash_begin(&hash, 0, 0);
    siphash_add(&hash, key, strlen(key));
    siphash_end(&hash, &low, &high);
    hex128(low, high, hex);
    strbuf_format(&path, "%s/%s.json", cache->directory, hex);
    return strbuf_take(&path);
}

static json_t *cell_json(const struct cell *cell)
{
    json_t *scores = json_array();
    for (int kind = 0; kind < SLO_KINDS; kind++)
        json_array_append_new(scores, json_pack("[fff]", cell->slo[kind].attainment,
                                                cell->slo[kind].requests_per_s,
                                                cell->slo[kind].tokens_per_s));
    return json_pack("{sI so}", "requests", (json_int_t)cell->requests, "slo", scores);
}

/* A point that is not whole says no more than that. */
static json_t *point_json(const struct point *point, int32_t seeds)
{
    json_t *cells = json_array();
    for (int32_t seed = 0; seed < seeds && point->whole; seed++)
        json_array_append_new(cells, cell_json(&point->cells[seed]));
    return json_pack("{sf si so}", "load", point->load, "level", (int)point->level, "cells", cells);
}

static bool cell_read(json_t *json, struct cell *cell)
{
    json_int_t requests;
    json_t *scores;
    if (json_unpack(json, "{sI so}", "requests", &requests, "slo", &scores) ||
        json_array_size(scores) != SLO_KINDS)
        return false;
    cell->requests = requests;
    for (size_t kind = 0; kind < SLO_KINDS; kind++) {
        struct slo_result *slo = &cell->slo[kind];
        if (json_unpack(json_array_get(scores, kind), "[FFF]", &slo->attainment,
                        &slo->requests_per_s, &slo->tokens_per_s))
            return false;
    }
    return true;
}

static bool point_read(json_t *json, int32_t seeds, struct point *point)
{
    json_t *cells;
    int level;
    if (json_unpack(json, "{sF si so}", "load", &point->load, "level", &level, "cells", &cells))
        return false;
    point->level = level;
    point->whole = json_array_size(cells) > 0;
    if (point->whole && json_array_size(cells) != (size_t)seeds) return false;
    for (int32_t seed = 0; seed < seeds && point->whole; seed++)
        if (!cell_read(json_array_get(cells, (size_t)seed), &point->cells[seed])) return false;
    return true;
}

static bool search_read(json_t *json, const char *key, struct search *search)
{
    const char *found;
    json_t *points;
    if (json_unpack(json, "{ss so}", "key", &found, "points", &points) || strcmp(found, key) != 0 ||
        json_array_size(points) < 1 || json_array_size(points) > SEARCH_POINTS)
        return false;
    for (size_t i = 0; i < json_array_size(points); i++)
        if (!point_read(json_array_get(points, i), search->seeds, search_add_point(search)))
            return false;
    return true;
}

bool cell_cache_get(const struct cell_cache *cache, const struct setting *setting,
                    const struct search_options *options, struct search *search)
{
    if (!cache) return false;
    char *key = key_text(cache, setting, options), *path = path_of(cache, key);
    json_t *json = json_load_file(path, 0, NULL);
    *search = (struct search){.seeds = options->seeds};
    bool found = json && search_read(json, key, search);
    if (found)
        search_conclude(setting, search);
    else
        search_release(search);
    json_decref(json);
    free(path);
    free(key);
    return found;
}

void cell_cache_put(const struct cell_cache *cache, const struct setting *setting,
                    const struct search_options *options, const struct search *search)
{
    if (!cache) return;
    char *key = key_text(cache, setting, options), *path = path_of(cache, key);
    json_t *points = json_array();
    for (int32_t i = 0; i < search->count; i++)
        json_array_append_new(points, point_json(&search->points[i], search->seeds));
    json_t *json = json_pack("{ss so}", "key", key, "points", points);
    /* Under a name of its own first: a run that is stopped here leaves nothing half written. */
    struct strbuf partial = {0};
    strbuf_format(&partial, "%s.%d", path, (int)getpid());
    if (json_dump_file(json, partial.data, JSON_COMPACT | JSON_REAL_PRECISION(17)) != 0 ||
        rename(partial.data, path) != 0)
        remove(partial.data);
    strbuf_free(&partial);
    json_decref(json);
    free(path);
    free(key);
}
