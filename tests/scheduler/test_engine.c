/* The engine's thread: several threads submit, cancel and read counters at once. Run under TSan
 * too. */
#include "support_client.h"

#include "scheduler/engine.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VOCAB      97
#define FOREVER_US ((int64_t)120 * 1000000)

/* A client on another thread learns of the end here; its other fields may be read after. */
struct remote {
    struct client *client;
    struct request_events inner;
    _Atomic bool done;
    _Atomic int32_t tokens;
};

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct remote *remote = context;
    atomic_fetch_add(&remote->tokens, 1);
    return remote->inner.token(remote->inner.context, index, sampled, ends);
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct remote *remote = context;
    remote->inner.finish(remote->inner.context, index, ending);
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct remote *remote = context;
    remote->inner.done(remote->inner.context, stats);
    atomic_store(&remote->done, true);
}

struct house {
    struct simulated *sim;
    struct engine *engine;
};

static struct house open_house_with(struct scheduler_options options, int32_t depth, bool start)
{
    struct simulated_options sim_options = {.capacity = {.depth = depth,
                                                         .block_count = 24,
                                                         .max_rows = 6,
                                                         .max_tokens = 40,
                                                         .max_context = 256,
                                                         .vocab = VOCAB}};
    options.prefill_chunk = 24;
    struct house house = {.sim = simulated_create(&sim_options)};
    struct error err = {0};
    cr_assert_eq(engine_create(&options, simulated_executor(house.sim), clock_monotonic(),
                               &house.engine, &err),
                 ST_OK, "%s", err.text);
    if (start) cr_assert_eq(engine_start(house.engine, &err), ST_OK, "%s", err.text);
    return house;
}

static struct house open_house(int32_t depth, int32_t max_queue, bool start)
{
    return open_house_with((struct scheduler_options){.max_queue = max_queue}, depth, start);
}

static void close_house(struct house *house)
{
    engine_free(house->engine);
    simulated_free(house->sim);
}

static const int32_t *prompt_of(uint64_t seed, int32_t prompt[64])
{
    for (int32_t i = 0; i < 64; i++)
        prompt[i] = (int32_t)(rng_at(seed, (uint64_t)i) % VOCAB);
    return prompt;
}

static struct remote *remote_create(uint64_t seed, int32_t prompt_count, int32_t max_tokens,
                                    int32_t n)
{
    int32_t prompt[64];
    struct remote *remote = must_alloc(sizeof *remote);
    struct request_params params = {.prompt = prompt_of(seed, prompt),
                                    .prompt_count = prompt_count,
                                    .n = n,
                                    .max_tokens = max_tokens,
                                    .sample = {.temperature = 1, .seed = seed}};
    remote->client = client_create(&params, -1);
    remote->inner = client_events(remote->client);
    remote->client->params.events =
        (struct request_events){remote, NULL, on_token, on_finish, NULL, on_done};
    return remote;
}

static enum status submit(struct house *house, struct remote *remote, struct error *err)
{
    return engine_submit(house->engine, &remote->client->params, &remote->client->id, err);
}

static void remote_free(struct remote *remote)
{
    client_free(remote->client);
    free(remote);
}

static void expect_right(struct remote *remote, uint64_t seed)
{
    int32_t prompt[64];
    cr_assert(atomic_load(&remote->done));
    const char *mistake = client_mistake(remote->client, VOCAB, prompt_of(seed, prompt), NULL);
    cr_assert_null(mistake, "%s", mistake);
    remote_free(remote);
}

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

Test(engine, answers_and_goes_idle)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct house house = open_house(depth, 8, true);
        struct error err;
        struct remote *remote = remote_create(9, 20, 30, 2);
        cr_assert(engine_wait_idle(house.engine, FOREVER_US));
        cr_assert_eq(submit(&house, remote, &err), ST_OK);
        cr_assert(engine_wait_idle(house.engine, FOREVER_US));
        expect_right(remote, 9);
        struct scheduler_counters counters;
        engine_counters(house.engine, &counters);
        cr_assert_eq(counters.generated_tokens, 60);
        cr_assert_eq(counters.finished[FINISH_LENGTH], 2);
        cr_assert_eq(counters.waiting, 0);
        close_house(&house);
    }
}

Test(engine, refuses_before_it_accepts)
{
    struct house house = open_house(1, 4, false);
    struct error err = {0};
    struct remote *a = remote_create(1, 20, 10, 3), *b = remote_create(2, 20, 10, 2),
                  *c = remote_create(3, 20, 10, 1), *d = remote_create(4, 60, 197, 1);
    cr_assert_eq(engine_max_length(house.engine, 1), 256);
    cr_assert_eq(submit(&house, a, &err), ST_OK);
    cr_assert_eq(submit(&house, b, &err), ST_FULL);
    cr_assert(strstr(err.text, "at most 4"), "%s", err.text);
    cr_assert_eq(submit(&house, c, &err), ST_OK);
    cr_assert_eq(submit(&house, d, &err), ST_INVALID);
    cr_assert(strstr(err.text, "maximum context length is 256 tokens"), "%s", err.text);
    struct scheduler_counters counters;
    engine_counters(house.engine, &counters);
    cr_assert_eq(counters.waiting, 4);
    cr_assert_not(engine_wait_idle(house.engine, 1000));
    cr_assert_eq(engine_start(house.engine, &err), ST_OK);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    cr_assert_eq(submit(&house, b, &err), ST_OK, "the places came back");
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    expect_right(a, 1);
    expect_right(b, 2);
    expect_right(c, 3);
    remote_free(d);
    close_house(&house);
}

Test(engine, a_place_is_given_back_when_memory_runs_out)
{
    struct house house = open_house(1, 1, true);
    struct error err = {0};
    struct remote *remote = remote_create(1, 20, 10, 1);
    for (int i = 1; i <= 3; i++) {
        alloc_fail_after(i);
        cr_assert_eq(submit(&house, remote, &err), ST_NO_MEMORY);
    }
    alloc_fail_after(0);
    cr_assert_eq(submit(&house, remote, &err), ST_OK);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    expect_right(remote, 1);
    close_house(&house);
}

Test(engine, closed_it_drains)
{
    struct house house = open_house(2, 16, true);
    struct error err = {0};
    struct remote *remotes[10], *late = remote_create(99, 5, 5, 1);
    for (uint64_t i = 0; i < 10; i++) {
        remotes[i] = remote_create(i, 30, 50, 1);
        cr_assert_eq(submit(&house, remotes[i], &err), ST_OK);
    }
    engine_close(house.engine);
    cr_assert_eq(submit(&house, late, &err), ST_CLOSED);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    for (uint64_t i = 0; i < 10; i++) {
        cr_assert_eq(remotes[i]->client->stats.reason, FINISH_LENGTH);
        expect_right(remotes[i], i);
    }
    remote_free(late);
    close_house(&house);
}

Test(engine, freed_it_ends_everything)
{
    for (int start = 0; start <= 1; start++) {
        struct house house = open_house(2, 16, start);
        struct error err = {0};
        struct remote *remotes[10];
        for (uint64_t i = 0; i < 10; i++) {
            remotes[i] = remote_create(i, 30, 200, 1);
            cr_assert_eq(submit(&house, remotes[i], &err), ST_OK);
        }
        close_house(&house);
        for (uint64_t i = 0; i < 10; i++)
            expect_right(remotes[i], i);
    }
}

Test(engine, cancels_from_another_thread)
{
    struct house house = open_house(1, 16, true);
    struct error err = {0};
    struct remote *remote = remote_create(5, 30, 200, 4);
    engine_cancel(house.engine, 12345); /* nobody's */
    cr_assert_eq(submit(&house, remote, &err), ST_OK);
    while (atomic_load(&remote->tokens) == 0)
        pause_briefly();
    engine_cancel(house.engine, remote->client->id);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    expect_right(remote, 5);
    close_house(&house);
}

/* --- many threads at once */

struct worker {
    pthread_t thread;
    struct house *house;
    uint64_t seed;
    int32_t right, refused;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct rng rng = {worker->seed};
    for (int i = 0; i < 60; i++) {
        uint64_t seed = rng_next(&rng);
        struct remote *remote =
            remote_create(seed, 1 + (int32_t)rng_below(&rng, 60), 1 + (int32_t)rng_below(&rng, 60),
                          1 + (int32_t)rng_below(&rng, 3));
        struct error err;
        enum status status = submit(worker->house, remote, &err);
        if (status) {
            invariant(status == ST_FULL, "%s", err.text);
            worker->refused++;
            remote_free(remote);
            pause_briefly();
            continue;
        }
        bool cancel = rng_below(&rng, 4) == 0;
        if (cancel) engine_cancel(worker->house->engine, remote->client->id);
        while (!atomic_load(&remote->done))
            pause_briefly();
        int32_t prompt[64];
        const char *mistake = client_mistake(remote->client, VOCAB, prompt_of(seed, prompt), NULL);
        invariant(!mistake, "%s", mistake);
        worker->right++;
        remote_free(remote);
    }
    return NULL;
}

/* What a scrape of the metrics may rely on: one snapshot, whole. */
static void check_snapshot(const struct scheduler_counters *counters, int64_t *steps)
{
    invariant(counters->blocks_free + counters->blocks_held + counters->blocks_cached ==
                  counters->blocks_total,
              "blocks %d + %d + %d of %d", counters->blocks_free, counters->blocks_held,
              counters->blocks_cached, counters->blocks_total);
    invariant(counters->steps >= *steps, "steps run backwards");
    *steps = counters->steps;
}

struct reader {
    pthread_t thread;
    struct house *house;
    _Atomic bool stop;
};

static void *read_counters(void *argument)
{
    struct reader *reader = argument;
    int64_t steps = 0;
    while (!atomic_load(&reader->stop)) {
        struct scheduler_counters counters;
        engine_counters(reader->house->engine, &counters);
        check_snapshot(&counters, &steps);
    }
    return NULL;
}

/* Six threads that work, and one that reads the counters meanwhile. */
struct crowd {
    int32_t right, refused;
};

static struct crowd let_work(struct house *house, void *(*member)(void *worker))
{
    struct reader reader = {.house = house};
    struct worker workers[6];
    struct crowd crowd = {0};
    cr_assert_eq(pthread_create(&reader.thread, NULL, read_counters, &reader), 0);
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (struct worker){.house = house, .seed = i + 1};
        cr_assert_eq(pthread_create(&workers[i].thread, NULL, member, &workers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        pthread_join(workers[i].thread, NULL);
        crowd.right += workers[i].right;
        crowd.refused += workers[i].refused;
    }
    atomic_store(&reader.stop, true);
    pthread_join(reader.thread, NULL);
    cr_assert(engine_wait_idle(house->engine, FOREVER_US));
    struct scheduler_counters counters;
    engine_counters(house->engine, &counters);
    cr_assert_eq(counters.blocks_held, 0);
    cr_assert_eq(counters.waiting, 0);
    return crowd;
}

Test(engine, threads_submit_cancel_and_read_at_once)
{
    struct house house = open_house(2, 8, true);
    struct crowd crowd = let_work(&house, work);
    cr_assert_eq(crowd.right + crowd.refused, 360);
    cr_assert_gt(crowd.right, 60);
    close_house(&house);
}

Test(engine, several_requests_are_taken_together_or_not_at_all)
{
    struct house house = open_house(1, 5, false);
    struct error err = {0};
    struct remote *remotes[4];
    struct request_params params[4];
    uint64_t ids[4] = {0};
    for (uint64_t i = 0; i < 4; i++) {
        remotes[i] = remote_create(i, 5, 4, i == 3 ? 3 : 1);
        params[i] = remotes[i]->client->params;
    }
    struct scheduler_counters counters;
    cr_assert_eq(engine_submit_all(house.engine, params, 4, ids, NULL, &err), ST_INVALID);
    cr_assert(strstr(err.text, "6 sequences"), "%s", err.text);
    params[1].prompt_count = 0;
    cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_INVALID);
    params[1].prompt_count = 5;
    for (int64_t n = 1; n <= 3; n++) {
        alloc_fail_after(3 * n - 1); /* in the middle of the first, second and third request */
        cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_NO_MEMORY);
        alloc_fail_after(0);
    }
    engine_counters(house.engine, &counters);
    cr_assert_eq(counters.waiting, 0, "%d places are still taken", counters.waiting);
    cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_OK, "%s",
                 err.text);
    cr_assert(ids[0] && ids[1] == ids[0] + 1 && ids[2] == ids[0] + 2);
    cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_FULL);
    engine_counters(house.engine, &counters);
    cr_assert_eq(counters.waiting, 3);
    cr_assert_eq(engine_start(house.engine, &err), ST_OK);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    for (uint64_t i = 0; i < 3; i++)
        expect_right(remotes[i], i);
    remote_free(remotes[3]);
    close_house(&house);
}

/* What a listener finds when it is told that a tick is over. */
struct listener {
    struct house *house;
    struct remote *remote;
    _Atomic int32_t told, wrong;
};

static void on_tick(void *context)
{
    struct listener *listener = context;
    struct scheduler_counters counters;
    engine_counters(listener->house->engine, &counters);
    int32_t tokens = atomic_load(&listener->remote->tokens);
    atomic_fetch_add(&listener->told, 1);
    if (counters.generated_tokens != tokens || tokens > atomic_load(&listener->told))
        atomic_fetch_add(&listener->wrong, 1);
}

Test(engine, tells_once_after_each_tick)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct house house = open_house(depth, 8, true);
        struct error err;
        struct remote *remote = remote_create(9, 20, 30, 1), *later = remote_create(9, 20, 30, 1);
        struct listener listener = {.house = &house, .remote = remote};
        engine_after_tick(house.engine, on_tick, &listener);
        cr_assert_eq(submit(&house, remote, &err), ST_OK);
        cr_assert(engine_wait_idle(house.engine, FOREVER_US));
        struct scheduler_counters counters;
        engine_counters(house.engine, &counters);
        int32_t told = atomic_load(&listener.told);
        cr_assert_geq(told, (int32_t)counters.steps);
        cr_assert_leq(told, (int32_t)counters.steps + 2, "%d told of %lld steps", told,
                      (long long)counters.steps);
        cr_assert_eq(atomic_load(&listener.wrong), 0, "events or counters were not out");
        engine_after_tick(house.engine, NULL, NULL);
        cr_assert_eq(submit(&house, later, &err), ST_OK);
        cr_assert(engine_wait_idle(house.engine, FOREVER_US));
        cr_assert_eq(atomic_load(&listener.told), told, "told after it had left");
        expect_right(remote, 9);
        expect_right(later, 9);
        close_house(&house);
    }
}

/* --- before the first request */

struct chores {
    _Atomic int32_t done;
    int32_t most; /* then there are no more */
};

static bool do_chore(void *context)
{
    struct chores *chores = context;
    return atomic_fetch_add(&chores->done, 1) + 1 < chores->most;
}

static void start_with(struct house *house, struct chores *chores)
{
    struct error err = {0};
    engine_before_first(house->engine, do_chore, chores);
    cr_assert_eq(engine_start(house->engine, &err), ST_OK, "%s", err.text);
}

static void wait_for(const _Atomic int32_t *value, int32_t least)
{
    while (atomic_load(value) < least)
        pause_briefly();
}

Test(engine, what_is_done_before_the_first_request_ends_with_it)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct house house = open_house(depth, 8, false);
        struct chores chores = {.most = INT32_MAX};
        struct error err = {0};
        start_with(&house, &chores);
        wait_for(&chores.done, 3);
        struct remote *remote = remote_create(5, 12, 6, 2);
        cr_assert_eq(submit(&house, remote, &err), ST_OK, "%s", err.text);
        cr_assert(engine_wait_idle(house.engine, FOREVER_US));
        int32_t done = atomic_load(&chores.done);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        cr_assert_eq(atomic_load(&chores.done), done);
        close_house(&house);
        expect_right(remote, 5);
    }
}

Test(engine, what_is_done_before_the_first_request_has_an_end)
{
    struct house house = open_house(1, 8, false);
    struct chores chores = {.most = 7};
    struct error err = {0};
    start_with(&house, &chores);
    wait_for(&chores.done, 7);
    struct remote *remote = remote_create(6, 12, 6, 2);
    cr_assert_eq(submit(&house, remote, &err), ST_OK, "%s", err.text);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    cr_assert_eq(atomic_load(&chores.done), 7);
    close_house(&house);
    expect_right(remote, 6);
}

/* An order to stop does not wait for its end either. */
Test(engine, what_is_done_before_the_first_request_ends_with_the_engine)
{
    struct house house = open_house(1, 8, false);
    struct chores chores = {.most = INT32_MAX};
    start_with(&house, &chores);
    wait_for(&chores.done, 2);
    close_house(&house);
}

/* --- refusals for the time a request would wait */

/* A step takes 10 ms and 1 ms for each token. */
static double predict(const void *self, const struct step_load *load)
{
    (void)self;
    return 1000.0 * (10 + load->prefill_tokens + load->decode_rows);
}

static const struct scheduler_options refusing = {
    .max_queue = 16, .predictor = {.predict = predict}, .admission = ADMISSION_REFUSE};

static struct remote *hurried(uint64_t seed, int32_t prompt_count, int32_t n, int64_t ttft_us)
{
    struct remote *remote = remote_create(seed, prompt_count, 10, n);
    remote->client->params.slo.ttft_us = ttft_us;
    return remote;
}

Test(engine, refuses_who_would_be_late_before_anything_is_accepted)
{
    struct house house = open_house_with(refusing, 1, false);
    struct error err = {0};
    struct ttft_verdict verdict = {0};
    uint64_t ids[2] = {0};
    /* 24 tokens are a step of 34 ms. */
    struct remote *a = hurried(1, 24, 1, 34000), *b = hurried(2, 24, 2, 68000),
                  *late = hurried(3, 24, 1, 101999);
    cr_assert_eq(submit(&house, a, &err), ST_OK, "%s", err.text);
    cr_assert_eq(submit(&house, b, &err), ST_OK, "%s", err.text);
    cr_assert_eq(submit(&house, late, &err), ST_LATE, "what lies in the inbox stands before it");
    cr_assert_eq(engine_submit_all(house.engine, &late->client->params, 1, ids, &verdict, &err),
                 ST_LATE);
    cr_assert_float_eq(verdict.predicted_us, 102000, 1e-3);
    cr_assert_eq(verdict.limit_us, 101999);
    cr_assert_eq(verdict.retry_s, 1);
    cr_assert(strstr(err.text, "0.102 s"), "%s", err.text);
    struct scheduler_counters counters;
    engine_counters(house.engine, &counters);
    cr_assert_eq(counters.waiting, 3, "%d places are taken", counters.waiting);
    cr_assert_eq(engine_start(house.engine, &err), ST_OK);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    cr_assert_eq(submit(&house, late, &err), ST_OK, "drained, it is taken: %s", err.text);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    expect_right(a, 1);
    expect_right(b, 2);
    expect_right(late, 3);
    close_house(&house);
}

Test(engine, several_requests_are_judged_by_the_first_token_of_all)
{
    struct house house = open_house_with(refusing, 1, false);
    struct error err = {0};
    struct remote *remotes[3];
    struct request_params params[3];
    uint64_t ids[3] = {0};
    struct remote *busy = remote_create(9, 24, 10, 1);
    cr_assert_eq(submit(&house, busy, &err), ST_OK, "%s", err.text);
    for (uint64_t i = 0; i < 3; i++) {
        remotes[i] = hurried(i, 24, 1, 67999);
        params[i] = remotes[i]->client->params;
    }
    cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_LATE);
    params[0].slo.ttft_us = 68000;
    cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_OK, "%s",
                 err.text);
    /* All of them stand before the next one. */
    struct remote *next = hurried(4, 24, 1, 5 * 34000 - 1);
    cr_assert_eq(submit(&house, next, &err), ST_LATE);
    next->client->params.slo.ttft_us++;
    cr_assert_eq(submit(&house, next, &err), ST_OK, "%s", err.text);
    cr_assert_eq(engine_start(house.engine, &err), ST_OK);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    for (uint64_t i = 0; i < 3; i++)
        expect_right(remotes[i], i);
    expect_right(next, 4);
    expect_right(busy, 9);
    close_house(&house);
}

Test(engine, requests_of_one_submission_share_what_they_begin_with)
{
    struct house house = open_house_with(refusing, 1, false);
    struct error err = {0};
    struct remote *remotes[3];
    struct request_params params[3];
    uint64_t ids[3] = {0};
    for (uint64_t i = 0; i < 3; i++) {
        remotes[i] = hurried(1, 48, 1, 0);
        params[i] = remotes[i]->client->params;
    }
    cr_assert_eq(engine_submit_all(house.engine, params, 3, ids, NULL, &err), ST_OK, "%s",
                 err.text);
    /* 48 tokens, and of the second and third one (the last is always computed): 3 steps with the
     * 24 of the next one, not 7. */
    struct remote *next = hurried(4, 22, 1, 40000 + 72000);
    cr_assert_eq(submit(&house, next, &err), ST_OK, "%s", err.text);
    cr_assert_eq(engine_start(house.engine, &err), ST_OK);
    cr_assert(engine_wait_idle(house.engine, FOREVER_US));
    for (uint64_t i = 0; i < 3; i++)
        expect_right(remotes[i], 1);
    expect_right(next, 4);
    close_house(&house);
}

static void *work_in_a_hurry(void *argument)
{
    struct worker *worker = argument;
    struct rng rng = {worker->seed};
    for (int i = 0; i < 60; i++) {
        uint64_t seed = rng_below(&rng, 20); /* prompts come again */
        struct remote *remote =
            hurried(seed, 1 + (int32_t)rng_below(&rng, 60), 1 + (int32_t)rng_below(&rng, 3),
                    rng_below(&rng, 3) ? 1 : 100000000);
        struct error err;
        enum status status = submit(worker->house, remote, &err);
        if (status) {
            invariant(status == ST_LATE || status == ST_FULL, "%s", err.text);
            worker->refused += status == ST_LATE;
            remote_free(remote);
            continue;
        }
        while (rng_below(&rng, 2) && !atomic_load(&remote->done))
            pause_briefly();
        if (rng_below(&rng, 4) == 0) engine_cancel(worker->house->engine, remote->client->id);
        while (!atomic_load(&remote->done))
            pause_briefly();
        int32_t prompt[64];
        const char *mistake = client_mistake(remote->client, VOCAB, prompt_of(seed, prompt), NULL);
        invariant(!mistake, "%s", mistake);
        worker->right++;
        remote_free(remote);
    }
    return NULL;
}

Test(engine, threads_are_refused_and_nothing_accepted_is_lost)
{
    struct house house = open_house_with(refusing, 2, true);
    struct crowd crowd = let_work(&house, work_in_a_hurry);
    cr_assert_gt(crowd.right, 20);
    cr_assert_gt(crowd.refused, 5, "two of three are in a hurry that nobody else leaves room for");
    close_house(&house);
}
