/* What a server streams to `espalier replay`: however its bytes are cut, the same tokens and the
 * same end, within the limits; and a score of them that holds.
 *
 * Input: a byte (how many of the answer's tokens were asked for), a byte (length of the first
 * piece), then the stream.
 */
#include "tests/fuzz/support_input.h"
#include "traces/replay/stream.h"

#include <stdlib.h>
#include <string.h>

static int64_t now_us = 1000;

/* Memory of its own for each piece: a sanitizer sees every step beyond it. */
static bool take_piece(struct stream *stream, const char *bytes, size_t length)
{
    char *copy = malloc(length + 1);
    memcpy(copy, bytes, length);
    stream->last_byte_us = now_us++;
    bool more = stream_take(stream, copy, length);
    free(copy);
    return more;
}

static void take_all(struct stream *stream, struct input input, size_t first, size_t piece)
{
    size_t length = first < input.left ? first : input.left;
    while (input.left && take_piece(stream, input.text, length)) {
        input.text += length;
        input.left -= length;
        length = piece < input.left ? piece : input.left;
    }
}

static void check_score(struct stream *stream)
{
    struct flight *flight = &stream->flight;
    struct request_record record;
    struct results_builder *builder = results_begin();
    flight_settle(flight);
    invariant(flight->token_count <= 2 * (size_t)flight->asked_tokens + 1024, "too many tokens");
    for (size_t i = 1; i < flight->token_count; i++)
        invariant(flight->tokens[i].us >= flight->tokens[i - 1].us, "token %zu goes back", i);
    flight->outcome = OUTCOME_COMPLETED;
    flight_score(flight, &record, builder);
    invariant(record.output_tokens == (int32_t)flight->token_count, "tokens were lost");
    results_add(builder, &record);
    results_free(results_end(builder, 1));
}

static void start(struct stream *stream, struct stream_context *context, int32_t asked)
{
    stream->context = context;
    flight_reset(&stream->flight);
    stream->flight.asked_tokens = asked;
    stream->flight.answers = 1;
    stream->flight.sent_us = stream->flight.due_us = 0;
}

static void finish(struct stream *stream)
{
    sse_free(&stream->sse);
    flight_free(&stream->flight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stream_context context;
    struct input input = {(const char *)data, size};
    int32_t asked = input_byte(&input);
    size_t first = (size_t)input_byte(&input) + 1;
    struct stream whole = {0}, cut = {0};
    start(&whole, &context, asked);
    start(&cut, &context, asked);
    take_all(&whole, input, input.left, 1);
    take_all(&cut, input, first, 3);
    invariant(whole.flight.token_count == cut.flight.token_count && whole.done == cut.done,
              "%zu tokens in one piece, %zu in several", whole.flight.token_count,
              cut.flight.token_count);
    invariant(!strcmp(whole.failure, cut.failure), "'%s' in one piece, '%s' in several",
              whole.failure, cut.failure);
    check_score(&whole);
    check_score(&cut);
    finish(&whole);
    finish(&cut);
    return 0;
}
