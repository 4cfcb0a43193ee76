#include "tests/model/support_golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

double golden_tolerance = 3e-4, golden_worst;

static void check_close(double found, double expected, const char *what, size_t index)
{
    double difference = fabs(found - expected);
    if (difference > golden_worst) golden_worst = difference;
    cr_assert_lt(difference, golden_tolerance, "%s %zu: log probability %.7f, expected %.7f", what,
                 index, found, expected);
}

void check_logprobs(const double *found, const json_t *expected, const char *what)
{
    for (size_t i = 0; i < json_array_size(expected); i++)
        check_close(found[i], json_real_value(json_array_get(expected, i)), what, i);
}

void check_top(struct context *c, int32_t count, const json_t *top)
{
    json_t *ids = json_object_get(top, "ids"), *values = json_object_get(top, "logprobs");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        int32_t id = (int32_t)json_integer_value(json_array_get(ids, i));
        check_close(last_logprob(c, count, id), json_real_value(json_array_get(values, i)),
                    "top token", i);
    }
}

void check_greedy(struct context *c, int32_t count, const json_t *greedy, const json_t *logprobs)
{
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        int32_t expected = (int32_t)json_integer_value(json_array_get(greedy, i));
        int32_t found = last_argmax(c, count);
        cr_assert_eq(found, expected, "greedy token %zu: %d, expected %d", i, found, expected);
        check_close(last_logprob(c, count, found), json_real_value(json_array_get(logprobs, i)),
                    "greedy token", i);
        context_push(c, &found, 1, NULL);
        count = 1;
    }
}

void check_prompt(struct model *model, const json_t *ids, const json_t *logprobs, const json_t *top,
                  const json_t *greedy, const json_t *greedy_logprobs)
{
    struct context *c = must_alloc(sizeof *c);
    int32_t count, *tokens = json_ids(ids, &count);
    double *found = must_alloc((size_t)count * sizeof *found);
    context_begin(c, model);
    context_push(c, tokens, count, found);
    check_logprobs(found, logprobs, "prompt token");
    if (top) check_top(c, count, top);
    if (greedy) check_greedy(c, count, greedy, greedy_logprobs);
    free(found);
    free(tokens);
    free(c);
}

void check_prompts(struct model *model, const json_t *golden)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(golden, "prompts"), i, p)
    {
        json_t *greedy = json_object_get(p, "greedy");
        check_prompt(model, json_object_get(p, "ids"), json_object_get(p, "logprobs"),
                     json_object_get(p, "top5"), json_object_get(greedy, "ids"),
                     json_object_get(greedy, "logprobs"));
    }
}
