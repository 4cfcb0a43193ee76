#include "quant/checkpoint/report.h"
#include "base/base.h"
#include "quant/checkpoint/format_plan.h"

#include <stdio.h>
#include <string.h>

/* The columns of a layer's row. */
static const struct {
    enum tensor_role role;
    const char *title;
} columns[] = {
    {TENSOR_Q, "q"},       {TENSOR_K, "k"},   {TENSOR_V, "v"},       {TENSOR_O, "o"},
    {TENSOR_GATE, "gate"}, {TENSOR_UP, "up"}, {TENSOR_DOWN, "down"},
};

static const json_t *record_of(const json_t *records, enum tensor_role role, int32_t layer)
{
    char name[TENSOR_NAME_ROOM];
    return json_object_get(records, written_name(role, layer, name));
}

static double number(const json_t *record, const char *key)
{
    return json_number_value(json_object_get(record, key));
}

static double weights_of(const json_t *record)
{
    const json_t *shape = json_object_get(record, "shape");
    return json_number_value(json_array_get(shape, 0)) *
           json_number_value(json_array_get(shape, 1));
}

/* The errors side by side, then the layer's bits and what was clipped, by weights. */
static void print_layer(const json_t *records, int32_t layer)
{
    double weights = 0, bits = 0, clipped = 0;
    printf("%5d ", layer);
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        const json_t *record = record_of(records, columns[i].role, layer);
        double count = weights_of(record);
        weights += count;
        bits += count * number(record, "bits");
        clipped += count * number(record, "clipped");
        printf("  %.5f", number(record, "error"));
    }
    printf("  %5.3f  %6.3f %%\n", bits / weights, 100 * clipped / weights);
}

static void print_table(const json_t *records, enum tensor_role role, const char *title)
{
    const json_t *record = record_of(records, role, 0);
    if (record)
        printf("%-9s  error %.7f, %.3f bits\n", title, number(record, "error"),
               number(record, "bits"));
}

/* AWQ and GPTQ round other weights than the source's, on purpose. */
static void print_meaning(const json_t *record)
{
    const json_t *method = json_object_get(json_object_get(record, "options"), "method");
    const char *name = json_string_value(method);
    printf(
        "relative error of rounding (squared error over squared weights), bits a weight, weights "
        "clipped\n");
    if (strstr(name, "awq"))
        puts("awq: against the weights with its scales in their columns, not the source's own");
    if (strstr(name, "gptq"))
        puts(
            "gptq: against the weights that make up for earlier losses, not the source's own; it "
            "lets "
            "this\nerror grow to make that of the products smaller: compare methods by perplexity");
}

void report_print(const json_t *record, const char *out)
{
    const json_t *records = json_object_get(record, "tensors");
    const json_t *matrices = json_object_get(record, "matrices");
    print_meaning(record);
    printf("layer ");
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        printf("  %7s", columns[i].title);
    printf("  %5s  %8s\n", "bits", "clipped");
    for (int32_t layer = 0; record_of(records, TENSOR_DOWN, layer); layer++)
        print_layer(records, layer);
    print_table(records, TENSOR_EMBEDDING, "embedding");
    print_table(records, TENSOR_HEAD, "head");
    printf("%s: %.1f MB of matrices (embedding included, norms not), %.3f bits a weight\n", out,
           number(matrices, "bytes") / 1e6, number(matrices, "bits"));
}
