/* A run's figures as JSON and for people. */
#include "traces/replay/summary.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>

#define STEADY 10 /* a load must last so many times as long as a request */

static void set(json_t *document, const char *key, json_t *value)
{
    invariant(!json_object_set_new(document, key, value), "the JSON of a replay could not be made");
}

void summary_json(const struct summary *summary, const char *notices, const json_t *end,
                  json_t *document)
{
    const struct summary_tally *tally = &summary->tally;
    double rate = summary_send_rate(summary);
    json_t *results = results_json(summary->results, summary->kind);
    json_object_update(document, results);
    json_decref(results);
    set(document, "send",
        json_pack("{s:b, s:f, s:i, s:o, s:o, s:o}", "late", summary_late(summary), "late_share",
                  tally->flights ? (double)tally->late / (double)tally->flights : 0.0,
                  "late_means_ms_over", LATE_US / 1000, "rate_per_s",
                  results_real(rate, isfinite(rate)), "delay_ms",
                  results_distribution_json(&summary->delay_ms), "connect_ms",
                  results_distribution_json(&summary->connect_ms)));
    set(document, "lengths",
        json_pack("{s:I, s:I, s:I, s:I, s:I}", "prompts_counted_by_server",
                  (json_int_t)tally->prompts_told, "prompts_of_other_length",
                  (json_int_t)tally->prompts_otherwise, "answers_of_other_length",
                  (json_int_t)tally->answers_otherwise, "answers_with_several_tokens_a_chunk",
                  (json_int_t)tally->answers_spread, "staged_answers_without_branches",
                  (json_int_t)tally->unbranched));
    set(document, "notices", results_text(notices));
    set(document, "end", end ? json_deep_copy(end) : json_null());
}

static bool flag(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static int64_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void end_notices(const json_t *header, const json_t *end, struct strbuf *out)
{
    if (!end) {
        strbuf_text(out, "The record has no end: whoever wrote it was stopped.\n");
        return;
    }
    if (flag(end, "interrupted"))
        strbuf_text(out, "The run was interrupted; what was under way counts as unfinished.\n");
    if (flag(end, "drain_over"))
        strbuf_text(out, "Some requests were still under way when --drain-timeout was over; they "
                         "count as unfinished.\n");
    int64_t cut = number(end, "cut_prompts"), lengthened = number(end, "lengthened_prompts");
    if (cut)
        strbuf_format(out, "%lld prompt%s cut to --max-prompt.\n", (long long)cut,
                      cut == 1 ? " was" : "s were");
    if (lengthened)
        strbuf_format(out,
                      "%lld prompt%s longer than the trace's: what the server adds by itself "
                      "(tokens of each prompt: %lld) and one word are more.\n",
                      (long long)lengthened, lengthened == 1 ? " was made" : "s were made",
                      (long long)number(json_object_get(header, "prompts"), "added_by_server"));
}

static void length_notices(const struct summary *summary, struct strbuf *out)
{
    const struct summary_tally *tally = &summary->tally;
    long long told = (long long)tally->prompts_told;
    long long completed = summary->results->all.outcomes[OUTCOME_COMPLETED];
    if (tally->prompts_otherwise)
        strbuf_format(out,
                      "%lld of %lld prompts had another length than the trace's, says the "
                      "server's usage.\n",
                      (long long)tally->prompts_otherwise, told);
    if (tally->answers_otherwise)
        strbuf_format(out,
                      "%lld of %lld answers had another number of tokens than was asked for.\n",
                      (long long)tally->answers_otherwise, completed);
    if (tally->answers_spread)
        strbuf_format(out,
                      "%lld of %lld answers had chunks of several tokens; which ones is not "
                      "known, so the times of single tokens are an estimate.\n",
                      (long long)tally->answers_spread, completed);
    if (tally->unbranched)
        strbuf_format(out,
                      "%lld answers that were sent as stages came without branches: does this "
                      "server know \"stages\"? (--branches n or flat)\n",
                      (long long)tally->unbranched);
}

/* A rate means something when requests of it overlap as they would for ever. */
static void search_notice(const struct summary *summary, const json_t *header, struct strbuf *out)
{
    double load_ms = (double)summary->tally.last_due_us / 1e3;
    double request_ms = summary->results->all.e2e_ms.mean;
    if (!json_object_get(header, "search") || load_ms >= STEADY * request_ms) return;
    strbuf_format(
        out,
        "The load lasted %.3g s and a request %.3g s: no steady load; give the search more "
        "--requests or a longer --duration.\n",
        load_ms / 1e3, request_ms / 1e3);
}

char *summary_notices(const struct summary *summary, const json_t *header, const json_t *end)
{
    struct strbuf out = {0};
    if (summary_late(summary))
        strbuf_format(&out,
                      "THE GENERATOR WAS LATE: %.1f %% of the requests went out more than %d ms "
                      "behind their time (p99 %.1f ms, max %.1f ms); the load was not the one that "
                      "was asked for.\n",
                      100.0 * (double)summary->tally.late / (double)summary->tally.flights,
                      LATE_US / 1000, summary->delay_ms.p99, summary->delay_ms.max);
    end_notices(header, end, &out);
    search_notice(summary, header, &out);
    length_notices(summary, &out);
    const json_t *prompts = json_object_get(header, "prompts");
    const char *check = json_string_value(json_object_get(prompts, "check"));
    if (prompts && !flag(prompts, "exact"))
        strbuf_format(&out,
                      "Prompt lengths are estimated, one token a word, and not checked: %s.\n",
                      check ? check : "nothing says why");
    return out.data ? strbuf_take(&out) : must_strdup("");
}

/* "TTFT 500 ms, no limit of TPOT": the fields of `object` that are there. */
static bool limit_list(const json_t *object, bool none_too, struct strbuf *out)
{
    static const char *const names[] = {"TTFT", "TPOT"}, *const keys[] = {"ttft_ms", "tpot_ms"};
    bool any = false;
    for (int i = 0; i < 2; i++) {
        const json_t *field = json_object_get(object, keys[i]);
        double ms = json_number_value(field);
        if (!field || (ms <= 0 && !none_too)) continue;
        if (any) strbuf_text(out, ", ");
        if (ms > 0)
            strbuf_format(out, "%s %.15g ms", names[i], ms);
        else
            strbuf_format(out, "no limit of %s", names[i]);
        any = true;
    }
    return any;
}

char *summary_limits(const json_t *header)
{
    struct strbuf out = {0};
    json_t *anew = json_object_get(json_object_get(header, "judged_anew"), "slo");
    json_t *own = json_copy(json_object_get(header, "slo"));
    const char *key;
    json_t *value;
    json_object_foreach(anew, key, value) json_object_del(own, key);
    if (limit_list(anew, true, &out)) strbuf_text(&out, ", of all requests");
    size_t before = out.length;
    if (before) strbuf_text(&out, "; ");
    if (limit_list(own, false, &out))
        strbuf_text(&out, ", where the trace names none");
    else
        strbuf_truncate(&out, before);
    json_decref(own);
    return out.data ? strbuf_take(&out) : must_strdup("");
}

void summary_print(FILE *out, const struct summary *summary, const json_t *header,
                   const char *notices)
{
    const char *name = "replay";
    const struct results *results = summary->results;
    const struct distribution *delay = &summary->delay_ms;
    results_print(out, &name, &results, 1, summary->kind);
    fprintf(out,
            "\nSend delay: p50 %.2f ms, p99 %.2f ms, max %.2f ms behind the time that was due.\n",
            delay->p50, delay->p99, delay->max);
    char *limits = summary_limits(header);
    fprintf(out, "SLO: %s.\n", *limits ? limits : "as the trace says");
    free(limits);
    fputs(notices, out);
}
