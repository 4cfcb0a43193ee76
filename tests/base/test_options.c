#include "base/base.h"
#include "base/options.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

static struct {
    bool json;
    const char *model;
    int64_t rows, bytes, slo_us;
    double temperature;
    struct option_ints list;
    int32_t below, depth, above;
} o;

static const struct option_spec table[] = {
    {NULL, OPT_FLAG, NULL, NULL, "Input:", 0, 0},
    {"model", OPT_STRING, &o.model, "PATH", "the model\non two lines", 0, 0},
    {"json", OPT_FLAG, &o.json, NULL, "one JSON document", 0, 0},
    {"max-rows", OPT_INT, &o.rows, "N", "rows in a step", 1, 256},
    {"kv-memory", OPT_SIZE, &o.bytes, "SIZE", "memory", 1 << 20, INT64_MAX},
    {"slo-tpot", OPT_TIME, &o.slo_us, "TIME", "target", 0, 60000000},
    {"temperature", OPT_REAL, &o.temperature, "T", "temperature", 0, 0},
    {"max-depth", OPT_INT32, &o.depth, "N", "depth", 1, INT32_MAX},
    {"rows", OPT_INTS, &o.list, "LIST", "rows to try", 1, 64},
};
static const struct command_help help = {"espalier test", "espalier test --model FILE.gguf",
                                         "Tests things."};

static int parse(int argc, const char **argv)
{
    memset(&o, 0, sizeof o);
    return options_parse(&help, table, COUNT_OF(table), argc, (char **)argv);
}
#define PARSE(...)                                                \
    parse((int)COUNT_OF(((const char *[]){"test", __VA_ARGS__})), \
          (const char *[]){"test", __VA_ARGS__})

Test(options, takes_both_forms_of_every_type)
{
    cr_assert_eq(PARSE("--model", "m.gguf", "--json", "--max-rows=8", "--kv-memory", "64MiB",
                       "--slo-tpot", "50ms", "--temperature=0.7", "--rows", "1,4,16"),
                 0);
    cr_assert_str_eq(o.model, "m.gguf");
    cr_assert(o.json);
    cr_assert_eq(o.rows, 8);
    cr_assert_eq(o.bytes, 64 << 20);
    cr_assert_eq(o.slo_us, 50000);
    cr_assert_float_eq(o.temperature, 0.7, 1e-12);
    cr_assert_eq(o.list.count, 3);
    cr_assert_eq(o.list.values[0], 1);
    cr_assert_eq(o.list.values[2], 16);
}

Test(options, an_int32_takes_its_own_bytes_only)
{
    cr_assert_eq(PARSE("--max-depth", "2147483647"), 0);
    cr_expect(o.depth == INT32_MAX && o.below == 0 && o.above == 0);
    cr_redirect_stderr();
    cr_expect_eq(PARSE("--max-depth", "2147483648"), -1);
    cr_expect_eq(PARSE("--max-depth", "1.5"), -1);
    cr_expect_eq(PARSE("--max-depth", "0"), -1);
}

Test(options, absent_options_keep_their_defaults_and_last_one_wins)
{
    cr_assert_eq(PARSE("--max-rows", "3", "--max-rows", "5"), 0);
    cr_assert_eq(o.rows, 5);
    cr_assert_null(o.model);
    cr_assert_not(o.json);
}

Test(options, odd_values_are_values)
{
    cr_assert_eq(PARSE("--model", "-"), 0);
    cr_assert_str_eq(o.model, "-");
    cr_assert_eq(PARSE("--model", "--not-an-option"), 0);
    cr_assert_str_eq(o.model, "--not-an-option");
    cr_assert_eq(PARSE("--model=--json"), 0);
    cr_assert_str_eq(o.model, "--json");
    cr_assert_not(o.json);
    cr_assert_eq(PARSE("--model="), 0);
    cr_assert_str_eq(o.model, "");
}

static void expect_stderr(const char *text)
{
    fflush(stderr);
    cr_assert_stderr_eq_str(text);
}

#define WRONG(name, text, ...)                      \
    Test(options, name, .init = cr_redirect_stderr) \
    {                                               \
        cr_assert_eq(PARSE(__VA_ARGS__), -1);       \
        expect_stderr("espalier test: " text "\n"); \
    }

WRONG(unknown_near, "unknown option --max-row; did you mean --max-rows?", "--max-row", "3")
WRONG(unknown_far, "unknown option --quantum; see --help", "--quantum=7")
WRONG(a_word,
      "found 'model.gguf' where an option was expected; a model is given as --model model.gguf",
      "model.gguf")
WRONG(one_dash, "found '-x' where an option was expected; see --help", "-x")
WRONG(two_dashes, "found '--' where an option was expected; see --help", "--")
WRONG(missing_at_end, "--model needs a value (PATH)", "--json", "--model")
WRONG(missing_before_option, "--model needs a value (PATH)", "--model", "--json")
WRONG(flag_with_value, "--json takes no value, found 'yes'", "--json=yes")
WRONG(below, "--max-rows: found '0', allowed is 1 to 256", "--max-rows", "0")
WRONG(above, "--max-rows: found '257', allowed is 1 to 256", "--max-rows", "257")
WRONG(no_integer, "--max-rows: found '8x', allowed is an integer from 1 to 256", "--max-rows", "8x")
WRONG(overflow, "--max-rows: found '99999999999999999999', allowed is an integer from 1 to 256",
      "--max-rows", "99999999999999999999")
WRONG(small_size, "--kv-memory: found '1KiB', allowed is 1MiB or more", "--kv-memory", "1KiB")
WRONG(bad_size, "--kv-memory: found '1GB', allowed is a size such as 65536, 64KiB, 512MiB, 2GiB",
      "--kv-memory", "1GB")
WRONG(long_time, "--slo-tpot: found '61s', allowed is 0 to 60s", "--slo-tpot", "61s")
WRONG(bare_time,
      "--slo-tpot: found '50', allowed is a time with its unit such as 500us, 250ms, 2s, 5m, 1h",
      "--slo-tpot", "50")
WRONG(bad_real, "--temperature: found 'nan', allowed is a number", "--temperature", "nan")
WRONG(list_range, "--rows: found '1,65', allowed is 1 to 64", "--rows", "1,65")
WRONG(list_hole, "--rows: found '1,,2', allowed are integers separated by commas", "--rows", "1,,2")

Test(options, long_list_is_refused, .init = cr_redirect_stderr)
{
    char text[200] = "1";
    for (int i = 0; i < 64; i++)
        strcat(text, ",1");
    cr_assert_eq(PARSE("--rows", text), -1);
    expect_stderr("espalier test: --rows: more than 64 numbers\n");
}

Test(options, help_shows_the_example_first, .init = cr_redirect_stdout)
{
    cr_assert_eq(PARSE("--json", "--help"), 1);
    fflush(stdout);
    cr_assert_stdout_eq_str("Example:\n  espalier test --model FILE.gguf\n\nTests things.\n\n"
                            "Options of espalier test:\n\nInput:\n"
                            "  --model PATH      the model\n                    on two lines\n"
                            "  --json            one JSON document\n"
                            "  --max-rows N      rows in a step\n"
                            "  --kv-memory SIZE  memory\n"
                            "  --slo-tpot TIME   target\n"
                            "  --temperature T   temperature\n"
                            "  --max-depth N     depth\n"
                            "  --rows LIST       rows to try\n"
                            "  --help            this text\n");
}

Test(options, sizes)
{
    int64_t bytes;
    cr_assert_eq(parse_size("0", &bytes, NULL), ST_OK);
    cr_assert_eq(bytes, 0);
    cr_assert_eq(parse_size("1.5KiB", &bytes, NULL), ST_OK);
    cr_assert_eq(bytes, 1536);
    cr_assert_eq(parse_size("2GiB", &bytes, NULL), ST_OK);
    cr_assert_eq(bytes, (int64_t)2 << 30);
    static const char *const bad[] = {
        "",     "KiB",           "-1",   "+1", " 1", "1 KiB", "1.5", "0x10", "inf",
        "1kib", "9999999999GiB", "1KiBx"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct error err = {0};
        cr_assert_eq(parse_size(bad[i], &bytes, &err), ST_INVALID, "%s", bad[i]);
        cr_assert_eq(err.status, ST_INVALID);
    }
}

Test(options, times)
{
    int64_t us;
    cr_assert_eq(parse_time("0", &us, NULL), ST_OK);
    cr_assert_eq(us, 0);
    cr_assert_eq(parse_time("2.5s", &us, NULL), ST_OK);
    cr_assert_eq(us, 2500000);
    cr_assert_eq(parse_time("250ms", &us, NULL), ST_OK);
    cr_assert_eq(us, 250000);
    cr_assert_eq(parse_time("7us", &us, NULL), ST_OK);
    cr_assert_eq(us, 7);
    cr_assert_eq(parse_time("5m", &us, NULL), ST_OK);
    cr_assert_eq(us, 300000000);
    cr_assert_eq(parse_time("1.5h", &us, NULL), ST_OK);
    cr_assert_eq(us, 5400000000);
    static const char *const bad[] = {"", "5", "5min", "5M", "1d", "-5s", "0.5us", "1e300s", "s"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_assert_eq(parse_time(bad[i], &us, NULL), ST_INVALID, "%s", bad[i]);
}
