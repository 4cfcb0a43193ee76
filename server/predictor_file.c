#include "server/predictor_file.h"

#include "base/base.h"
#include "base/cache_folder.h"
#include "base/siphash.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_VERSION 1 /* of the numbers: another form of predictor is another version */
#define PRIORS       5

char *predictor_file_path(const char *name, const char *about)
{
    char *folder = cache_folder("steps");
    int problem = folder ? make_folders(folder) : ENOENT;
    if (problem) {
        log_warn("what steps take is not kept between two runs: %s: %s",
                 folder ? folder : "neither XDG_CACHE_HOME nor HOME is set", strerror(problem));
        free(folder);
        return NULL;
    }
    struct siphash hash;
    uint64_t low, high;
    siphash_begin(&hash, 0, 0);
    siphash_add(&hash, about, strlen(about));
    siphash_end(&hash, &low, &high);
    struct strbuf path = {0};
    strbuf_format(&path, "%s/", folder);
    size_t begin = path.length;
    strbuf_format(&path, "%.48s", name);
    for (size_t i = begin; i < path.length; i++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_",
                    path.data[i]))
            path.data[i] = '-';
    strbuf_format(&path, "-%016llx.json", (unsigned long long)low);
    free(folder);
    return strbuf_take(&path);
}

/* --- reading */

static bool read_numbers(const json_t *array, double *numbers, size_t count)
{
    if (!json_is_array(array) || json_array_size(array) != count) return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_number(value)) return false;
        numbers[i] = json_number_value(value);
    }
    return true;
}

static bool read_prior(const json_t *array, struct step_prior *prior)
{
    double numbers[PRIORS];
    if (!read_numbers(array, numbers, PRIORS)) return false;
    for (int i = 0; i < PRIORS; i++)
        if (!(numbers[i] >= STEP_PRIOR_LEAST && numbers[i] <= STEP_PRIOR_MOST)) return false;
    *prior = (struct step_prior){numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]};
    return true;
}

/* NULL, or what is wrong with it. */
static const char *read_json(json_t *json, const char *about, struct predictor *predictor,
                             struct step_prior *prior)
{
    struct step_prior read;
    double *numbers = must_alloc(PREDICTOR_NUMBERS * sizeof *numbers);
    struct predictor *kept = must_alloc(sizeof *kept);
    json_t *version = json_object_get(json, "espalier_steps");
    const char *found = json_string_value(json_object_get(json, "about")), *wrong = NULL;
    if (!json_is_integer(version) || json_integer_value(version) != FILE_VERSION)
        wrong = "it is of another version";
    else if (!found || strcmp(found, about) != 0)
        wrong = "it is about something else";
    else if (!read_prior(json_object_get(json, "prior"), &read))
        wrong = "\"prior\" is not five numbers from 1e-9 to 1e9";
    else if (!read_numbers(json_object_get(json, "learned"), numbers, PREDICTOR_NUMBERS))
        wrong = "\"learned\" has not as many numbers as a predictor";
    if (!wrong) {
        predictor_init(kept, predictor->shared, &read);
        if (!predictor_restore(kept, numbers)) wrong = "the numbers of \"learned\" contradict";
    }
    if (!wrong) *predictor = *kept, *prior = read;
    free(kept);
    free(numbers);
    return wrong;
}

bool predictor_file_read(const char *path, const char *about, struct predictor *predictor,
                         struct step_prior *prior)
{
    json_error_t where;
    FILE *file = fopen(path, "rb");
    if (!file) {
        if (errno != ENOENT) log_warn("%s: %s; steps are learned anew", path, strerror(errno));
        return false;
    }
    json_t *json = json_loadf(file, 0, &where);
    fclose(file);
    const char *wrong = json ? read_json(json, about, predictor, prior) : where.text;
    if (wrong) log_warn("%s: %s; steps are learned anew", path, wrong);
    json_decref(json);
    return !wrong;
}

/* --- writing */

static json_t *numbers_json(const double *numbers, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_real(numbers[i]));
    return array;
}

void predictor_file_write(const char *path, const char *about, const struct step_prior *prior,
                          const struct predictor *predictor)
{
    const double guess[PRIORS] = {prior->fixed_us, prior->token_us, prior->row_us,
                                  prior->context_us, prior->attention_us};
    double *numbers = must_alloc(PREDICTOR_NUMBERS * sizeof *numbers);
    predictor_save(predictor, numbers);
    json_t *json =
        json_pack("{si ss so so}", "espalier_steps", FILE_VERSION, "about", about, "prior",
                  numbers_json(guess, PRIORS), "learned", numbers_json(numbers, PREDICTOR_NUMBERS));
    /* Under a name of its own first: a server that is stopped here leaves nothing half written. */
    struct strbuf partial = {0};
    strbuf_format(&partial, "%s.%d", path, (int)getpid());
    bool written =
        json && json_dump_file(json, partial.data, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) == 0;
    if (!written || rename(partial.data, path) != 0) {
        log_warn("%s: %s; what steps take is not kept", path, strerror(errno));
        remove(partial.data);
    }
    strbuf_free(&partial);
    json_decref(json);
    free(numbers);
}
