#include "server/request_slo.h"
#include "server/request_content.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_MS 0.001 /* a microsecond: what is kept */
#define MOST_MS  1e9   /* eleven days */

static bool to_us(double ms, const char *name, int64_t *us, struct api_error *error)
{
    if (!(ms >= LEAST_MS && ms <= MOST_MS))
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "%s must be a number of milliseconds between %g and %g, not %g", name,
                      LEAST_MS, MOST_MS, ms);
    *us = llround(ms * 1000);
    return true;
}

static bool parse_target(const json_t *value, const char *name, int64_t *us,
                         struct api_error *error)
{
    if (!value) return true;
    if (!json_is_number(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name,
                      "%s must be a number of milliseconds, not %s", name, json_type_name(value));
    return to_us(json_number_value(value), name, us, error);
}

/* A misspelt target would be an SLO that nobody keeps. */
static bool check_names(json_t *slo, struct api_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(slo, name, value)
    {
        if (strcmp(name, "ttft_ms") == 0 || strcmp(name, "tpot_ms") == 0 || json_is_null(value))
            continue;
        char path[64];
        snprintf(path, sizeof path, "slo.%.40s", name);
        return refuse(error, REFUSAL_INVALID_VALUE, path,
                      "%s is not allowed; slo takes ttft_ms, tpot_ms", path);
    }
    return true;
}

bool parse_slo(struct api_request *request, struct api_error *error)
{
    json_t *slo = json_object_get(request->root, "slo");
    if (!slo || json_is_null(slo)) return true;
    if (!json_is_object(slo))
        return refuse(error, REFUSAL_INVALID_TYPE, "slo", "slo must be an object, not %s",
                      json_type_name(slo));
    return check_names(slo, error) &&
           parse_target(json_field(slo, "ttft_ms"), "slo.ttft_ms", &request->slo.ttft_us, error) &&
           parse_target(json_field(slo, "tpot_ms"), "slo.tpot_ms", &request->slo.tpot_us, error);
}

bool parse_slo_header(const char *name, const char *value, int64_t *us, struct api_error *error)
{
    if (!value) return true;
    size_t length = strlen(value);
    /* strtod alone would also take blanks, "inf", "nan" and hexadecimal. */
    bool plain = length && strspn(value, "0123456789.eE+-") == length;
    char *end = NULL;
    double ms = plain ? strtod(value, &end) : 0;
    if (!plain || *end)
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "the header %s must be a number of milliseconds, not '%.40s'", name, value);
    return to_us(ms, name, us, error);
}

void slo_override(struct api_slo *slo, const struct api_slo *headers)
{
    if (headers->ttft_us) slo->ttft_us = headers->ttft_us;
    if (headers->tpot_us) slo->tpot_us = headers->tpot_us;
}
