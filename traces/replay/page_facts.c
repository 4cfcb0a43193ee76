#include "traces/replay/page_facts.h"
#include "base/base.h"
#include "traces/replay/summary.h"
#include "traces/results/rows.h"

#include <stdlib.h>
#include <string.h>

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* " 7 of them" where there are any. */
static void add_count(struct strbuf *out, const char *before, double count, const char *behind)
{
    if (count > 0) strbuf_format(out, "%s%.15g%s", before, count, behind);
}

/* " 7 requests", " 1 request". */
static void add_many(struct strbuf *out, const char *before, double count, const char *noun,
                     const char *behind)
{
    if (count > 0)
        strbuf_format(out, "%s%.15g %s%s%s", before, count, noun, count == 1 ? "" : "s", behind);
}

static void server(const json_t *header, struct strbuf *out)
{
    const char *url = text_at(header, "url"), *version = text_at(header, "server_version");
    if (url) strbuf_text(out, url);
    if (url && version) strbuf_format(out, ", version %s", version);
}

static void model(const json_t *header, struct strbuf *out)
{
    const char *name = text_at(header, "model");
    if (!name) return;
    strbuf_text(out, name);
    add_count(out, ", context of ", number_at(header, "max_model_len"), " tokens");
}

static void trace(const json_t *header, struct strbuf *out)
{
    const json_t *facts = json_object_get(header, "trace");
    const char *file = text_at(facts, "file"), *format = text_at(facts, "format");
    if (!file) return;
    strbuf_text(out, file);
    if (format) strbuf_format(out, " (%s)", format);
    add_many(out, ", ", number_at(facts, "requests"), "request", "");
    add_many(out, ", ", number_at(facts, "bad_lines"), "malformed line", " left out");
}

static void arrivals(const json_t *header, struct strbuf *out)
{
    const json_t *pacing = json_object_get(header, "pacing");
    const char *mode = text_at(pacing, "mode");
    double scale = number_at(pacing, "rate_scale");
    if (!mode) return;
    if (!strcmp(mode, "poisson")) {
        char rate[32];
        results_rate_text(rate, sizeof rate, number_at(pacing, "rate_per_s"));
        strbuf_format(out, "Poisson, %s requests/s, seed %.15g", rate, number_at(header, "seed"));
    } else if (!strcmp(mode, "closed loop"))
        add_many(out, "closed loop, ", number_at(pacing, "concurrency"), "request", " at a time");
    else
        strbuf_text(out, "at the trace's times");
    if (scale > 0 && scale != 1) add_count(out, " divided by ", scale, "");
    add_many(out, "; at most ", number_at(pacing, "requests"), "request", "");
    add_count(out, "; for ", number_at(pacing, "duration_s"), " s");
}

static void sent_as(const json_t *header, struct strbuf *out)
{
    const char *endpoint = text_at(header, "endpoint"), *branches = text_at(header, "branches");
    if (endpoint) strbuf_format(out, "/v1/%s", endpoint);
    if (!endpoint || !branches) return;
    strbuf_format(out, ", branches as %s",
                  !strcmp(branches, "n")      ? "n answers"
                  : !strcmp(branches, "flat") ? "one answer"
                                              : branches);
}

static void prompts(const json_t *header, struct strbuf *out)
{
    const json_t *facts = json_object_get(header, "prompts");
    const char *source = text_at(facts, "source"), *check = text_at(facts, "check");
    if (!source || !check) return;
    bool exact = json_is_true(json_object_get(facts, "exact"));
    strbuf_format(out, "%s, %s%s", source, exact ? "" : "lengths estimated: ", check);
    add_count(out, "; the server adds ", number_at(facts, "added_by_server"), " of its own");
    add_count(out, "; cut to ", number_at(facts, "max_prompt"), " tokens");
    add_many(out, "; ", number_at(facts, "beyond_context"), "request", " beyond the context");
    add_count(out, "; seed ", number_at(facts, "seed"), "");
}

static void limits(const json_t *header, struct strbuf *out)
{
    char *words = summary_limits(header);
    strbuf_text(out, words);
    free(words);
}

static void recorded(const json_t *header, struct strbuf *out)
{
    const char *words = text_at(header, "recorded_command");
    if (words) strbuf_text(out, words);
}

static void version(const json_t *header, struct strbuf *out)
{
    const char *own = text_at(header, "version"), *libcurl = text_at(header, "libcurl");
    if (own) strbuf_format(out, "espalier %s", own);
    if (own && libcurl) strbuf_format(out, ", libcurl %s", libcurl);
}

static void machine(const json_t *header, struct strbuf *out)
{
    const char *words = text_at(header, "machine");
    if (words) strbuf_text(out, words);
}

void page_facts_make(const json_t *header, struct page_facts *facts)
{
    static const struct {
        const char *name;
        void (*write)(const json_t *header, struct strbuf *out);
    } rows[PAGE_FACTS] = {
        {"server", server},   {"model", model},     {"trace", trace}, {"arrivals", arrivals},
        {"sent as", sent_as}, {"prompts", prompts}, {"SLO", limits},  {"recorded by", recorded},
        {"version", version}, {"machine", machine},
    };
    facts->count = 0;
    for (size_t i = 0; i < PAGE_FACTS; i++) {
        struct strbuf words = {0};
        rows[i].write(header, &words);
        if (words.length)
            facts->list[facts->count++] = (struct report_fact){rows[i].name, strbuf_take(&words)};
        else
            strbuf_free(&words);
    }
}

void page_facts_free(struct page_facts *facts)
{
    for (size_t i = 0; i < facts->count; i++)
        free((char *)facts->list[i].text);
    facts->count = 0;
}
