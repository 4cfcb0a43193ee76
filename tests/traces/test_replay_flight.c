#include "traces/replay/flight.h"
#include "traces/replay/pacing.h"
#include "traces/replay/record_file.h"
#include "traces/replay/search.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct flight new_flight(int32_t asked)
{
    struct flight flight = {0};
    flight_reset(&flight);
    flight.asked_tokens = asked;
    flight.answers = 1;
    flight.sent_us = flight.due_us = 0;
    return flight;
}

/* One letter a chunk: t text, s silent, c closing, e ending. */
static int settled(const char *chunks, int32_t usage)
{
    struct flight flight = new_flight(12);
    for (int64_t i = 0; chunks[i]; i++)
        flight_token(&flight, i, 0, 0,
                     chunks[i] == 't'   ? TOKEN_SURE
                     : chunks[i] == 's' ? TOKEN_SILENT
                     : chunks[i] == 'c' ? TOKEN_CLOSING
                                        : TOKEN_ENDING);
    flight.usage_completion = usage;
    flight_settle(&flight);
    int count = (int)flight.token_count;
    for (size_t i = 1; i < flight.token_count; i++)
        cr_assert_geq(flight.tokens[i].us, flight.tokens[i - 1].us);
    cr_assert(flight.spread_tokens == 0 || count == usage);
    flight_free(&flight);
    return count;
}

Test(flight, doubtful_chunks_are_what_the_server_counts)
{
    cr_assert_eq(settled("ttt", -1), 3);
    cr_assert_eq(settled("ttse", -1), 3); /* without a count: silent ones are, endings are not */
    cr_assert_eq(settled("ttse", 2), 2);
    cr_assert_eq(settled("ttse", 3), 3);
    cr_assert_eq(settled("ttse", 4), 4);
    cr_assert_eq(settled("ttc", 3), 3);
    cr_assert_eq(settled("ttsc", 3), 3); /* the rest of a character */
    cr_assert_eq(settled("sttc", 3), 3); /* an empty beginning */
    cr_assert_eq(settled("ttc", 2), 2);
    cr_assert_eq(settled("tt", 7), 7);    /* several a chunk */
    cr_assert_eq(settled("ttttt", 3), 5); /* what came, came */
    cr_assert_eq(settled("", 3), 0);
    cr_assert_eq(settled("t", 1 << 30), 1); /* no honest count */
}

/* Times of the chunks that stayed, as letters of their places. */
static void expect_kept(const char *chunks, int32_t usage, const char *places)
{
    struct flight flight = new_flight(12);
    char kept_places[32] = "";
    for (int64_t i = 0; chunks[i]; i++)
        flight_token(&flight, i, 0, chunks[i] < 'a',
                     strchr("tT", chunks[i])   ? TOKEN_SURE
                     : strchr("sS", chunks[i]) ? TOKEN_SILENT
                     : strchr("cC", chunks[i]) ? TOKEN_CLOSING
                                               : TOKEN_ENDING);
    flight.usage_completion = usage;
    flight_settle(&flight);
    for (size_t i = 0; i < flight.token_count; i++)
        kept_places[i] = (char)('0' + flight.tokens[i].us);
    cr_assert_str_eq(kept_places, places, "%s of %d", chunks, usage);
    flight_free(&flight);
}

Test(flight, what_goes_is_the_likeliest)
{
    expect_kept("ttsc", 3, "012");     /* the rest of a character that was held back */
    expect_kept("sttc", 3, "123");     /* a chunk of nothing before the first token */
    expect_kept("tTsTcC", 5, "01235"); /* of two answers the one whose character was not whole */
    expect_kept("tTttCc", 5, "01234"); /* one of the two */
    expect_kept("sTtSCc", 4, "0123");  /* both, though one had text before */
    expect_kept("tstste", 5, "01234");
    expect_kept("tssste", 2, "04"); /* a server that sends chunks of nothing */
}

Test(flight, spread_tokens_come_with_their_chunks)
{
    struct flight flight = new_flight(12);
    for (int64_t i = 0; i < 3; i++)
        flight_token(&flight, 100 * i, 0, 0, TOKEN_SURE);
    flight.usage_completion = 9;
    flight_settle(&flight);
    for (size_t i = 0; i < 9; i++)
        cr_assert_eq(flight.tokens[i].us, (int64_t)(i / 3) * 100);
    cr_assert_eq(flight.spread_tokens, 6);
    flight_free(&flight);
}

Test(flight, a_server_cannot_fill_our_memory)
{
    struct flight flight = new_flight(10);
    int64_t taken = 0;
    while (flight_token(&flight, 0, 0, 0, TOKEN_SURE))
        taken++;
    cr_assert_eq(taken, 2 * 10 + 1024);
    for (taken = 0; flight_event(&flight, 0, 0, 0, BRANCH_FORK);)
        taken++;
    cr_assert_eq(taken, 2 * 10 + 1024);
    for (taken = 0; flight_finish(&flight, 0, "stop");)
        taken++;
    cr_assert_eq(taken, 2 * 10 + 1024);
    flight_free(&flight);
}

Test(flight, gaps_are_those_of_one_sequence)
{
    struct flight flight = new_flight(10);
    bool parallel[] = {false, true};
    flight.parallel = malloc(sizeof parallel);
    memcpy(flight.parallel, parallel, sizeof parallel);
    flight.stage_count = 2;
    static const int64_t rows[][3] = {{10, 0, 0}, {30, 0, 0}, {40, 1, 0}, {41, 1, 1},
                                      {50, 1, 0}, {71, 1, 1}, {80, 2, 0}};
    for (size_t i = 0; i < 7; i++)
        flight_token(&flight, 1000 * rows[i][0], (int32_t)rows[i][1], (int32_t)rows[i][2],
                     TOKEN_SURE);
    flight.outcome = OUTCOME_COMPLETED;
    struct request_record record;
    struct results_builder *builder = results_begin();
    flight_score(&flight, &record, builder);
    results_add(builder, &record);
    struct results *results = results_end(builder, 1);
    cr_assert_eq(results->itl_ms.count, 3); /* 20, 10, 30 ms */
    cr_assert_float_eq(results->itl_ms.mean, 20, 1e-9);
    cr_assert_eq(results->itl_ms.max, 30);
    cr_assert_eq(record.output_tokens, 7);
    cr_assert_eq(record.running.serial_gaps, 1);
    results_free(results);
    flight_free(&flight);
}

/* --- the file */

static struct flight *kept;

static enum status keep_header(void *context, json_t *header, struct error *err)
{
    (void)context, (void)err;
    cr_assert_str_eq(json_string_value(json_object_get(header, "command")), "c");
    return ST_OK;
}

/* A copy that outlives the reader's. */
static void keep_flight(void *context, const struct flight *flight)
{
    (void)context;
    *kept = *flight;
    kept->class_name = strdup(flight->class_name);
    kept->tokens = malloc(flight->token_count * sizeof *kept->tokens);
    memcpy(kept->tokens, flight->tokens, flight->token_count * sizeof *kept->tokens);
    kept->parallel = malloc((size_t)flight->stage_count * sizeof *kept->parallel);
    memcpy(kept->parallel, flight->parallel, (size_t)flight->stage_count * sizeof *kept->parallel);
    cr_assert_eq(flight->event_count, 1);
    cr_assert_eq(flight->events[0].kind, BRANCH_JOIN);
    cr_assert_eq(flight->finish_count, 1);
    cr_assert_str_eq(flight->finishes[0].reason, "st\"op");
    kept->events = NULL;
    kept->finishes = NULL;
}

static void keep_end(void *context, json_t *end)
{
    *(bool *)context = json_integer_value(json_object_get(end, "sent")) == 1;
}

static void fill(struct flight *flight)
{
    *flight = new_flight(5);
    bool parallel[] = {false, true};
    flight->parallel = malloc(sizeof parallel);
    memcpy(flight->parallel, parallel, sizeof parallel);
    flight->stage_count = 2;
    flight->class_name = "cl\\ass\"";
    flight->index = 3;
    flight->due_us = 5;
    flight->sent_us = 7;
    flight->end_us = 1234567890123;
    flight->connected_us = 8;
    flight->slo = (struct slo_target){2000000, 50000};
    flight->outcome = OUTCOME_FAILED;
    flight->usage_completion = 2;
    flight->http_status = 200;
    snprintf(flight->reason, sizeof flight->reason, "stalled");
    flight_token(flight, 9, 0, 0, TOKEN_SURE);
    flight_token(flight, 1234567890000, 1, 2, TOKEN_SURE);
    flight_event(flight, 20, 1, 0, BRANCH_JOIN);
    flight_finish(flight, 0, "st\"op");
}

Test(record_file, what_is_written_is_read)
{
    char path[] = "/tmp/espalier-record-XXXXXX";
    struct error err = {0};
    struct record_writer *writer;
    struct flight flight, read = {0};
    bool ended = false;
    close(mkstemp(path));
    fill(&flight);
    cr_assert_eq(record_file_create(path, &writer, &err), ST_OK);
    json_t *header = json_pack("{s:i, s:s}", "espalier_replay", 1, "command", "c");
    json_t *end = json_pack("{s:i}", "sent", 1);
    record_file_header(writer, header);
    record_file_flight(writer, &flight);
    record_file_end(writer, end);
    cr_assert_eq(record_file_close(writer, &err), ST_OK);
    kept = &read;
    struct record_reader reader = {keep_header, keep_flight, keep_end, &ended};
    cr_assert_eq(record_file_read(path, &reader, &err), ST_OK, "%s", err.text);
    cr_assert(ended);
    cr_assert_eq(read.index, 3);
    cr_assert_str_eq(read.class_name, "cl\\ass\"");
    cr_assert(read.due_us == 5 && read.sent_us == 7 && read.end_us == 1234567890123);
    cr_assert(read.connected_us == 8 && read.first_byte_us == -1);
    cr_assert(read.slo.ttft_us == 2000000 && read.slo.tpot_us == 50000);
    cr_assert(read.outcome == OUTCOME_FAILED && !strcmp(read.reason, "stalled"));
    cr_assert(read.usage_completion == 2 && read.usage_prompt == -1);
    cr_assert_eq(read.token_count, 2);
    cr_assert(read.tokens[1].us == 1234567890000 && read.tokens[1].stage == 1 &&
              read.tokens[1].branch == 2);
    cr_assert(read.stage_count == 2 && !read.parallel[0] && read.parallel[1]);
    free((char *)read.class_name);
    flight_free(&read);
    flight_free(&flight);
    json_decref(header);
    json_decref(end);
    unlink(path);
}

Test(record_file, a_full_disk_is_said)
{
    struct error err = {0};
    struct record_writer *writer;
    json_t *header = json_object();
    cr_assert_eq(record_file_create("/dev/full", &writer, &err), ST_OK);
    record_file_header(writer, header);
    cr_assert_eq(record_file_close(writer, &err), ST_IO);
    cr_assert(strstr(err.text, "/dev/full"));
    cr_assert_eq(record_file_create("/nowhere/x", &writer, &err), ST_IO);
    json_decref(header);
}

/* --- when */

static struct trace *three(void)
{
    static const int32_t tokens[] = {4};
    static const struct trace_stage stage = {false, 1, tokens};
    struct trace *trace = trace_create();
    for (int i = 0; i < 3; i++) {
        struct trace_request request = {.arrival_ms = 1000 + 100 * i,
                                        .prompt_tokens = 5,
                                        .stages = &stage,
                                        .stage_count = 1,
                                        .class_name = ""};
        trace_add(trace, &request);
    }
    return trace;
}

Test(pacing, the_traces_own_times)
{
    struct trace *trace = three();
    struct replay_settings settings = {.rate_scale = 0.5};
    struct pacing pacing;
    int64_t index;
    pacing_begin(&pacing, &settings, trace);
    for (int64_t i = 0; i < 3; i++) {
        cr_assert_eq(pacing.next_us, 200000 * i);
        cr_assert(!pacing_over(&pacing, 0));
        cr_assert_eq(pacing_take(&pacing, &index), &trace->requests[i]);
        cr_assert_eq(index, i);
    }
    cr_assert(pacing_over(&pacing, 0));
    settings.requests = 99; /* a trace goes out once */
    pacing_begin(&pacing, &settings, trace);
    cr_assert_eq(pacing.limit, 3);
    settings.requests = 2;
    settings.duration_us = 200000; /* the second is due when it is over */
    pacing_begin(&pacing, &settings, trace);
    cr_assert_eq(pacing.limit, 2);
    pacing_take(&pacing, &index);
    cr_assert(pacing_over(&pacing, 0));
    trace_free(trace);
}

Test(pacing, random_arrivals_have_their_rate_and_begin_the_trace_anew)
{
    struct trace *trace = three();
    struct replay_settings settings = {.rate_scale = 1, .rate = 50, .requests = 20000, .seed = 3};
    struct pacing pacing;
    int64_t index, before = 0;
    double squares = 0;
    pacing_begin(&pacing, &settings, trace);
    for (int64_t i = 0; i < 20000; i++) {
        double gap_s = (double)(pacing.next_us - before) / 1e6;
        squares += gap_s * gap_s;
        before = pacing.next_us;
        cr_assert_eq(pacing_take(&pacing, &index), &trace->requests[i % 3]);
    }
    cr_assert(pacing_over(&pacing, 0));
    cr_assert_float_eq((double)before / 1e6 / 20000, 0.02, 0.0006);
    cr_assert_float_eq(squares / 20000, 2 * 0.02 * 0.02, 0.0001); /* exponential */
    trace_free(trace);
}

/* Times beyond what a record may hold are never reached: they stay there, in order. */
Test(pacing, rates_next_to_nothing_overflow_nothing)
{
    struct trace *trace = three();
    struct replay_settings settings[] = {{.rate_scale = 1, .rate = 1e-15, .requests = 9},
                                         {.rate_scale = 1e-18},
                                         {.rate_scale = 1, .rate = 1e300, .requests = 9}};
    for (size_t i = 0; i < 3; i++) {
        struct pacing pacing;
        int64_t index, before = 0;
        pacing_begin(&pacing, &settings[i], trace);
        while (!pacing_over(&pacing, 0)) {
            cr_assert(pacing.next_us >= before && pacing.next_us <= FLIGHT_LAST_US);
            before = pacing.next_us;
            pacing_take(&pacing, &index);
        }
        cr_assert_eq(before, i < 2 ? FLIGHT_LAST_US : 0);
    }
    trace_free(trace);
}

Test(pacing, a_closed_loop_ends_by_count_or_time)
{
    struct trace *trace = three();
    struct replay_settings settings = {.concurrency = 2, .duration_us = 1000};
    struct pacing pacing;
    pacing_begin(&pacing, &settings, trace);
    cr_assert_eq(pacing.limit, INT64_MAX);
    cr_assert(!pacing_over(&pacing, 999) && pacing_over(&pacing, 1000));
    settings.duration_us = 0;
    pacing_begin(&pacing, &settings, trace);
    cr_assert_eq(pacing.limit, 3);
    trace_free(trace);
}

/* --- the search */

struct server {
    double capacity;
    int probes, stop_after;
};

static enum status probe(void *context, double rate, bool *passed, bool *go_on, struct error *err)
{
    struct server *server = context;
    (void)err;
    *passed = rate <= server->capacity;
    *go_on = ++server->probes != server->stop_after;
    return ST_OK;
}

static int probes_for(double capacity, double first)
{
    struct server server = {.capacity = capacity};
    cr_assert_eq(search_rate(first, probe, &server, NULL), ST_OK);
    return server.probes;
}

Test(search, ends_near_the_edge)
{
    cr_assert_leq(probes_for(7.3, 1), 10);
    cr_assert_leq(probes_for(7.3, 100), 10);
    cr_assert_eq(probes_for(0, 100), SEARCH_DOWN);
    cr_assert_eq(probes_for(1e99, 1), SEARCH_PROBES);
    struct server server = {.capacity = 5, .stop_after = 2};
    cr_assert_eq(search_rate(1, probe, &server, NULL), ST_OK);
    cr_assert_eq(server.probes, 2);
}
