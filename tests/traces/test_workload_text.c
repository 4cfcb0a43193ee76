/* A specification from the words of a command line. */
#include "base/base.h"
#include "traces/workload/spec_text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static char names[WORKLOAD_MAX_CLASSES][64];

static struct workload_spec good(const struct workload_texts *texts)
{
    struct workload_spec spec;
    struct error err = {0};
    cr_assert_eq(workload_from_texts(texts, &spec, names, &err), ST_OK, "%s", err.text);
    return spec;
}

Test(workload_text, what_is_given_changes_the_preset)
{
    struct workload_texts texts = workload_texts_none();
    texts.preset = "W6";
    texts.width = "3";
    texts.stages = "1:4";
    texts.branch_tokens = "60:0.5:10:90";
    texts.lead = "5:6";
    texts.tail = "7:8";
    texts.branching = 0.25;
    texts.cached = 0.5;
    texts.arrivals = "gamma:2.5";
    texts.levels = "1:300s,2.5:2m";
    texts.prefixes = "4:512:0.8";
    texts.slo_ttft = "1500ms";
    texts.slo_tpot = "none";
    struct workload_spec s = good(&texts);
    cr_assert(s.branching.width.least == 3 && s.branching.width.most == 3);
    cr_assert(s.branching.stages.least == 1 && s.branching.stages.most == 4);
    cr_assert(s.branching.branch_median == 60 && s.branching.branch_sigma == 0.5);
    cr_assert(s.branching.branch.least == 10 && s.branching.branch.most == 90);
    cr_assert(s.branching.lead.least == 5 && s.branching.lead.most == 6);
    cr_assert(s.branching.tail.least == 7 && s.branching.tail.most == 8);
    cr_assert(s.branching.share == 0.25 && s.cached_share == 0.5 && s.prompt_scale == 6);
    cr_assert(s.arrivals == ARRIVALS_GAMMA && s.arrival_cv == 2.5);
    cr_assert(s.levels.count == 2 && s.levels.weights[0] == 1 && s.levels.seconds[0] == 300);
    cr_assert(s.levels.weights[1] == 2.5 && s.levels.seconds[1] == 120);
    cr_assert(s.prefixes.count == 4 && s.prefixes.tokens == 512 && s.prefixes.share == 0.8);
    cr_assert(s.classes[0].ttft_ms == 1500 && s.classes[0].tpot_ms == 0);
}

Test(workload_text, nothing_given_is_the_default_or_the_preset)
{
    struct workload_texts texts = workload_texts_none();
    struct workload_spec s = good(&texts);
    cr_assert(s.branching.share == 0 && s.classes[0].ttft_ms == 0 && s.class_count == 1);
    texts.preset = "W4";
    s = good(&texts);
    cr_assert(s.branching.share == 0.5 && s.branching.width.least == 8);
    cr_assert(s.classes[0].ttft_ms == 2000 && s.classes[0].tpot_ms == 50);
    texts.branch_tokens = "60:0.5";
    s = good(&texts);
    cr_assert(s.branching.branch.least == 1 && s.branching.branch.most == 1000000);
}

Test(workload_text, classes)
{
    struct workload_texts texts = workload_texts_none();
    texts.classes = (struct option_texts){{"chat:0.7:1s:40ms", "batch:0.3:none:none"}, 2};
    struct workload_spec s = good(&texts);
    cr_assert_eq(s.class_count, 2);
    cr_assert_str_eq(s.classes[0].name, "chat");
    cr_assert(s.classes[0].share == 0.7 && s.classes[0].ttft_ms == 1000 &&
              s.classes[0].tpot_ms == 40);
    cr_assert_str_eq(s.classes[1].name, "batch");
    cr_assert(s.classes[1].ttft_ms == 0 && s.classes[1].tpot_ms == 0);
}

Test(workload_text, lengths)
{
    struct workload_texts texts = workload_texts_none();
    texts.lengths = "lognormal:1000:0.5:150:0";
    struct workload_spec s = good(&texts);
    struct rng rng = {3};
    double logs = 0;
    enum { COUNT = 4000 };
    for (int i = 0; i < COUNT; i++) {
        struct length_pair pair = lengths_draw(&s.lengths, &rng);
        cr_assert(pair.output == 150 || pair.output == 149, "%d", pair.output);
        logs += log(pair.prompt);
    }
    cr_assert_float_eq(logs / COUNT, log(1000), 5 * 0.5 / sqrt(COUNT) + 0.001);
}

static const struct {
    size_t offset;
    const char *text, *words;
} refused[] = {
#define FIELD(name) offsetof(struct workload_texts, name)
    {FIELD(preset), "W0", "--preset: found 'W0', allowed is W1 to W10"},
    {FIELD(width), "", "--width: found ''"},
    {FIELD(width), "8:2", "--width: found '8:2', allowed is MIN:MAX such as 2:8"},
    {FIELD(width), "0:2", "--width: found '0:2'"},
    {FIELD(width), "2:8:9", "--width: found '2:8:9'"},
    {FIELD(width), "2.5", "--width: found '2.5'"},
    {FIELD(width), "-1:4", "--width: found '-1:4'"},
    {FIELD(width), "2:99999999999", "--width: found"},
    {FIELD(width), "2:5000", "--width: found 2 to 5000, allowed is a range within 1 to 4096"},
    {FIELD(stages), "x", "--stages: found 'x'"},
    {FIELD(lead), "1:", "--lead: found '1:'"},
    {FIELD(tail), ":1", "--tail: found ':1'"},
    {FIELD(branch_tokens), "130", "--branch-tokens: found '130', allowed is MEDIAN:SIGMA"},
    {FIELD(branch_tokens), "130:0.6:50", "--branch-tokens: found '130:0.6:50'"},
    {FIELD(branch_tokens), "130:0.6:50:40", "--branch-tokens: found 50 to 40"},
    {FIELD(branch_tokens), "130:0.6:5000:6000", "at least 1 % must"},
    {FIELD(branch_tokens), "130:9", "sigma 9"},
    {FIELD(arrivals), "uniform", "--arrivals: found 'uniform', allowed is poisson, azure"},
    {FIELD(arrivals), "gamma", "--arrivals: found 'gamma'"},
    {FIELD(arrivals), "gamma:0", "--arrivals gamma: found CV 0, allowed is 0.05 to 20"},
    {FIELD(arrivals), "poisson:2", "--arrivals: found 'poisson:2'"},
    {FIELD(levels), "", "--rate-levels: found ''"},
    {FIELD(levels), "1", "--rate-levels: found '1', allowed is WEIGHT:TIME"},
    {FIELD(levels), "1:300", "--rate-levels: found '1:300'"},
    {FIELD(levels), "0:300s", "--rate-levels: found '0:300s'"},
    {FIELD(levels), "-1:300s", "--rate-levels: found '-1:300s'"},
    {FIELD(levels), "1:0s", "--rate-levels: found '1:0s'"},
    {FIELD(levels), "1:300s,", "--rate-levels: found '1:300s,'"},
    {FIELD(levels),
     "1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,1:1s,"
     "1:1s,1:1s",
     "at most 16"},
    {FIELD(prefixes), "4", "--prefixes: found '4', allowed is COUNT:TOKENS"},
    {FIELD(prefixes), "4:512:2", "--prefixes: found 2, allowed is 0 to 1"},
    {FIELD(prefixes), "0:512", "--prefixes: found 0 of 512"},
    {FIELD(slo_ttft), "2", "--slo-ttft: found '2', allowed is a time with its unit"},
    {FIELD(slo_ttft), "0ms", "--slo-ttft: found '0ms'"},
    {FIELD(slo_tpot), "fast", "--slo-tpot: found 'fast'"},
    {FIELD(lengths), "no-such-file", "--lengths: found 'no-such-file', allowed is azure-conv"},
    {FIELD(lengths), "lognormal", "--lengths: found 'lognormal', allowed is lognormal:PROMPT"},
    {FIELD(lengths), "lognormal:1:2:3", "--lengths: found 'lognormal:1:2:3'"},
    {FIELD(lengths), "lognormal:1:2:3:4:5", "lognormal:1:2:3:4:5"},
    {FIELD(lengths), "lognormal:0:1:3:1", "medians at least 1"},
    {FIELD(lengths), "lognormal:1:9:3:1", "sigmas 0 to 5"},
};

Test(workload_text, what_is_refused)
{
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct workload_texts texts = workload_texts_none();
        struct workload_spec spec;
        struct error err = {0};
        *(const char **)((char *)&texts + refused[i].offset) = refused[i].text;
        enum status status = workload_from_texts(&texts, &spec, names, &err);
        cr_assert_eq(status, ST_USAGE, "'%s' was taken", refused[i].text);
        cr_assert(strstr(err.text, refused[i].words), "'%s' is not in: %s", refused[i].words,
                  err.text);
    }
    static const char *const classes[] = {"chat",     "chat:1",      "chat:x:1s:1s",
                                          ":1:1s:1s", "chat:1:1:1s", "chat:1:1s:1s:1s"};
    for (size_t i = 0; i < COUNT_OF(classes); i++) {
        struct workload_texts texts = workload_texts_none();
        struct workload_spec spec;
        struct error err = {0};
        texts.classes = (struct option_texts){{classes[i]}, 1};
        cr_assert_eq(workload_from_texts(&texts, &spec, names, &err), ST_USAGE, "%s", classes[i]);
        cr_assert(strstr(err.text, "allowed is NAME:SHARE:TTFT:TPOT"), "%s", err.text);
    }
}
