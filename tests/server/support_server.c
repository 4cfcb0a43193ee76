#include "support_server.h"
#include "base/base.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* --- executor */

static void capacity(void *self, struct executor_capacity *capacity)
{
    *capacity = ((struct script *)self)->capacity;
}

static enum status submit(void *self, const struct step_plan *plan, uint64_t *ticket,
                          struct error *err)
{
    struct script *script = self;
    (void)err;
    script->row_count = plan->row_count;
    for (int32_t i = 0; i < plan->row_count; i++) {
        const struct plan_row *row = &plan->rows[i];
        int32_t position = row->first_position + row->count;
        int32_t letter =
            position == atomic_load(&script->eos_at) ? TEST_EOS : BYTE_ID('a' + position % 26);
        script->tokens[i] = row->sample ? letter : -1;
    }
    *ticket = (uint64_t)atomic_fetch_add(&script->submitted, 1) + 1;
    return ST_OK;
}

static enum status collect(void *self, uint64_t ticket, struct row_result *results,
                           struct error *err)
{
    struct script *script = self;
    if (atomic_load(&script->gated)) sem_wait(&script->gate);
    atomic_fetch_add(&script->steps, 1);
    if ((int64_t)ticket == atomic_load(&script->fail_at))
        return fail(err, ST_INTERNAL, "the script fails here");
    for (int32_t i = 0; i < script->row_count; i++)
        results[i] = (struct row_result){.sampled.token = script->tokens[i]};
    return ST_OK;
}

static const struct executor_ops ops = {capacity, submit, collect};

/* --- world */

void world_init(struct world *world)
{
    memset(world, 0, sizeof *world);
    world->script.capacity = (struct executor_capacity){.depth = 1,
                                                        .block_count = 1024,
                                                        .max_rows = 32,
                                                        .max_tokens = 256,
                                                        .max_context = 1024,
                                                        .vocab = TEST_VOCAB};
    sem_init(&world->script.gate, 0, 0);
    world->options = server_options_default();
    world->options.port = 0;
    world->scheduling = scheduler_options_default();
    world->scheduling.max_rows = 32;
    world->scheduling.prefill_chunk = 64;
    world->eos = TEST_EOS;
    world->attach = true;
}

struct served_model world_model(struct world *world)
{
    return (struct served_model){.name = "script",
                                 .tokenizer = world->tokenizer,
                                 .chat = CHAT_CHATML,
                                 .context = engine_max_length(world->engine, 1),
                                 .vocab = TEST_VOCAB,
                                 .eos = &world->eos,
                                 .eos_count = 1,
                                 .engine = world->engine,
                                 .slo = world->slo};
}

void world_start(struct world *world)
{
    struct error err = {0};
    world->tokenizer = test_tokenizer();
    struct executor executor = {&ops, &world->script};
    cr_assert_eq(
        engine_create(&world->scheduling, executor, clock_monotonic(), &world->engine, &err), ST_OK,
        "%s", err.text);
    cr_assert_eq(engine_start(world->engine, &err), ST_OK, "%s", err.text);
    cr_assert_eq(server_create(&world->options, &world->server, &err), ST_OK, "%s", err.text);
    struct served_model model = world_model(world);
    if (world->attach) server_attach(world->server, &model);
}

static bool nothing_held(struct world *world)
{
    struct scheduler_counters c = world_counters(world);
    return c.running == 0 && c.waiting == 0 && c.blocks_held == 0;
}

void world_end(struct world *world)
{
    atomic_store(&world->script.gated, false);
    sem_post(&world->script.gate);
    server_free(world->server);
    cr_assert(eventually(nothing_held, world), "blocks are held after the server's end");
    engine_free(world->engine);
    tokenizer_free(world->tokenizer);
    sem_destroy(&world->script.gate);
}

struct scheduler_counters world_counters(struct world *world)
{
    struct scheduler_counters counters;
    engine_counters(world->engine, &counters);
    return counters;
}

void world_steps(struct world *world, int steps)
{
    for (int i = 0; i < steps; i++)
        sem_post(&world->script.gate);
}

bool eventually(bool (*holds)(struct world *world), struct world *world)
{
    const struct timespec nap = {.tv_nsec = 2000000};
    for (int i = 0; i < 5000; i++) {
        if (holds(world)) return true;
        nanosleep(&nap, NULL);
    }
    return false;
}

/* --- HTTP */

int http_connect(struct world *world)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)server_port(world->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void http_send(int fd, const char *text)
{
    size_t length = strlen(text), sent = 0;
    while (sent < length) {
        ssize_t count = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
        if (count <= 0) return; /* the server may have closed on purpose */
        sent += (size_t)count;
    }
}

void http_post(int fd, const char *path, const char *body)
{
    struct strbuf text = {0};
    strbuf_format(&text, "POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %zu\r\n\r\n", path,
                  strlen(body));
    strbuf_text(&text, body);
    http_send(fd, text.data);
    strbuf_free(&text);
}

char *http_read(int fd, const char *until)
{
    struct strbuf text = {0};
    char bytes[4096];
    while (!until || !strstr(strbuf_cstr(&text), until)) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, 10000) <= 0) break;
        ssize_t count = recv(fd, bytes, sizeof bytes, 0);
        if (count <= 0) break;
        strbuf_append(&text, bytes, (size_t)count);
    }
    return strbuf_take(&text);
}

char *http_ask(struct world *world, const char *path, const char *body)
{
    struct strbuf text = {0};
    int fd = http_connect(world);
    strbuf_format(&text, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n",
                  body ? "POST" : "GET", path);
    if (body) strbuf_format(&text, "Content-Length: %zu\r\n", strlen(body));
    strbuf_text(&text, "\r\n");
    if (body) strbuf_text(&text, body);
    http_send(fd, text.data);
    strbuf_free(&text);
    char *answer = http_read(fd, NULL);
    close(fd);
    return answer;
}

int http_status(const char *answer)
{
    int status = 0;
    sscanf(answer, "HTTP/1.1 %d", &status);
    return status;
}
