/* One writer, one reader, no lock: for TSan and for the order of what is read. */
#include "base/base.h"
#include "server/token_log.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define RECORDS 20000

static void *write_all(void *argument)
{
    for (int32_t i = 0; i < RECORDS; i++) {
        struct token_logprob top[3] = {{i, 1}, {i + 1, 2}, {i + 2, 3}};
        struct token_record record = {.token = i, .choice = i % 7, .top_count = (uint8_t)(i % 4)};
        token_log_append(argument, record, top);
    }
    return NULL;
}

Test(token_log, the_reader_sees_every_record_whole_and_in_order)
{
    struct token_log log;
    pthread_t writer;
    cr_assert(token_log_init(&log, RECORDS, 3));
    pthread_create(&writer, NULL, write_all, &log);
    for (size_t read = 0; read < RECORDS;) {
        size_t count = token_log_count(&log);
        if (count == read) sched_yield();
        for (; read < count; read++) {
            cr_assert_eq(log.records[read].token, (int32_t)read);
            cr_assert_eq(log.records[read].choice, (int32_t)read % 7);
            for (int32_t k = 0; k < log.records[read].top_count; k++)
                cr_assert_eq(token_log_top(&log, read)[k].token, (int32_t)read + k);
        }
    }
    pthread_join(writer, NULL);
    token_log_release(&log);
}

Test(token_log, memory_that_cannot_be_had_is_said)
{
    struct token_log log;
    for (int64_t n = 1; n <= 2; n++) {
        alloc_fail_after(n);
        cr_assert_not(token_log_init(&log, 16, 2));
        alloc_fail_after(0);
        token_log_release(&log);
    }
}

Test(token_log, one_record_too_many_stops_the_process, .signal = SIGABRT)
{
    struct token_log log;
    token_log_init(&log, 1, 0);
    token_log_append(&log, (struct token_record){0}, NULL);
    token_log_append(&log, (struct token_record){0}, NULL);
}
