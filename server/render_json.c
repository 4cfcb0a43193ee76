/* The pieces of JSON that answers and events are made of. */
#include "model/utf8.h"
#include "server/render_private.h"

#include <inttypes.h>
#include <math.h>

static void escape(struct strbuf *out, unsigned char c)
{
    switch (c) {
    case '"':
        strbuf_text(out, "\\\"");
        break;
    case '\\':
        strbuf_text(out, "\\\\");
        break;
    case '\n':
        strbuf_text(out, "\\n");
        break;
    case '\r':
        strbuf_text(out, "\\r");
        break;
    case '\t':
        strbuf_text(out, "\\t");
        break;
    default:
        strbuf_format(out, "\\u%04x", c);
    }
}

void render_json_string(struct strbuf *out, const char *text, size_t length)
{
    strbuf_char(out, '"');
    size_t plain = 0; /* where the run of bytes that need no change began */
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        struct utf8_step step = utf8_step(text + i, length - i);
        bool as_is = step.kind == UTF8_WHOLE && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
        if (!as_is) {
            strbuf_append(out, text + plain, i - plain);
            if (step.kind == UTF8_WHOLE)
                escape(out, c);
            else
                strbuf_text(out, "\xef\xbf\xbd");
        }
        i += step.length;
        if (!as_is) plain = i;
    }
    strbuf_append(out, text + plain, length - plain);
    strbuf_char(out, '"');
}

const char *finish_reason_name(enum finish_reason reason)
{
    switch (reason) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_ABORT:
        return "abort";
    default:
        return "error";
    }
}

void render_integer(struct strbuf *out, int32_t value)
{
    char digits[11];
    size_t at = sizeof digits;
    uint32_t left = value < 0 ? 0 - (uint32_t)value : (uint32_t)value;
    do {
        digits[--at] = (char)('0' + left % 10);
    } while (left /= 10);
    if (value < 0) digits[--at] = '-';
    strbuf_append(out, digits + at, sizeof digits - at);
}

void render_ids(struct strbuf *out, const struct token_list *list)
{
    strbuf_char(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i) strbuf_char(out, ',');
        render_integer(out, list->ids[i]);
    }
    strbuf_char(out, ']');
}

void render_usage(struct strbuf *out, const struct usage *usage)
{
    strbuf_format(out,
                  "\"usage\":{\"prompt_tokens\":%" PRId64 ",\"completion_tokens\":%" PRId64
                  ",\"total_tokens\":%" PRId64
                  ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRId64 "}}",
                  usage->prompt_tokens, usage->completion_tokens,
                  usage->prompt_tokens + usage->completion_tokens, usage->cached_tokens);
}

static void render_number(struct strbuf *out, const char *name, double ms)
{
    if (isfinite(ms))
        strbuf_format(out, "\"%s\":%.3f,", name, ms);
    else
        strbuf_format(out, "\"%s\":null,", name);
}

void render_timings(struct strbuf *out, const struct timings *t)
{
    strbuf_text(out, "\"timings\":{");
    render_number(out, "queue_ms", t->queue_ms);
    render_number(out, "ttft_ms", t->ttft_ms);
    render_number(out, "tpot_ms", t->tpot_ms);
    render_number(out, "e2e_ms", t->e2e_ms);
    strbuf_format(out, "\"steps\":%" PRId64 ",\"deferred_branch_steps\":%" PRId64 ",\"slo_met\":%s",
                  t->steps, t->deferred_branch_steps,
                  !t->has_slo  ? "null"
                  : t->slo_met ? "true"
                               : "false");
    if (t->malformed_branching) strbuf_text(out, ",\"malformed_branching\":true");
    if (t->empty_outline) strbuf_text(out, ",\"empty_outline\":true");
    if (t->outline_beyond) strbuf_format(out, ",\"outline_beyond\":%d", t->outline_beyond);
    strbuf_char(out, '}');
}
