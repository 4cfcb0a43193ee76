/* A request's SLO through the whole server: to the policy, into `timings`, and into /metrics.
 *
 * Each step takes 10 ms by a clock that counts them, so a first token comes after 10 ms (its prompt
 * is one chunk) and every other one 10 ms behind it, to the microsecond. */
#include "base/base.h"
#include "scheduler/sequence.h"
#include "support_server.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_US 10000

static struct world world;

static int64_t count_steps(void *unused)
{
    (void)unused;
    return 1 + STEP_US * atomic_load(&world.script.steps);
}

/* --- a policy that gives every sequence its row and writes down what it saw */

struct sight {
    struct request_slo slo;
    int32_t sequences; /* most at the same time */
    int64_t arrival_us;
    uint64_t id;
};
static struct sight sights[16];
static int32_t sight_count;

static void look(const struct request *request)
{
    struct sight *sight = sights;
    while (sight < sights + sight_count && sight->id != request->id)
        sight++;
    cr_assert_lt(sight - sights, 16);
    if (sight == sights + sight_count) sights[sight_count++] = (struct sight){.id = request->id};
    const struct request_slo *slo = &request->params.slo;
    cr_assert(sight->sequences == 0 ||
                  (slo->ttft_us == sight->slo.ttft_us && slo->tpot_us == sight->slo.tpot_us),
              "it does not change from stage to stage");
    sight->slo = *slo;
    sight->arrival_us = request->stats.arrival_us;
    sight->sequences = max_i32(sight->sequences, request->stage->count);
}

static void choose(const struct policy *policy, struct ready *ready)
{
    (void)policy;
    for (int32_t i = 0; i < ready->running_count; i++)
        look(ready->running[i]);
    policy_choose(&(struct policy){0}, ready);
}

static const struct policy_ops watching = {"watching", choose, false};

static void begin(void)
{
    world_init(&world);
    world.options.clock = (struct clock){count_steps, NULL};
    world.scheduling.policy = (struct policy){.ops = &watching};
    world.slo = (struct request_slo){2000000, 50000};
}

TestSuite(request_slo, .init = begin, .timeout = 60);

/* --- asking */

#define PROMPT "\"prompt\":\"xyz\",\"temperature\":0,\"timings\":true"
#define STAGES                                                                  \
    "\"stages\":[{\"type\":\"serial\",\"max_tokens\":2},"                       \
    "{\"type\":\"parallel\",\"max_tokens\":3,\"branches\":[{\"prompt\":\"A\"}," \
    "{\"prompt\":\"B\"}]}]"

static char *ask(const char *headers, const char *fields)
{
    struct strbuf body = {0}, text = {0};
    strbuf_format(&body, "{" PROMPT "%s%s}", *fields ? "," : "", fields);
    strbuf_format(&text,
                  "POST /v1/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s"
                  "Content-Length: %zu\r\n\r\n%s",
                  headers, body.length, strbuf_cstr(&body));
    int fd = http_connect(&world);
    http_send(fd, strbuf_cstr(&text));
    char *answer = http_read(fd, NULL);
    close(fd);
    strbuf_free(&body);
    strbuf_free(&text);
    return answer;
}

static void expect_met(const char *headers, const char *fields, const char *met)
{
    char *answer = ask(headers, fields), words[32];
    snprintf(words, sizeof words, "\"slo_met\":%s", met);
    cr_expect_eq(http_status(answer), 200, "%s", answer);
    cr_expect(strstr(answer, words), "%s%s: no %s in %s", headers, fields, words, answer);
    free(answer);
}

static void expect_counted(const char *line)
{
    char *text = http_ask(&world, "/metrics", NULL), *at = strstr(text, line);
    strstr(text, "# HELP espalier_prompt_tokens_total")[0] = 0; /* what comes behind */
    cr_expect(at && at[-1] == '\n' && at[strlen(line)] == '\n', "no line '%s' in\n%s", line,
              strstr(text, "# HELP espalier_slo"));
    free(text);
}

static void expect_seen(int32_t index, int64_t ttft_us, int64_t tpot_us, int32_t sequences)
{
    const struct sight *sight = &sights[index];
    cr_assert_gt(sight_count, index);
    cr_expect(sight->slo.ttft_us == ttft_us && sight->slo.tpot_us == tpot_us &&
                  sight->sequences == sequences,
              "request %d: %lld and %lld us, %d sequences", index, (long long)sight->slo.ttft_us,
              (long long)sight->slo.tpot_us, sight->sequences);
}

#define REQUESTS(limits, shape, outcome) \
    "espalier_slo_requests_total{" limits ",shape=\"" shape "\",outcome=\"" outcome "\"} "
#define TOKENS(limits, shape) "espalier_slo_met_tokens_total{" limits ",shape=\"" shape "\"} "
#define DEFAULT               "ttft_ms=\"2000\",tpot_ms=\"50\""

/* --- whose it is */

Test(request_slo, header_body_and_server_each_target_for_itself)
{
    world_start(&world);
    static const struct {
        const char *headers, *fields;
        int64_t ttft_us, tpot_us;
    } cases[] = {
        {"", "", 2000000, 50000},
        {"", "\"slo\":null", 2000000, 50000},
        {"", "\"slo\":{\"ttft_ms\":null}", 2000000, 50000},
        {"", "\"slo\":{\"tpot_ms\":40}", 2000000, 40000},
        {"", "\"slo\":{\"ttft_ms\":300,\"tpot_ms\":\"none\"}", 300000, 0},
        {"", "\"slo\":{\"ttft_ms\":\"none\",\"tpot_ms\":\"none\"}", 0, 0},
        {"x-slo-ttft-ms: 100\r\n", "\"slo\":{\"ttft_ms\":300,\"tpot_ms\":40}", 100000, 40000},
        {"X-SLO-TTFT-MS: none\r\nx-slo-tpot-ms: 7.5\r\n", "\"slo\":{\"ttft_ms\":300}", 0, 7500},
        {"x-slo-tpot-ms: 30\r\n", "\"slo\":{\"tpot_ms\":\"none\"}", 2000000, 30000},
        {"x-slo-tpot-ms: fast\r\nx-slo-ttft-ms: 0\r\n", "", 2000000, 50000},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        free(ask(cases[i].headers, cases[i].fields));
        expect_seen((int32_t)i, cases[i].ttft_us, cases[i].tpot_us, 1);
    }
    world_end(&world);
}

Test(request_slo, a_server_without_one)
{
    world.slo = (struct request_slo){0};
    world_start(&world);
    expect_met("", "", "null");
    expect_met("", "\"slo\":{\"tpot_ms\":10}", "true");
    expect_seen(0, 0, 0, 1);
    expect_seen(1, 0, 10000, 1);
    world_end(&world);
}

/* Several answers, several prompts, stages: every request that the scheduler gets has it. */
Test(request_slo, reaches_policies_in_every_kind_of_request)
{
    world_start(&world);
    free(ask("", "\"n\":3,\"slo\":{\"ttft_ms\":300}"));
    free(ask("", STAGES ",\"slo\":{\"tpot_ms\":20}"));
    free(ask("", "\"max_tokens\":20,\"branching\":{\"grammar\":\"multiverse\"}"));
    cr_assert_eq(sight_count, 3);
    expect_seen(0, 300000, 50000, 3);
    expect_seen(1, 2000000, 20000, 2);
    expect_seen(2, 2000000, 50000, 1);
    char *answer = http_ask(&world, "/v1/completions",
                            "{\"prompt\":[\"a\",\"b\"],\"max_tokens\":2,\"slo\":{\"ttft_ms\":9}}");
    cr_expect_eq(http_status(answer), 200, "%s", answer);
    free(answer);
    cr_assert_eq(sight_count, 5);
    expect_seen(3, 9000, 50000, 1);
    expect_seen(4, 9000, 50000, 1);
    world_end(&world);
}

/* Its TTFT counts from when it had arrived, not from when it was parsed and tokenized: by the
 * server's clock, which here is far behind the engine's. */
Test(request_slo, waits_since_it_arrived)
{
    world_start(&world);
    free(ask("", "\"max_tokens\":3"));
    free(ask("", "\"max_tokens\":1"));
    expect_seen(1, 2000000, 50000, 1);
    cr_expect_eq(sights[0].arrival_us, 1);
    cr_expect_eq(sights[1].arrival_us, 1 + 3 * STEP_US);
    world_end(&world);
}

/* --- how it is judged */

Test(request_slo, judged_to_the_microsecond)
{
    world_start(&world);
    expect_met("", "\"max_tokens\":4,\"slo\":{\"ttft_ms\":10,\"tpot_ms\":10}", "true");
    expect_met("", "\"max_tokens\":4,\"slo\":{\"ttft_ms\":9.999,\"tpot_ms\":10}", "false");
    expect_met("", "\"max_tokens\":4,\"slo\":{\"ttft_ms\":10,\"tpot_ms\":9.999}", "false");
    /* one token meets any TPOT; two sequences make two tokens a step */
    expect_met("", "\"max_tokens\":1,\"slo\":{\"tpot_ms\":0.001}", "true");
    expect_met("", "\"n\":2,\"max_tokens\":4,\"slo\":{\"tpot_ms\":9.999}", "true");
    expect_met("", "\"max_tokens\":4,\"slo\":{\"tpot_ms\":\"none\",\"ttft_ms\":\"none\"}", "null");
    world_end(&world);
}

/* A prompt that is only scored has no first token to wait for, and hurries nobody. */
Test(request_slo, no_token_asked_for_is_nothing_to_judge)
{
    world_start(&world);
    expect_met("", "\"max_tokens\":0,\"echo\":true,\"slo\":{\"ttft_ms\":0.001}", "null");
    expect_seen(0, 0, 0, 1);
    expect_counted(REQUESTS(DEFAULT, "serial", "met") "0");
    char *text = http_ask(&world, "/metrics", NULL);
    cr_expect_null(strstr(text, "ttft_ms=\"0.001\""));
    free(text);
    world_end(&world);
}

/* --- how it is counted */

Test(request_slo, counted_by_class_and_shape)
{
    world_start(&world);
    expect_counted(REQUESTS(DEFAULT, "serial", "met") "0"); /* there from the start */
    expect_met("", "\"max_tokens\":4", "true");
    expect_met("", "\"max_tokens\":5", "true");
    expect_met("", "\"n\":2,\"max_tokens\":4", "true");
    expect_met("", STAGES, "true");
    expect_met("", "\"max_tokens\":3,\"slo\":{\"tpot_ms\":\"none\",\"ttft_ms\":5}", "false");
    expect_met("", "\"max_tokens\":3,\"slo\":{\"tpot_ms\":\"none\",\"ttft_ms\":\"none\"}", "null");
    expect_counted(REQUESTS(DEFAULT, "serial", "met") "2");
    expect_counted(REQUESTS(DEFAULT, "serial", "missed") "0");
    expect_counted(REQUESTS(DEFAULT, "branching", "met") "2");
    expect_counted(TOKENS(DEFAULT, "serial") "9");
    expect_counted(TOKENS(DEFAULT, "branching") "16");
    expect_counted(REQUESTS("ttft_ms=\"5\",tpot_ms=\"none\"", "serial", "missed") "1");
    expect_counted(TOKENS("ttft_ms=\"5\",tpot_ms=\"none\"", "serial") "0");
    world_end(&world);
}

Test(request_slo, clients_cannot_make_the_text_grow_nor_crowd_out_the_default)
{
    world_start(&world);
    for (int i = 1; i <= 40; i++) {
        char header[64];
        snprintf(header, sizeof header, "x-slo-ttft-ms: %d\r\n", 1000 + i);
        expect_met(header, "\"max_tokens\":1", "true");
        sight_count = 0;
    }
    expect_met("", "\"max_tokens\":2", "true");
    expect_counted(REQUESTS(DEFAULT, "serial", "met") "1");
    expect_counted(REQUESTS("ttft_ms=\"1007\",tpot_ms=\"50\"", "serial", "met") "1");
    expect_counted(REQUESTS("ttft_ms=\"other\",tpot_ms=\"other\"", "serial", "met") "33");
    char *text = http_ask(&world, "/metrics", NULL);
    cr_expect_null(strstr(text, "ttft_ms=\"1008\""));
    free(text);
    world_end(&world);
}

Test(request_slo, what_fails_has_missed)
{
    atomic_store(&world.script.fail_at, 2);
    world_start(&world);
    char *answer = ask("", "\"max_tokens\":9");
    cr_expect_eq(http_status(answer), 500, "%s", answer);
    free(answer);
    expect_counted(REQUESTS(DEFAULT, "serial", "missed") "1");
    expect_counted(TOKENS(DEFAULT, "serial") "0");
    world_end(&world);
}

Test(request_slo, a_wrong_request_is_not_counted)
{
    world_start(&world);
    char *answer = ask("", "\"max_tokens\":5000");
    cr_expect_eq(http_status(answer), 400, "%s", answer);
    free(answer);
    answer = ask("", "\"slo\":{\"ttft_ms\":\"soon\"}");
    cr_expect_eq(http_status(answer), 400, "%s", answer);
    free(answer);
    expect_counted(REQUESTS(DEFAULT, "serial", "refused") "0");
    expect_counted(REQUESTS(DEFAULT, "serial", "missed") "0");
    world_end(&world);
}

static bool something_runs(struct world *w)
{
    return atomic_load(&w->script.submitted) > 0;
}

static bool nothing_runs(struct world *w)
{
    struct scheduler_counters c = world_counters(w);
    return c.running == 0 && c.waiting == 0 && c.blocks_held == 0;
}

static bool somebody_left(struct world *w)
{
    char *text = http_ask(w, "/metrics", NULL);
    bool left = strstr(text, "\nespalier_disconnects_total 1\n");
    free(text);
    return left;
}

Test(request_slo, a_client_that_leaves_is_not_judged)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, "/v1/completions", "{\"prompt\":\"xyz\",\"max_tokens\":900,\"stream\":true}");
    cr_assert(eventually(something_runs, &world));
    close(fd);
    cr_assert(eventually(somebody_left, &world));
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    cr_assert(eventually(nothing_runs, &world));
    expect_counted(REQUESTS(DEFAULT, "serial", "met") "0");
    expect_counted(REQUESTS(DEFAULT, "serial", "missed") "0");
    world_end(&world);
}

Test(request_slo, one_that_is_cut_off_has_missed)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, "/v1/completions", "{\"prompt\":\"xyz\",\"max_tokens\":900,\"stream\":true}");
    cr_assert(eventually(something_runs, &world));
    server_cancel_all(world.server);
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    free(http_read(fd, "[DONE]"));
    expect_counted(REQUESTS(DEFAULT, "serial", "missed") "1");
    close(fd);
    world_end(&world);
}

static bool one_runs_and_none_waits(struct world *w)
{
    struct scheduler_counters c = world_counters(w);
    return c.running == 1 && c.waiting == 0;
}

static bool one_waits(struct world *w)
{
    return world_counters(w).waiting == 1;
}

Test(request_slo, no_room_is_counted_as_refused)
{
    atomic_store(&world.script.gated, true);
    world.scheduling.max_rows = 1;
    world.scheduling.max_queue = 1;
    world_start(&world);
    int running = http_connect(&world), waiting = http_connect(&world);
    http_post(running, "/v1/completions", "{\"prompt\":\"xyz\",\"max_tokens\":3}");
    world_steps(&world, 1); /* counters are published after a step */
    cr_assert(eventually(one_runs_and_none_waits, &world));
    http_post(waiting, "/v1/completions", "{\"prompt\":\"xyz\",\"max_tokens\":3}");
    cr_assert(eventually(one_waits, &world));
    char *answer = ask("x-slo-ttft-ms: 700\r\n", "");
    cr_expect_eq(http_status(answer), 503, "%s", answer);
    free(answer);
    expect_counted(REQUESTS("ttft_ms=\"700\",tpot_ms=\"50\"", "serial", "refused") "1");
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    free(http_read(running, "usage")), free(http_read(waiting, "usage"));
    close(running), close(waiting);
    expect_counted(REQUESTS(DEFAULT, "serial", "met") "2");
    world_end(&world);
}
