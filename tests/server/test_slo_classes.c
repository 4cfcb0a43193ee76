/* Counters by class: whatever clients name, there are nine at most. */
#include "server/slo_classes.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct slo_classes classes;

static void begin(void)
{
    slo_classes_init(&classes);
}

TestSuite(slo_classes, .init = begin, .timeout = 30);

static char *text(void)
{
    struct strbuf out = {0};
    slo_classes_render(&classes, &out);
    return strbuf_take(&out);
}

static void expect_line(const char *line)
{
    char *all = text(), *at = strstr(all, line);
    cr_expect(at && at[-1] == '\n' && at[strlen(line)] == '\n', "no line '%s' in\n%s", line, all);
    free(all);
}

static int lines(void)
{
    int count = 0;
    char *all = text();
    for (const char *c = all; *c; c++)
        count += *c == '\n';
    free(all);
    return count;
}

Test(slo_classes, outcomes_and_shapes_apart)
{
    struct slo_class *class = slo_class_of(&classes, &(struct request_slo){2000000, 50000});
    cr_assert_eq(lines(), 4 + 6 + 2);
    slo_class_count(class, false, SLO_MET, 100);
    slo_class_count(class, false, SLO_MET, 20);
    slo_class_count(class, false, SLO_MISSED, 7);
    slo_class_count(class, true, SLO_MET, 5);
    slo_class_count(class, true, SLO_REFUSED, 0);
#define REQUESTS "espalier_slo_requests_total{ttft_ms=\"2000\",tpot_ms=\"50\","
    expect_line("# TYPE espalier_slo_requests_total counter");
    expect_line(REQUESTS "shape=\"serial\",outcome=\"met\"} 2");
    expect_line(REQUESTS "shape=\"serial\",outcome=\"missed\"} 1");
    expect_line(REQUESTS "shape=\"serial\",outcome=\"refused\"} 0");
    expect_line(REQUESTS "shape=\"branching\",outcome=\"met\"} 1");
    expect_line(REQUESTS "shape=\"branching\",outcome=\"missed\"} 0");
    expect_line(REQUESTS "shape=\"branching\",outcome=\"refused\"} 1");
#define TOKENS "espalier_slo_met_tokens_total{ttft_ms=\"2000\",tpot_ms=\"50\","
    expect_line("# TYPE espalier_slo_met_tokens_total counter");
    expect_line(TOKENS "shape=\"serial\"} 120");
    expect_line(TOKENS "shape=\"branching\"} 5");
}

Test(slo_classes, labels_are_milliseconds_or_none)
{
    slo_class_of(&classes, &(struct request_slo){1, 0});
    slo_class_of(&classes, &(struct request_slo){0, INT64_C(1000000000000)});
    slo_class_of(&classes, &(struct request_slo){INT64_C(999999999999), 12500});
    expect_line("espalier_slo_met_tokens_total{ttft_ms=\"0.001\",tpot_ms=\"none\","
                "shape=\"serial\"} 0");
    expect_line("espalier_slo_met_tokens_total{ttft_ms=\"none\",tpot_ms=\"1000000000\","
                "shape=\"serial\"} 0");
    expect_line("espalier_slo_met_tokens_total{ttft_ms=\"999999999.999\",tpot_ms=\"12.5\","
                "shape=\"serial\"} 0");
}

Test(slo_classes, eight_have_their_own_and_the_rest_share_one)
{
    struct slo_class *own[SLO_CLASSES];
    for (int i = 0; i < SLO_CLASSES; i++)
        own[i] = slo_class_of(&classes, &(struct request_slo){1000, 1 + i});
    for (int i = 0; i < SLO_CLASSES; i++) {
        cr_expect_eq(slo_class_of(&classes, &(struct request_slo){1000, 1 + i}), own[i]);
        for (int j = 0; j < i; j++)
            cr_expect_neq(own[i], own[j]);
    }
    int full = lines();
    for (int i = 0; i < 100000; i++)
        slo_class_count(slo_class_of(&classes, &(struct request_slo){2000, 1 + i}), i % 2, SLO_MET,
                        3);
    cr_expect_eq(lines(), full, "as many lines as before: %d", full);
    cr_expect_eq(full, 4 + 9 * 8);
    expect_line("espalier_slo_requests_total{ttft_ms=\"other\",tpot_ms=\"other\","
                "shape=\"branching\",outcome=\"met\"} 50000");
    expect_line("espalier_slo_met_tokens_total{ttft_ms=\"other\",tpot_ms=\"other\","
                "shape=\"serial\"} 150000");
}

/* Threads that name the same pairs at the same time find the same classes. */
#define THREADS 8
#define ROUNDS  2000

static void *name_pairs(void *unused)
{
    for (int i = 0; i < ROUNDS; i++)
        for (int pair = 0; pair < 12; pair++)
            slo_class_count(slo_class_of(&classes, &(struct request_slo){5, 1 + pair}), false,
                            SLO_MISSED, 1);
    return unused;
}

Test(slo_classes, from_many_threads)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, name_pairs, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(classes.count, SLO_CLASSES);
    uint64_t all = classes.other.serial.requests[SLO_MISSED];
    cr_expect_eq(all, (uint64_t)THREADS * ROUNDS * 4);
    for (int i = 0; i < SLO_CLASSES; i++) {
        cr_expect_eq(classes.all[i].serial.requests[SLO_MISSED], (uint64_t)THREADS * ROUNDS);
        cr_expect_eq(classes.all[i].serial.met_tokens, 0u, "missed: no goodput");
        for (int j = 0; j < i; j++)
            cr_expect_neq(classes.all[i].slo.tpot_us, classes.all[j].slo.tpot_us);
    }
}
