#include "server/metrics.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct metrics metrics;

static char *render(const struct metrics_view *view)
{
    struct strbuf out = {0};
    metrics_render(&metrics, view, &out);
    return strbuf_take(&out);
}

static void expect_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    cr_expect(at && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n', "no line '%s'",
              line);
}

Test(metrics, histograms_are_cumulative_and_in_seconds)
{
    metrics_observe(&metrics, &metrics.itl, 1000); /* a bound belongs to its bucket */
    metrics_observe(&metrics, &metrics.itl, 1001);
    metrics_observe(&metrics, &metrics.itl, 35000);
    metrics_observe(&metrics, &metrics.itl, 999000000);
    metrics_observe(&metrics, &metrics.itl, -5); /* a clock that went back */
    char *text = render(&(struct metrics_view){0});
    expect_line(text, "# TYPE espalier_inter_token_latency_seconds histogram");
    expect_line(text, "espalier_inter_token_latency_seconds_bucket{le=\"0.001\"} 2");
    expect_line(text, "espalier_inter_token_latency_seconds_bucket{le=\"0.0025\"} 3");
    expect_line(text, "espalier_inter_token_latency_seconds_bucket{le=\"0.03\"} 3");
    expect_line(text, "espalier_inter_token_latency_seconds_bucket{le=\"0.04\"} 4");
    expect_line(text, "espalier_inter_token_latency_seconds_bucket{le=\"120\"} 4");
    expect_line(text, "espalier_inter_token_latency_seconds_bucket{le=\"+Inf\"} 5");
    expect_line(text, "espalier_inter_token_latency_seconds_count 5");
    expect_line(text, "espalier_inter_token_latency_seconds_sum 999.037001");
    free(text);
}

Test(metrics, small_models_have_fine_buckets)
{
    char *text = render(&(struct metrics_view){0});
    const char *bounds[] = {"0.001", "0.0025", "0.005", "0.0075", "0.015", "0.02", "0.03", "0.04"};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        char line[128];
        snprintf(line, sizeof line, "espalier_time_to_first_token_seconds_bucket{le=\"%s\"} 0",
                 bounds[i]);
        expect_line(text, line);
    }
    free(text);
}

Test(metrics, routers_find_their_five_names)
{
    struct metrics_view view = {
        .model = "a \"b\"",
        .engine = {.running = 3,
                   .waiting = 2,
                   .blocks_total = 8,
                   .blocks_held = 2,
                   .blocks_cached = 5,
                   .blocks_free = 1},
    };
    char *text = render(&view);
    expect_line(text, "vllm:num_requests_running{model_name=\"a \\\"b\\\"\"} 3");
    expect_line(text, "vllm:num_requests_waiting{model_name=\"a \\\"b\\\"\"} 2");
    expect_line(text, "vllm:kv_cache_usage_perc{model_name=\"a \\\"b\\\"\"} 0.25");
    expect_line(text, "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"8\"} 1");
    expect_line(text, "espalier_kv_blocks{state=\"cached\"} 5");
    free(text);
}

Test(metrics, how_good_predictions_are)
{
    struct metrics_view view = {.engine = {.predicted_steps = 8,
                                           .predicted_us = 2.5e6,
                                           .measured_us = 2e6,
                                           .prediction_error = 0.75}};
    char *text = render(&view);
    expect_line(text, "espalier_step_predictions_total 8");
    expect_line(text, "espalier_step_prediction_error_total 0.75");
    expect_line(text, "espalier_step_predicted_seconds_total 2.5");
    expect_line(text, "espalier_step_measured_seconds_total 2");
    free(text);
}

Test(metrics, refusals_are_told_apart)
{
    metrics_count_refusal(&metrics, REFUSAL_QUEUE_FULL);
    metrics_count_refusal(&metrics, REFUSAL_QUEUE_FULL);
    char *text = render(&(struct metrics_view){0});
    expect_line(text, "espalier_refusals_total{reason=\"queue_full\",status=\"503\"} 2");
    expect_line(text, "espalier_refusals_total{reason=\"draining\",status=\"503\"} 0");
    expect_line(text, "espalier_ready 0");
    cr_expect_null(strstr(text, "vllm:"), "no model, no aliases");
    free(text);
}
