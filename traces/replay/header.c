#include "traces/replay/header.h"
#include "base/base.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

static void set(json_t *object, const char *key, json_t *value)
{
    invariant(!json_object_set_new(object, key, value), "the header could not be made");
}

static json_t *text_or_null(const char *text)
{
    return text ? results_text(text) : json_null();
}

static json_t *machine(void)
{
    char *words = report_machine();
    json_t *json = results_text(words);
    free(words);
    return json;
}

static json_t *date(void)
{
    char words[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(words, sizeof words, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_string(words);
}

static json_t *pacing_json(const struct replay_settings *s)
{
    const char *mode = s->concurrency ? "closed loop" : s->rate > 0 ? "poisson" : "trace";
    json_t *json =
        json_pack("{s:s, s:f, s:f}", "mode", mode, "stall_timeout_s", (double)s->stall_us / 1e6,
                  "drain_timeout_s", (double)s->drain_us / 1e6);
    if (s->concurrency) set(json, "concurrency", json_integer(s->concurrency));
    if (s->concurrency == 0 && s->rate > 0) set(json, "rate_per_s", json_real(s->rate));
    if (s->concurrency == 0 && !(s->rate > 0)) set(json, "rate_scale", json_real(s->rate_scale));
    if (s->requests) set(json, "requests", json_integer(s->requests));
    if (s->duration_us) set(json, "duration_s", json_real((double)s->duration_us / 1e6));
    return json;
}

static json_t *trace_json(const struct header_facts *facts)
{
    const struct trace_read_counts *read = facts->read;
    return json_pack("{s:o, s:s, s:I, s:I}", "file", results_text(facts->options->trace), "format",
                     trace_format_name(read->format), "requests", (json_int_t)facts->trace->count,
                     "bad_lines", (json_int_t)read->bad_lines);
}

static json_t *prompts_json(const struct header_facts *facts)
{
    const struct prompts *prompts = facts->prompts;
    json_t *json =
        json_pack("{s:s, s:b, s:o, s:i, s:I}", "source", prompts_source(prompts), "exact",
                  prompts_check(prompts) != PROMPTS_ESTIMATED, "check",
                  results_text(prompts_check_words(prompts)), "added_by_server",
                  prompts_added(prompts), "beyond_context", (json_int_t)facts->beyond_context);
    set(json, "seed", json_integer((json_int_t)facts->settings->prompt_seed));
    if (facts->settings->max_prompt)
        set(json, "max_prompt", json_integer(facts->settings->max_prompt));
    return json;
}

json_t *header_make(const struct header_facts *facts)
{
    static const char *const modes[] = {"stages", "n", "flat"};
    const struct replay_settings *s = facts->settings;
    const struct target *target = facts->target;
    json_t *json = json_object();
    set(json, "espalier_replay", json_integer(1));
    set(json, "command", results_text(facts->options->command));
    set(json, "version", json_string(ESPALIER_VERSION));
    set(json, "libcurl", json_string(curl_version_info(CURLVERSION_NOW)->version));
    set(json, "started", date());
    set(json, "machine", machine());
    set(json, "policy", json_null()); /* a server does not say which it runs */
    set(json, "url", results_text(target->base));
    set(json, "model", results_text(target->model));
    set(json, "server_version", text_or_null(target->version));
    set(json, "max_model_len",
        target->max_model_len ? json_integer(target->max_model_len) : json_null());
    set(json, "endpoint",
        json_string(s->endpoint == ENDPOINT_CHAT ? "chat/completions" : "completions"));
    set(json, "branches", json_string(modes[s->branches]));
    set(json, "slo",
        json_pack("{s:f, s:f}", "ttft_ms", (double)s->slo.ttft_us / 1e3, "tpot_ms",
                  (double)s->slo.tpot_us / 1e3));
    set(json, "slo_kind", json_string(slo_kind_name(facts->options->kind)));
    set(json, "attainment_target", json_real(facts->options->attainment));
    set(json, "seed", json_integer((json_int_t)s->seed));
    set(json, "pacing", pacing_json(s));
    set(json, "trace", trace_json(facts));
    set(json, "prompts", prompts_json(facts));
    if (facts->options->goodput)
        set(json, "search",
            json_pack("{s:f, s:f, s:s}", "attainment", facts->options->attainment, "rate_per_s",
                      s->rate, "slo_kind", slo_kind_name(facts->options->kind)));
    return json;
}

json_t *header_end(const struct client_counts *counts)
{
    return json_pack("{s:I, s:I, s:I, s:b, s:b, s:f, s:f}", "sent", (json_int_t)counts->sent,
                     "cut_prompts", (json_int_t)counts->cut_prompts, "lengthened_prompts",
                     (json_int_t)counts->lengthened_prompts, "interrupted", counts->interrupted,
                     "drain_over", counts->drain_over, "wall_s", (double)counts->wall_us / 1e6,
                     "client_cpu_s", counts->cpu_s);
}
