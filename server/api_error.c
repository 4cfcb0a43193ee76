#include "server/api_error.h"
#include "server/render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int status;
    const char *code;
} refusals[REFUSALS] = {
#define X(name, status, code) [REFUSAL_##name] = {status, code},
    REFUSAL_MAP(X)
#undef X
};

bool refuse(struct api_error *error, enum refusal refusal, const char *param, const char *format,
            ...)
{
    error->refusal = refusal;
    error->retry_after = refusals[refusal].status == 503 ? 1 : 0;
    snprintf(error->param, sizeof error->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return false;
}

bool refuse_memory(struct api_error *error)
{
    return refuse(error, REFUSAL_NO_MEMORY, NULL,
                  "the server is short of memory; try again in a moment");
}

int refusal_status(enum refusal refusal)
{
    return refusals[refusal].status;
}

const char *refusal_code(enum refusal refusal)
{
    return refusals[refusal].code;
}

static const char *error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 500:
        return "server_error";
    case 503:
        return "service_unavailable_error";
    default:
        return "invalid_request_error";
    }
}

void api_error_render(const struct api_error *error, struct strbuf *out)
{
    strbuf_text(out, "{\"error\":{\"message\":");
    render_json_string(out, error->message, strlen(error->message));
    strbuf_format(out, ",\"type\":\"%s\",\"param\":", error_type(refusal_status(error->refusal)));
    if (error->param[0]) {
        render_json_string(out, error->param, strlen(error->param));
    } else {
        strbuf_text(out, "null");
    }
    strbuf_format(out, ",\"code\":\"%s\"}}", refusal_code(error->refusal));
}
