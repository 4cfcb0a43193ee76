#include "server/metrics.h"
#include "kvcache/view.h"
#include "server/render.h"

#include <inttypes.h>
#include <string.h>

/* Upper bounds. Latencies in microseconds: fine below 50 ms, where small models live. */
static const int64_t latency_bounds[] = {
    1000,    2500,    5000,    7500,    10000,   15000,    20000,    30000,    40000,    50000,
    75000,   100000,  150000,  200000,  300000,  400000,   500000,   750000,   1000000,  1500000,
    2000000, 3000000, 4000000, 5000000, 7500000, 10000000, 20000000, 40000000, 60000000, 120000000};
static const int64_t token_bounds[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                       500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
static const int64_t n_bounds[] = {1, 2, 4, 8, 16, 32, 64};

_Static_assert(sizeof latency_bounds / sizeof latency_bounds[0] < HISTOGRAM_BUCKETS, "buckets");

struct bounds {
    const int64_t *values;
    int count;
    double scale; /* from the histogram's unit to the metric's */
};
#define BOUNDS(values, scale)                           \
    {                                                   \
        values, sizeof values / sizeof values[0], scale \
    }
static const struct bounds latency = BOUNDS(latency_bounds, 1e-6);
static const struct bounds tokens = BOUNDS(token_bounds, 1);
static const struct bounds sequences = BOUNDS(n_bounds, 1);

static void add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_count_refusal(struct metrics *metrics, enum refusal refusal)
{
    add(&metrics->refusals[refusal], 1);
}

static const struct bounds *bounds_of(const struct metrics *metrics, const struct histogram *h)
{
    if (h == &metrics->request_n) return &sequences;
    return h == &metrics->prompt_tokens || h == &metrics->generated_tokens ? &tokens : &latency;
}

void metrics_observe(struct metrics *metrics, struct histogram *histogram, int64_t value)
{
    const struct bounds *bounds = bounds_of(metrics, histogram);
    if (value < 0) value = 0;
    int bucket = 0;
    while (bucket < bounds->count && value > bounds->values[bucket])
        bucket++;
    add(&histogram->sum, (uint64_t)value);
    add(&histogram->buckets[bucket], 1);
}

/* --- text */

static void head(struct strbuf *out, const char *name, const char *type, const char *help)
{
    strbuf_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void number(struct strbuf *out, const char *name, const char *type, const char *help,
                   double value)
{
    head(out, name, type, help);
    strbuf_format(out, "%s %.15g\n", name, value);
}

static void histogram(struct strbuf *out, const struct metrics *metrics, const struct histogram *h,
                      const char *name, const char *help)
{
    const struct bounds *bounds = bounds_of(metrics, h);
    head(out, name, "histogram", help);
    uint64_t total = 0;
    for (int i = 0; i < bounds->count; i++) {
        total += get(&h->buckets[i]);
        strbuf_format(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                      (double)bounds->values[i] * bounds->scale, total);
    }
    total += get(&h->buckets[bounds->count]);
    strbuf_format(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
    strbuf_format(out, "%s_sum %.15g\n%s_count %" PRIu64 "\n", name,
                  (double)get(&h->sum) * bounds->scale, name, total);
}

static void requests(struct strbuf *out, const struct metrics *metrics)
{
    head(out, "espalier_requests_total", "counter", "Completion requests that ended, by outcome.");
    for (int i = 0; i <= FINISH_ERROR; i++)
        strbuf_format(out, "espalier_requests_total{outcome=\"%s\"} %" PRIu64 "\n",
                      finish_reason_name((enum finish_reason)i), get(&metrics->outcomes[i]));
    head(out, "espalier_refusals_total", "counter", "Requests answered with an error, by reason.");
    for (int i = 0; i < REFUSALS; i++)
        strbuf_format(out, "espalier_refusals_total{reason=\"%s\",status=\"%d\"} %" PRIu64 "\n",
                      refusal_code((enum refusal)i), refusal_status((enum refusal)i),
                      get(&metrics->refusals[i]));
    number(out, "espalier_disconnects_total", "counter",
           "Clients that left before their answer was complete.",
           (double)get(&metrics->disconnects));
}

static void latencies(struct strbuf *out, const struct metrics *m)
{
    static const struct {
        size_t offset;
        const char *name, *help;
    } all[] = {
#define H(member, name, help) {offsetof(struct metrics, member), name, help}
        H(ttft, "espalier_time_to_first_token_seconds",
          "From the whole request to its first token."),
        H(itl, "espalier_inter_token_latency_seconds", "Between two tokens of one sequence."),
        H(tpot, "espalier_time_per_output_token_seconds",
          "Mean of a sequence's tokens after the first."),
        H(e2e, "espalier_e2e_request_latency_seconds", "From the whole request to its last token."),
        H(queue, "espalier_request_queue_time_seconds",
          "From the whole request to its first step."),
        H(prefill, "espalier_request_prefill_time_seconds",
          "From the first step to the first token."),
        H(decode, "espalier_request_decode_time_seconds", "From the first token to the last."),
        H(prompt_tokens, "espalier_request_prompt_tokens", "Tokens of a request's prompts."),
        H(generated_tokens, "espalier_request_generation_tokens", "Tokens of a request's answers."),
        H(request_n, "espalier_request_params_n", "Sequences of a request."),
#undef H
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        histogram(out, m, (const struct histogram *)((const char *)m + all[i].offset), all[i].name,
                  all[i].help);
}

static void engine(struct strbuf *out, const struct scheduler_counters *c)
{
    number(out, "espalier_prompt_tokens_total", "counter",
           "Prompt tokens computed or cached, those of stages and branches too.",
           (double)(c->prompt_tokens + c->cached_tokens));
    number(out, "espalier_generation_tokens_total", "counter", "Tokens generated.",
           (double)c->generated_tokens);
    number(out, "espalier_cached_prompt_tokens_total", "counter",
           "Prompt tokens that were found in the cache.", (double)c->cached_tokens);
    number(out, "espalier_preemptions_total", "counter",
           "Sequences that gave their blocks back and were computed again.",
           (double)c->preemptions);
    number(out, "espalier_steps_total", "counter", "Steps of the engine.", (double)c->steps);
    number(
        out, "espalier_executor_seconds_total", "counter",
        "Time that the engine spent in the model's steps; all else of a busy second is overhead.",
        (double)c->executor_us * 1e-6);
    number(out, "espalier_deferred_rows_total", "counter",
           "Sequences that could have used a row of a step and got none: the policy, or the most "
           "rows.",
           (double)c->deferred_rows);
    number(out, "espalier_step_predictions_total", "counter",
           "Steps whose latency was predicted before they ran.", (double)c->predicted_steps);
    number(out, "espalier_step_prediction_error_total", "counter",
           "Of these, the sum of |predicted - measured| / measured: the mean error, times them.",
           c->prediction_error);
    number(out, "espalier_step_predicted_seconds_total", "counter",
           "Of these, the latencies predicted.", c->predicted_us * 1e-6);
    number(out, "espalier_step_measured_seconds_total", "counter",
           "Of these, the latencies measured.", c->measured_us * 1e-6);
    number(out, "espalier_step_rows", "gauge", "Rows of the last step.", c->step_rows);
    number(out, "espalier_step_tokens", "gauge", "Tokens of the last step.", c->step_tokens);
    number(out, "espalier_sequences_running", "gauge", "Sequences being computed.", c->running);
    number(out, "espalier_requests_waiting", "gauge", "Requests waiting for a place.", c->waiting);
    head(out, "espalier_kv_blocks", "gauge", "Blocks of the KV cache, by state.");
    strbuf_format(out,
                  "espalier_kv_blocks{state=\"free\"} %d\nespalier_kv_blocks{state=\"held\"} %d\n"
                  "espalier_kv_blocks{state=\"cached\"} %d\n",
                  c->blocks_free, c->blocks_held, c->blocks_cached);
}

/* The names that routers and pickers read today (vLLM's). Evictable cached blocks are not "used".
 */
static void aliases(struct strbuf *out, const struct metrics_view *view)
{
    const struct scheduler_counters *c = &view->engine;
    struct strbuf name = {0};
    render_json_string(&name, view->model, strlen(view->model));
    struct {
        const char *name, *help;
        double value;
    } gauges[] = {
        {"vllm:num_requests_running", "Alias of espalier_sequences_running.", c->running},
        {"vllm:num_requests_waiting", "Alias of espalier_requests_waiting.", c->waiting},
        {"vllm:kv_cache_usage_perc", "Held KV blocks as a fraction of all.",
         c->blocks_total ? (double)c->blocks_held / c->blocks_total : 0},
    };
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++) {
        head(out, gauges[i].name, "gauge", gauges[i].help);
        strbuf_format(out, "%s{model_name=%s} %.15g\n", gauges[i].name, strbuf_cstr(&name),
                      gauges[i].value);
    }
    head(out, "vllm:cache_config_info", "gauge", "The KV cache's shape.");
    strbuf_format(out, "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%d\"} 1\n",
                  KV_BLOCK_SLOTS, c->blocks_total);
    strbuf_free(&name);
}

void metrics_render(struct metrics *metrics, const struct metrics_view *view, struct strbuf *out)
{
    head(out, "espalier_build_info", "gauge", "The version that serves.");
    strbuf_text(out, "espalier_build_info{version=\"" ESPALIER_VERSION "\"} 1\n");
    number(out, "espalier_ready", "gauge", "1 once the model is loaded.", view->model ? 1 : 0);
    number(out, "espalier_connections", "gauge", "Open connections.", view->connections);
    number(out, "espalier_active_requests", "gauge", "Requests accepted and not yet answered.",
           view->active_requests);
    number(out, "espalier_body_bytes", "gauge", "Bytes of request bodies held, of --max-bodies.",
           (double)view->body_bytes);
    number(out, "espalier_answer_bytes", "gauge",
           "Bytes that answers under way may grow to, of --max-answers.",
           (double)view->answer_bytes);
    requests(out, metrics);
    latencies(out, metrics);
    slo_classes_render(&metrics->slo, out);
    engine(out, &view->engine);
    if (view->model) aliases(out, view);
}
