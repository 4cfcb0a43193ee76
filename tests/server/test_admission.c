/* --admission refuse through HTTP: 429 with Retry-After before any stream, whatever is asked for;
 * nothing that was accepted is lost, and who comes later is taken again. */
#include "support_server.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMPLETIONS "/v1/completions"
#define CHAT        "/v1/chat/completions"

static struct world world;

/* A step takes 100 ms and 10 ms for each token. */
static double predict(const void *self, const struct step_load *load)
{
    (void)self;
    return 1e4 * (10 + load->prefill_tokens + load->decode_rows);
}

static void start(void)
{
    world_init(&world);
    world.scheduling.predictor = (struct step_predictor){.predict = predict};
    world.scheduling.admission = ADMISSION_REFUSE;
    world.slo.ttft_us = 2000000;
    atomic_store(&world.script.gated, true);
}

static bool something_runs(struct world *of)
{
    return atomic_load(&of->script.submitted) > 0;
}

static bool all_is_done(struct world *of)
{
    struct scheduler_counters counters = world_counters(of);
    return counters.running + counters.waiting == 0;
}

/* 640 bytes are as many tokens: ten steps of 740 ms each, of which none goes on before the gate
 * opens. Its client has no limit. */
static int occupy(void)
{
    static char body[1000];
    char text[641];
    memset(text, 'q', 640);
    text[640] = '\0';
    snprintf(body, sizeof body,
             "{\"prompt\":\"%s\",\"max_tokens\":3,\"stream\":true,\"slo\":{\"ttft_ms\":\"none\"}}",
             text);
    int fd = http_connect(&world);
    http_post(fd, COMPLETIONS, body);
    cr_assert(eventually(something_runs, &world));
    return fd;
}

static void open_gate(void)
{
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
}

static void expect_refused(const char *path, const char *body)
{
    char *answer = http_ask(&world, path, body);
    cr_expect_eq(http_status(answer), 429, "%s: %s", body, answer);
    const char *retry = strstr(answer, "\r\nRetry-After: ");
    cr_assert_not_null(retry, "%s", answer);
    int seconds = atoi(retry + strlen("\r\nRetry-After: "));
    cr_expect(seconds >= 4 && seconds <= 7, "%d s, of 7.4 s and its own prompt less 2 s", seconds);
    const char *needed[] = {"\"type\":\"rate_limit_error\"", "\"code\":\"ttft_unattainable\"",
                            "\"param\":\"slo.ttft_ms\"", "within 2 s"};
    for (size_t i = 0; i < COUNT_OF(needed); i++)
        cr_expect_not_null(strstr(answer, needed[i]), "no %s in %s", needed[i], answer);
    cr_expect_null(strstr(answer, "data: "), "%s", answer);
    free(answer);
}

static void expect_ok(const char *path, const char *body)
{
    char *answer = http_ask(&world, path, body);
    cr_expect_eq(http_status(answer), 200, "%s: %s", body, answer);
    free(answer);
}

static const struct {
    const char *path, *body;
} requests[] = {
    {COMPLETIONS, "{\"prompt\":\"abc\",\"max_tokens\":3}"},
    {COMPLETIONS, "{\"prompt\":\"abc\",\"max_tokens\":3,\"stream\":true}"},
    {COMPLETIONS, "{\"prompt\":\"abc\",\"max_tokens\":3,\"n\":4,\"stream\":true}"},
    {COMPLETIONS, "{\"prompt\":[\"abc\",\"bcd\",\"cde\"],\"max_tokens\":3,\"n\":2}"},
    {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"abc\"}],\"max_tokens\":3}"},
    {COMPLETIONS,
     "{\"prompt\":\"abc\",\"stream\":true,\"stages\":[{\"type\":\"serial\",\"max_tokens\":2},"
     "{\"type\":\"parallel\",\"max_tokens\":2,\"branches\":[{\"prompt\":\"A\"},{\"prompt\":"
     "\"B\"}]},{\"type\":\"serial\",\"max_tokens\":2}]}"},
    {COMPLETIONS,
     "{\"prompt\":\"abc\",\"max_tokens\":3,\"branching\":{\"grammar\":\"multiverse\"}}"},
};

Test(admission, what_would_be_late_is_a_429_before_any_stream, .init = start)
{
    world_start(&world);
    int busy = occupy();
    for (size_t i = 0; i < COUNT_OF(requests); i++)
        expect_refused(requests[i].path, requests[i].body);
    char expected[96], *metrics = http_ask(&world, "/metrics", NULL);
    snprintf(expected, sizeof expected,
             "espalier_refusals_total{reason=\"ttft_unattainable\",status=\"429\"} %zu\n",
             COUNT_OF(requests));
    cr_expect_not_null(strstr(metrics, expected), "%s", metrics);
    free(metrics);
    struct scheduler_counters counters = world_counters(&world);
    cr_expect_eq(counters.running + counters.waiting, 1, "a refused request left a place taken");
    open_gate();
    char *answer = http_read(busy, "[DONE]");
    cr_expect_not_null(strstr(answer, "[DONE]"), "what was accepted is complete: %s", answer);
    free(answer);
    close(busy);
    cr_assert(eventually(all_is_done, &world));
    for (size_t i = 0; i < COUNT_OF(requests); i++)
        expect_ok(requests[i].path, requests[i].body);
    world_end(&world);
}

Test(admission, each_request_by_its_own_limit, .init = start)
{
    world_start(&world);
    int busy = occupy(), waiting = http_connect(&world), patient = http_connect(&world);
    http_post(waiting, COMPLETIONS,
              "{\"prompt\":\"abc\",\"max_tokens\":2,\"slo\":{\"ttft_ms\":\"none\"}}");
    http_post(patient, COMPLETIONS,
              "{\"prompt\":\"abc\",\"max_tokens\":2,\"slo\":{\"ttft_ms\":60000}}");
    expect_refused(COMPLETIONS,
                   "{\"prompt\":\"abc\",\"max_tokens\":2,\"slo\":{\"tpot_ms\":60000}}");
    open_gate();
    char *first = http_read(waiting, "\"choices\""), *second = http_read(patient, "\"choices\"");
    cr_expect_eq(http_status(first), 200, "%s", first);
    cr_expect_eq(http_status(second), 200, "%s", second);
    free(first), free(second);
    close(busy), close(waiting), close(patient);
    world_end(&world);
}

Test(admission, queue_waits, .init = start)
{
    world.scheduling.admission = ADMISSION_QUEUE;
    world_start(&world);
    int busy = occupy(), waiting = http_connect(&world);
    http_post(waiting, COMPLETIONS, requests[0].body);
    open_gate();
    char *answer = http_read(waiting, "\"choices\"");
    cr_expect_eq(http_status(answer), 200, "%s", answer);
    free(answer);
    close(busy), close(waiting);
    world_end(&world);
}
