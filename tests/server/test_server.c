/* The whole server on a scripted executor: what a client sees, and what the engine is left with. */
#include "base/base.h"
#include "support_server.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world world;

static void begin(void)
{
    world_init(&world);
}

TestSuite(server, .init = begin, .timeout = 60);

#define COMPLETIONS "/v1/completions"

static void expect_answer(const char *path, const char *body, int status, const char *words)
{
    char *answer = http_ask(&world, path, body);
    cr_expect_eq(http_status(answer), status, "%s %s: %s", path, body ? body : "", answer);
    cr_expect_not_null(strstr(answer, words), "no '%s' in %s", words, answer);
    free(answer);
}

/* The prompt "xyz" holds positions 0..2, so the first letter is that of position 3. */
static void expect_alive(void)
{
    expect_answer(COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":4,\"temperature\":0}", 200,
                  "\"text\":\"defg\"");
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

static bool one_runs_and_none_waits(struct world *w)
{
    struct scheduler_counters c = world_counters(w);
    return c.running == 1 && c.waiting == 0;
}

static bool one_waits(struct world *w)
{
    return world_counters(w).waiting == 1;
}

Test(server, answers_and_counts)
{
    world_start(&world);
    expect_alive();
    expect_answer(COMPLETIONS, "{\"prompt\":[1,2],\"max_tokens\":2,\"return_token_ids\":true}", 200,
                  "\"token_ids\":[102,103],\"prompt_token_ids\":[1,2]");
    expect_answer(COMPLETIONS, "{\"prompt\":[\"xy\",\"xyz\"],\"n\":2,\"max_tokens\":1}", 200,
                  "{\"index\":3,\"text\":\"d\"");
    expect_answer("/metrics", NULL, 200, "espalier_requests_total{outcome=\"length\"} 3\n");
    expect_answer("/v1/models", NULL, 200, "\"max_model_len\":1024");
    expect_answer("/tokenize", "{\"prompt\":\"ab\"}", 200, "\"count\":2");
    expect_answer("/detokenize", "{\"tokens\":[100,101]}", 200, "{\"prompt\":\"ab\"}");
    world_end(&world);
}

Test(server, streams_end_with_done)
{
    world_start(&world);
    char *answer = http_ask(&world, COMPLETIONS,
                            "{\"prompt\":\"xyz\",\"max_tokens\":3,\"stream\":true,"
                            "\"stream_options\":{\"include_usage\":true}}");
    cr_expect_eq(http_status(answer), 200);
    cr_expect_not_null(strstr(answer, "Content-Type: text/event-stream\r\n"));
    cr_expect_not_null(strstr(answer, "\"text\":\"d\""));
    cr_expect_not_null(strstr(answer, "\"text\":\"f\""));
    cr_expect_not_null(strstr(answer, "\"choices\":[],\"usage\":{\"prompt_tokens\":3,"
                                      "\"completion_tokens\":3,\"total_tokens\":6"));
    cr_expect_not_null(strstr(answer, "data: [DONE]\n\n"));
    free(answer);
    world_end(&world);
}

Test(server, a_stop_string_ends_the_sequence_in_the_engine)
{
    world_start(&world);
    expect_answer(COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":500,\"stop\":\"gh\"}", 200,
                  "\"text\":\"def\",\"logprobs\":null,\"finish_reason\":\"stop\"");
    cr_expect(eventually(nothing_runs, &world)); /* counters are published after the tick */
    cr_expect_eq(world_counters(&world).generated_tokens, 5, "d e f g h");
    world_end(&world);
}

Test(server, eos_ends_and_is_not_shown)
{
    atomic_store(&world.script.eos_at, 5);
    world_start(&world);
    expect_answer(COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":9}", 200,
                  "\"text\":\"de\",\"logprobs\":null,\"finish_reason\":\"stop\"");
    expect_answer(COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":4,\"ignore_eos\":true}", 200,
                  "\"text\":\"deg\",\"logprobs\":null,\"finish_reason\":\"length\"");
    world_end(&world);
}

Test(server, no_byte_of_the_body_comes_before_the_first_token)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, "/v1/chat/completions",
              "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":true,"
              "\"max_tokens\":2}");
    cr_assert(eventually(something_runs, &world));
    char *head = http_read(fd, "\r\n\r\n");
    cr_expect_null(strstr(head, "data:"), "%s", head);
    free(head);
    world_steps(&world, 1);
    char *first = http_read(fd, "\n\n");
    cr_expect_not_null(strstr(first, "\"delta\":{\"role\":\"assistant\",\"content\":"), "%s",
                       first);
    free(first);
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    free(http_read(fd, "[DONE]"));
    close(fd);
    world_end(&world);
}

static void expect_cancelled_by_leaving(const char *body, int steps_before, bool read_first)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, COMPLETIONS, body);
    cr_assert(eventually(something_runs, &world));
    world_steps(&world, steps_before);
    if (read_first) free(http_read(fd, "\n\n"));
    close(fd);
    /* The watcher sees it while the step hangs at the gate; the next tick drops the sequence. The
     * step in flight and one more are allowed. */
    usleep(200000);
    world_steps(&world, 2);
    cr_expect(eventually(nothing_runs, &world), "it decodes on after the client has left");
    cr_expect_leq(atomic_load(&world.script.steps), steps_before + 2);
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    expect_alive();
    expect_answer("/metrics", NULL, 200, "espalier_disconnects_total 1\n");
    world_end(&world);
}

Test(server, a_client_that_leaves_mid_prefill_is_given_up)
{
    struct strbuf body = {0};
    strbuf_text(&body, "{\"max_tokens\":50,\"prompt\":\"");
    for (int i = 0; i < 600; i++)
        strbuf_text(&body, "x");
    strbuf_text(&body, "\"}");
    expect_cancelled_by_leaving(body.data, 2, false); /* of ten chunks of 64 */
    strbuf_free(&body);
}

Test(server, a_client_that_leaves_mid_decode_is_given_up)
{
    expect_cancelled_by_leaving("{\"prompt\":\"xyz\",\"max_tokens\":900}", 5, false);
}

Test(server, a_client_that_leaves_mid_stream_is_given_up)
{
    expect_cancelled_by_leaving("{\"prompt\":\"xyz\",\"max_tokens\":900,\"stream\":true,\"n\":3}",
                                5, true);
}

Test(server, a_failed_step_ends_a_stream_with_an_error_and_done)
{
    atomic_store(&world.script.fail_at, 3);
    world_start(&world);
    char *answer =
        http_ask(&world, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":9,\"stream\":true}");
    cr_expect_eq(http_status(answer), 200);
    cr_expect_not_null(strstr(answer, "\"text\":\"e\""));
    cr_expect_not_null(strstr(answer, "data: {\"error\":{\"message\""));
    cr_expect_not_null(strstr(answer, "data: [DONE]\n\n"));
    free(answer);
    expect_alive();
    world_end(&world);
}

Test(server, a_failed_step_is_a_500_for_a_whole_answer)
{
    atomic_store(&world.script.fail_at, 2);
    world_start(&world);
    expect_answer(COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":9}", 500, "\"internal_error\"");
    expect_alive();
    world_end(&world);
}

Test(server, a_full_queue_is_a_503_before_any_stream)
{
    atomic_store(&world.script.gated, true);
    world.scheduling.max_rows = 1;
    world.scheduling.max_queue = 1;
    world_start(&world);
    int running = http_connect(&world), waiting = http_connect(&world);
    http_post(running, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":3,\"stream\":true}");
    world_steps(&world, 1); /* counters are published after a step */
    cr_assert(eventually(one_runs_and_none_waits, &world));
    http_post(waiting, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":3,\"stream\":true}");
    cr_assert(eventually(one_waits, &world));
    char *answer =
        http_ask(&world, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":3,\"stream\":true}");
    cr_expect_eq(http_status(answer), 503);
    cr_expect_not_null(strstr(answer, "\r\nRetry-After: "), "%s", answer);
    cr_expect_not_null(strstr(answer, "\"code\":\"queue_full\""));
    free(answer);
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    char *first = http_read(running, "[DONE]"), *second = http_read(waiting, "[DONE]");
    cr_expect_not_null(strstr(first, "\"text\":\"f\""));
    cr_expect_not_null(strstr(second, "\"text\":\"f\""), "what was accepted is complete");
    free(first), free(second);
    close(running), close(waiting);
    world_end(&world);
}

Test(server, loading_and_draining_are_503)
{
    world.attach = false;
    world_start(&world);
    expect_answer("/health", NULL, 503, "\"code\":\"loading\"");
    expect_answer(COMPLETIONS, "{\"prompt\":\"x\"}", 503, "\"code\":\"loading\"");
    expect_answer("/metrics", NULL, 200, "espalier_ready 0\n");
    struct served_model model = world_model(&world);
    server_attach(world.server, &model);
    expect_answer("/health", NULL, 200, "\"status\":\"ok\"");
    expect_alive();
    server_drain(world.server);
    expect_answer("/health", NULL, 503, "\"code\":\"draining\"");
    expect_answer(COMPLETIONS, "{\"prompt\":\"x\"}", 503, "\r\nRetry-After: 1\r\n");
    world_end(&world);
}

Test(server, draining_lets_open_streams_finish)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":5,\"stream\":true}");
    cr_assert(eventually(something_runs, &world));
    server_drain(world.server);
    cr_expect_not(server_wait_idle(world.server, 10000), "a stream is open");
    atomic_store(&world.script.gated, false);
    world_steps(&world, 1);
    char *answer = http_read(fd, "[DONE]");
    cr_expect_not_null(strstr(answer, "\"text\":\"h\""), "%s", answer);
    free(answer);
    cr_expect(server_wait_idle(world.server, 5000000));
    close(fd);
    world_end(&world);
}

Test(server, cancel_all_ends_streams_with_an_error_and_done)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":900,\"stream\":true}");
    cr_assert(eventually(something_runs, &world));
    world_steps(&world, 2);
    server_drain(world.server);
    server_cancel_all(world.server);
    world_steps(&world, 2);
    char *answer = http_read(fd, "[DONE]");
    cr_expect_not_null(strstr(answer, "\"code\":\"draining\""), "%s", answer);
    cr_expect_not_null(strstr(answer, "data: [DONE]\n\n"));
    free(answer);
    close(fd);
    world_end(&world);
}

Test(server, ends_with_streams_open_and_requests_half_sent)
{
    atomic_store(&world.script.gated, true);
    world_start(&world);
    int fds[9];
    for (int i = 0; i < 9; i++) {
        fds[i] = http_connect(&world);
        if (i % 3 == 0)
            http_post(fds[i], COMPLETIONS, "{\"prompt\":\"x\",\"max_tokens\":900,\"stream\":true}");
        else if (i % 3 == 1)
            http_send(fds[i],
                      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{");
    }
    cr_assert(eventually(something_runs, &world));
    world_end(&world);
    for (int i = 0; i < 9; i++)
        close(fds[i]);
}

static bool all_is_generated(struct world *w)
{
    return world_counters(w).generated_tokens == 900 * 16;
}

/* A client that reads nothing of a long answer: the engine finishes it all the same. */
Test(server, a_reader_that_stalls_holds_up_nobody)
{
    world_start(&world);
    int fd = http_connect(&world);
    http_post(fd, COMPLETIONS, "{\"prompt\":\"xyz\",\"max_tokens\":900,\"stream\":true,\"n\":16}");
    cr_expect(eventually(all_is_generated, &world), "the tick waited for a client");
    expect_alive();
    char *answer = http_read(fd, "[DONE]");
    cr_expect_not_null(strstr(answer, "data: [DONE]\n\n"));
    free(answer);
    close(fd);
    world_end(&world);
}

Test(server, refuses_by_path_method_key_and_size)
{
    world.options.limits.max_body = 1000;
    char path[] = "/tmp/espalier-keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, "secret\n", 7), 7);
    close(fd);
    world.options.api_key_file = path;
    world_start(&world);
    unlink(path);
    expect_answer("/health", NULL, 200, "ok");
    expect_answer("/metrics", NULL, 401, "\"code\":\"invalid_api_key\"");
    expect_answer("/nothing", NULL, 401, "WWW-Authenticate: Bearer");
    expect_answer(COMPLETIONS, "{}", 401, "\"param\":null");

    int open = http_connect(&world);
    struct strbuf text = {0};
    strbuf_text(&text,
                "POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n"
                "X-Request-Id: id-7\r\nContent-Length: 2000\r\n\r\n");
    for (int i = 0; i < 2000; i++)
        strbuf_char(&text, ' ');
    strbuf_text(&text, "GET /nothing HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n\r\n"
                       "DELETE /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    http_send(open, text.data);
    char *answers = http_read(open, NULL);
    cr_expect_eq(http_status(answers), 413);
    cr_expect_not_null(strstr(answers, "X-Request-Id: id-7\r\n"));
    cr_expect_not_null(strstr(answers, "HTTP/1.1 404 "), "the connection goes on: %s", answers);
    cr_expect_not_null(strstr(answers, "HTTP/1.1 405 "));
    cr_expect_not_null(strstr(answers, "Allow: GET, HEAD\r\n"));
    free(answers);
    strbuf_free(&text);
    close(open);
    world_end(&world);
}

Test(server, a_taken_port_is_said_with_what_to_do)
{
    world_start(&world);
    struct server_options options = world.options;
    struct server *second;
    struct error err = {0};
    options.port = server_port(world.server);
    cr_expect_eq(server_create(&options, &second, &err), ST_IO);
    cr_expect_not_null(strstr(err.text, "is in use"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "--port"));
    world_end(&world);
}

Test(server, a_body_that_never_comes_is_cut_off)
{
    world.options.limits.body_timeout_us = 300000;
    world_start(&world);
    int fd = http_connect(&world);
    http_send(fd, "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
    char *answer = http_read(fd, NULL);
    char byte;
    cr_expect_leq(recv(fd, &byte, 1, MSG_DONTWAIT), 0, "the server closed");
    free(answer);
    close(fd);
    expect_alive();
    world_end(&world);
}
