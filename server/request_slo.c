#include "server/request_slo.h"
#include "server/request_content.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_MS ((double)SLO_LEAST_US / 1e3)
#define MOST_MS  ((double)SLO_MOST_US / 1e3)
#define NONE     "none"

static bool in_range(double ms)
{
    return ms >= LEAST_MS && ms <= MOST_MS;
}

static bool parse_target(const json_t *value, const char *name, int64_t *us,
                         struct api_error *error)
{
    if (!value) return true;
    if (json_is_string(value) && strcmp(json_string_value(value), NONE) == 0) {
        *us = API_SLO_NONE;
        return true;
    }
    if (!json_is_number(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name,
                      "%s must be a number of milliseconds or \"" NONE "\", not %s", name,
                      json_type_name(value));
    double ms = json_number_value(value);
    if (!in_range(ms))
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "%s must be a number of milliseconds between %g and %g (or \"" NONE
                      "\"), not %g",
                      name, LEAST_MS, MOST_MS, ms);
    *us = llround(ms * 1000);
    return true;
}

bool parse_slo(struct api_request *request, struct api_error *error)
{
    json_t *slo = json_object_get(request->root, "slo");
    if (!slo || json_is_null(slo)) return true;
    if (!json_is_object(slo))
        return refuse(error, REFUSAL_INVALID_TYPE, "slo", "slo must be an object, not %s",
                      json_type_name(slo));
    return parse_target(json_field(slo, "ttft_ms"), "slo.ttft_ms", &request->slo.ttft_us, error) &&
           parse_target(json_field(slo, "tpot_ms"), "slo.tpot_ms", &request->slo.tpot_us, error);
}

int64_t slo_header_us(const char *value)
{
    if (value && strcmp(value, NONE) == 0) return API_SLO_NONE;
    /* strtod alone would also take blanks, "inf", "nan" and hexadecimal. */
    if (!value || !*value || value[strspn(value, "0123456789.eE+-")]) return 0;
    char *end;
    double ms = strtod(value, &end);
    return !*end && in_range(ms) ? llround(ms * 1000) : 0;
}

void slo_override(struct api_slo *slo, const struct api_slo *headers)
{
    if (headers->ttft_us) slo->ttft_us = headers->ttft_us;
    if (headers->tpot_us) slo->tpot_us = headers->tpot_us;
}

static int64_t settle(int64_t named_us, int64_t server_us)
{
    return named_us == API_SLO_NONE ? 0 : named_us ? named_us : server_us;
}

struct request_slo slo_settle(const struct api_slo *named, const struct request_slo *server)
{
    return (struct request_slo){settle(named->ttft_us, server->ttft_us),
                                settle(named->tpot_us, server->tpot_us)};
}
