/* The stage driver, played by a loop that does what the scheduler does: every branch in turn, one
 * token a round, as scripts say. What stays in the context is compared as text. */
#include "server/branching/stages.h"
#include "base/base.h"
#include "model/synthetic.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_END  259 /* the first id behind the bytes; byte b is id 3 + b */
#define EOS        2
#define MAX_SCRIPT 140
#define CONTEXT    4096

/* Tokens of several bytes; a script names them by [text]. In GPT-2's alphabet: Ċ is "\n". */
static const struct {
    const char *text, *printable;
    enum token_kind kind;
} words[] = {
    {"ab.\nc", "ab.Ċc", TOKEN_NORMAL},     {"\n\n", "ĊĊ", TOKEN_NORMAL},
    {"STOP", "STOP", TOKEN_NORMAL},        {"</Path>\n", "</Path>Ċ", TOKEN_NORMAL},
    {"l></Go", "l></Go", TOKEN_NORMAL},    {"al>xy", "al>xy", TOKEN_NORMAL},
    {"</Path>", "</Path>", TOKEN_SPECIAL}, {"- a\n- b\n", NULL, TOKEN_ADDED},
};

static struct tokenizer *tokenizer;
static struct stage_plan *plan;
static struct stage_driver *driver;
static struct stage_need need;
static struct request_params params;
static struct api_stage stages[16];
static struct api_branch branches[256];
static size_t stage_count, branch_count;
static const struct tag_grammar *grammar;
static const char *stops[4];
static int32_t stop_count, max_branches = 8, max_sequences = 64, max_tokens = 400;
static int32_t context = CONTEXT;
static bool include_stop;

static void make_tokenizer(void)
{
    struct tokenizer_spec spec;
    struct error err = {0};
    int32_t count = BYTES_END + (int32_t)COUNT_OF(words);
    synthetic_tokenizer(count, PRETOKENIZE_GPT2, &spec);
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        struct tokenizer_token *token = &spec.tokens[BYTES_END + i];
        const char *text = words[i].printable ? words[i].printable : words[i].text;
        *token = (struct tokenizer_token){text, (uint32_t)strlen(text), words[i].kind};
    }
    cr_assert_eq(tokenizer_create(&spec, &tokenizer, &err), ST_OK, "%s", err.text);
    synthetic_tokenizer_free(&spec);
}

static void finish(void)
{
    stage_driver_free(driver);
    stage_plan_free(plan);
    driver = NULL;
    plan = NULL;
}

static void end(void)
{
    finish();
    tokenizer_free(tokenizer);
}

TestSuite(stages, .init = make_tokenizer, .fini = end);

/* --- what is asked */

static struct api_branch *add_branch(const char *prompt, int32_t most)
{
    struct api_branch *branch = &branches[branch_count++];
    *branch = (struct api_branch){.max_tokens = most};
    if (prompt) branch->prompt = (struct api_prompt){.text = prompt, .length = strlen(prompt)};
    stages[stage_count - 1].branch_count++;
    return branch;
}

static struct api_stage *add_stage(bool parallel, const char **own_stops)
{
    finish(); /* what was made of the stages so far */
    struct api_stage *stage = &stages[stage_count++];
    *stage = (struct api_stage){.parallel = parallel, .branches = &branches[branch_count]};
    stage->stops = own_stops;
    while (own_stops && own_stops[stage->stop_count])
        stage->stop_count++;
    return stage;
}

static void serial(const char *prompt, int32_t most, const char **own_stops)
{
    add_stage(false, own_stops);
    add_branch(prompt, most);
}

static void parallel(int32_t count, const char *prompt, int32_t most, const char **own_stops)
{
    add_stage(true, own_stops);
    for (int32_t i = 0; i < count; i++)
        add_branch(prompt, most);
}

static void outline(const char *prompt, int32_t max, int32_t most)
{
    struct api_stage *stage = add_stage(true, NULL);
    stage->outline = true;
    stage->outline_max = max;
    add_branch(prompt, most);
}

static void make(const char *prompt)
{
    struct stage_source source = {.tokenizer = tokenizer,
                                  .stages = grammar ? NULL : stages,
                                  .stage_count = grammar ? 0 : stage_count,
                                  .grammar = grammar,
                                  .stops = stops,
                                  .stop_count = (size_t)stop_count,
                                  .max_branches = max_branches,
                                  .max_sequences = max_sequences,
                                  .include_stop = include_stop,
                                  .parse_special = true};
    struct error err = {0};
    struct token_list ids = {0};
    finish();
    cr_assert_eq(stage_plan_create(&source, &plan, &err), ST_OK, "%s", err.text);
    cr_assert_eq(tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &ids, &err), ST_OK);
    need = stage_plan_need(plan, (int64_t)ids.count, max_tokens, 100000);
    driver = stage_driver_create(plan, &need, context, ids.ids, (int32_t)ids.count, 7);
    cr_assert(driver);
    params = (struct request_params){0};
    stage_driver_first(driver, &params);
    free(ids.ids);
}

/* --- the loop */

struct run {
    const char *at; /* in its script */
    struct token_list ids;
    int32_t given, sampled, kept_end, most;
    bool ended;
    enum finish_reason reason;
};

static struct strbuf told; /* stages as "0:text 1:(a|b)", a reason other than stop behind it */
static int64_t records, sampled_total, sequences_total;
static int32_t widest;

/* The next token of a script; EOS at its end. */
static int32_t next_token(const char **at)
{
    if (!**at) return EOS;
    if (**at != '[') return 3 + (unsigned char)*(*at)++;
    const char *close = strchr(*at, ']');
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        size_t length = strlen(words[i].text);
        if ((size_t)(close - *at - 1) != length || memcmp(*at + 1, words[i].text, length)) continue;
        bool special = close[1] == '!';
        if (special != (words[i].kind == TOKEN_SPECIAL)) continue;
        *at = close + 1 + special;
        return BYTES_END + (int32_t)i;
    }
    cr_assert_fail("no token for %s", *at);
    return -1;
}

static void finish_run(struct run *run, int32_t index, enum finish_reason reason, bool by_token)
{
    struct sequence_ending ending = {
        .reason = reason, .generated = run->sampled, .kept = run->sampled - by_token};
    uint32_t shown;
    int32_t most = ending.kept;
    run->reason = stage_driver_finish(driver, index, &ending, &shown);
    run->ended = true;
    cr_assert(ending.kept >= 0 && ending.kept <= most);
    cr_assert_leq(ending.appended_count, SEQUENCE_APPENDED);
    run->ids.count = (size_t)(run->given + ending.kept);
    for (int32_t i = 0; i < ending.appended_count; i++)
        token_list_append(&run->ids, ending.appended[i]);
    records += ending.appended_count + 1;
}

static void step(struct run *run, int32_t index)
{
    if (run->sampled == run->most) {
        finish_run(run, index, FINISH_LENGTH, false);
        return;
    }
    int32_t token = next_token(&run->at);
    uint32_t cut;
    bool ends = token == EOS;
    run->sampled++;
    sampled_total++;
    records++;
    token_list_append(&run->ids, token);
    enum token_verdict verdict = stage_driver_token(driver, index, token, ends, &cut);
    if (ends || verdict == TOKEN_STOP) finish_run(run, index, FINISH_STOP, ends);
}

static void tell(const struct stage_view *view, const struct run *runs)
{
    enum finish_reason reason = FINISH_STOP;
    if (told.length) strbuf_char(&told, ' ');
    if (view->hidden)
        strbuf_text(&told, "hidden:");
    else
        strbuf_format(&told, "%d:", view->number);
    if (view->parallel) strbuf_char(&told, '(');
    for (int32_t i = 0; i < view->count; i++) {
        if (i) strbuf_char(&told, '|');
        tokenizer_decode(tokenizer, runs[i].ids.ids, runs[i].ids.count, true, &told);
        if (runs[i].reason > reason) reason = runs[i].reason;
    }
    if (view->parallel) strbuf_char(&told, ')');
    if (reason == FINISH_LENGTH && !view->hidden) strbuf_char(&told, '~');
}

/* Plays one stage from position *end on; its sequences' scripts begin at *script. */
static void play_stage(const char *const **script, int64_t *end, bool joins)
{
    const struct stage_view *view = stage_driver_view(driver);
    struct run *runs = calloc((size_t)view->count, sizeof *runs);
    int32_t running = view->count;
    int64_t begin = *end + (joins && !view->branches[0].prompt_count);
    sequences_total += view->count;
    if (view->count > widest) widest = view->count;
    records += !view->hidden;
    for (int32_t i = 0; i < view->count; i++) {
        const struct branch_params *branch = &view->branches[i];
        runs[i].given = branch->prompt_count;
        int64_t left = params.extent.positions - begin - branch->prompt_count;
        cr_assert_geq(left, 0);
        runs[i].most = branch->max_tokens < left ? branch->max_tokens : (int32_t)left;
        runs[i].at = view->hidden ? "" : *(*script)++;
        cr_assert(runs[i].at, "no script for branch %d of stage %d", i, view->number);
        records += branch->prompt_count;
        for (int32_t j = 0; j < branch->prompt_count; j++)
            token_list_append(&runs[i].ids, branch->prompt[j]);
    }
    while (running)
        for (int32_t i = 0; i < view->count; i++) {
            if (runs[i].ended) continue;
            step(&runs[i], view->first_index + i);
            running -= runs[i].ended;
        }
    tell(view, runs);
    for (int32_t i = 0; i < view->count; i++) {
        int64_t last = begin + (int64_t)runs[i].ids.count;
        if (last > *end) *end = last;
        cr_assert_leq(last, params.extent.positions);
        free(runs[i].ids.ids);
    }
    free(runs);
}

static const char *play(const char *const *script)
{
    int64_t at = params.prompt_count - stage_driver_view(driver)->branches[0].prompt_count;
    bool parallel_before = false;
    struct stage_params next;
    int32_t first_index = 0;
    strbuf_clear(&told);
    records = 1;
    sampled_total = sequences_total = 0;
    widest = 0;
    for (bool more = true; more;) {
        const struct stage_view *view = stage_driver_view(driver);
        cr_assert_eq(view->first_index, first_index);
        first_index += view->count;
        bool was = view->parallel;
        play_stage(&script, &at, parallel_before);
        parallel_before = was;
        more = stage_driver_next(driver, &next);
        if (more) cr_assert_not(was && next.parallel);
    }
    cr_assert_leq(records, need.records);
    cr_assert_leq(sequences_total, need.sequences);
    cr_assert_leq(widest, need.width);
    cr_assert_not(stage_driver_failed(driver));
    return strbuf_cstr(&told);
}

#define SCRIPT(...) ((const char *const[]){__VA_ARGS__, NULL})
#define STOPS(...)  ((const char *[]){__VA_ARGS__, NULL})

static void expect_at(int line, const char *const *script, const char *wanted)
{
    make("prompt");
    const char *text = play(script);
    cr_expect_str_eq(text, wanted, "line %d: %s", line, text);
}
#define expect(wanted, ...) expect_at(__LINE__, SCRIPT(__VA_ARGS__), wanted)

static void restart(void)
{
    finish();
    stage_count = branch_count = 0;
}

/* --- lists of stages */

Test(stages, one_after_another)
{
    serial("Q: ", 10, NULL);
    parallel(1, "A: ", 4, NULL);
    add_branch("B: ", 4);
    serial("\nso ", 5, NULL);
    expect("0:Q: why 1:(A: yes|B: no) 2:\nso it is~", "why", "yes", "no", "it is so");
    cr_expect_eq(params.prompt_count, 6 + 3);
    cr_expect_eq(params.max_tokens, 10);
    cr_expect_eq(need.positions, 6 + 13 + 7 + 4 + 5);
    cr_expect_eq(need.sequences, 4);
    cr_expect_eq(need.width, 2);
}

Test(stages, parallel_at_first_and_behind_another)
{
    parallel(2, "x", 3, NULL);
    parallel(2, "y", 3, NULL);
    serial(NULL, 3, NULL);
    expect("hidden: 0:(xa|xb) hidden: 1:(yc|yd) 2:e", "a", "b", "c", "d", "e");
    cr_expect_eq(params.max_tokens, 0);
    cr_expect_eq(need.positions, 6 + 4 + 1 + 4 + 1 + 3);
}

Test(stages, zero_tokens)
{
    serial("s", 0, NULL);
    parallel(1, NULL, 0, NULL);
    add_branch("b", 0);
    serial("t", 0, NULL);
    serial(NULL, 2, NULL);
    expect("0:s~ 1:(|b)~ 2:t~ 3:hi~", "", "", "", "", "hi");
    restart();
    parallel(2, NULL, 0, NULL);
    serial(NULL, 1, NULL);
    expect("hidden: 0:(|)~ 1:z~", "", "", "z");
    cr_expect_eq(need.positions, 6 + 1 + 1);
}

Test(stages, a_stop_string_at_every_place)
{
    /* Serial behind serial: what is left begins the next prompt. */
    serial(NULL, 20, STOPS("\n"));
    serial("!", 20, NULL);
    expect("0:xy 1:ab.!z", "xy[ab.\nc]", "z");
    cr_expect_eq(stage_driver_view(driver)->skip, 3);
    expect("0: 1:!z", "\nlater", "z");
    expect("0: 1:ab.!z", "[ab.\nc]", "z");
    expect("0:xy 1:!z", "xy[\n\n]", "z");
    /* Serial before parallel, and in a branch: it is read by itself and stays where it was. */
    restart();
    serial(NULL, 20, STOPS("\n"));
    parallel(2, "p", 20, STOPS(".\nc", "STOP"));
    serial(NULL, 20, STOPS("TOPs"));
    expect("0:xab. 1:(pab|p1) 2:nS", "x[ab.\nc]", "[ab.\nc]", "1[STOP]", "n[STOP]s");
    /* At the very last too: ids are as long as the text. */
    restart();
    serial(NULL, 20, STOPS("b.\nc"));
    expect("0:a", "[ab.\nc]");
}

Test(stages, a_stop_string_over_tokens)
{
    serial(NULL, 20, STOPS("abc", "\n\n\nx"));
    serial("-", 20, NULL);
    expect("0:q 1:-", "qabc", "");
    expect("0:qab 1:-", "qab", "");
    expect("0:q\n 1:-", "q\n[\n\n]\nx", "");
    include_stop = true;
    expect("0:qabc 1:-", "qabc", "");
    stages[0].stops = STOPS("ab");
    stages[0].stop_count = 1;
    expect("0:q 1:ab-", "q[ab.\nc]", "");
}

Test(stages, ids_as_a_prompt_behind_a_cut)
{
    static int32_t ids[] = {3 + 'h', EOS, 3 + 'i'};
    serial(NULL, 20, STOPS("\n"));
    serial(NULL, 20, NULL);
    branches[1].prompt = (struct api_prompt){.ids = ids, .id_count = 3};
    expect("0:x 1:ab.h<|im_end|>i!", "x[ab.\nc]", "!");
}

Test(stages, an_unfinished_character_is_dropped)
{
    serial(NULL, 3, NULL);
    parallel(2, NULL, 3, NULL);
    serial(NULL, 3, NULL);
    expect("0:a\xc3\xa9~ 1:(a|\xe2\x82\xac)~ 2:ok", "a\xc3\xa9x", "a\xe2\x82", "\xe2\x82\xac",
           "ok");
}

Test(stages, items_of_an_outline)
{
    serial(NULL, 60, STOPS("\n\n"));
    outline("\n## {index}. {item}:", 8, 10);
    serial("\nend ", 4, NULL);
    expect("0:1. a\n2. bee 1:(\n## 1. a:x|\n## 2. bee:y) 2:\nend .", "1. a\n2. bee\n\n", "x", "y",
           ".");
    cr_expect_not(stage_driver_flags(driver).empty_outline);
    cr_expect_eq(stage_driver_flags(driver).outline_beyond, 0);
    expect("0:- a\n- b\n 1:(\n## 1. a:x|\n## 2. b:y) 2:\nend .", "[- a\n- b\n]", "x", "y", ".");
}

Test(stages, a_list_that_was_begun_for_the_model)
{
    serial("Tips:\n1.", 60, NULL);
    outline("<{item}>", 8, 1);
    expect("0:Tips:\n1. a\n2. b 1:(<a>|<b>)", " a\n2. b", "", "");
    branches[0].prompt = (struct api_prompt){.text = "-", .length = 1};
    expect("0:- a\n- b 1:(<a>|<b>)", " a\n- b", "", "");
    branches[0].prompt = (struct api_prompt){.text = "1. old", .length = 6}; /* not written here */
    expect("0:1. old\n2. b 1:(<b>)", "\n2. b", "");
    branches[0].prompt = (struct api_prompt){.text = "see 1.", .length = 6};
    expect("0:see 1. a\n2. b 1:(<b>)", " a\n2. b", "");
    branches[0].prompt = (struct api_prompt){0};
    make("x\n- ");
    cr_expect_str_eq(play(SCRIPT("a\n- b", "", "")), "0:a\n- b 1:(<a>|<b>)");
}

Test(stages, an_outline_without_items)
{
    serial(NULL, 60, STOPS("\n"));
    outline("{item}", 8, 10);
    serial("-", 4, NULL);
    expect("0:none 2:-z", "none", "z");
    cr_expect(stage_driver_flags(driver).empty_outline);
    expect("0: 2:ab.-z", "[ab.\nc]", "z"); /* the cut goes to the next serial stage */
    restart();
    serial("h", 60, NULL);
    outline("{item}", 8, 10);
    expect("0:hnone", "none");
    cr_expect(stage_driver_flags(driver).empty_outline);
    restart();
    serial("h", 60, NULL);
    outline("{item}", 8, 10);
    parallel(2, "p", 3, NULL);
    expect("0:hnone 2:(pa|pb)", "none", "a", "b");
}

Test(stages, an_outline_of_100)
{
    const char *script[MAX_SCRIPT] = {0};
    struct strbuf text = {0}, wanted = {0};
    for (int i = 1; i <= 100; i++)
        strbuf_format(&text, "%d) i%d\n", i, i);
    serial(NULL, 1000, NULL);
    outline("<{item}>", 64, 2);
    serial(NULL, 1, NULL);
    strbuf_format(&wanted, "0:%s 1:(", strbuf_cstr(&text));
    script[0] = strbuf_cstr(&text);
    for (int i = 1; i <= 64; i++) {
        script[i] = "w";
        strbuf_format(&wanted, "%s<i%d>w", i == 1 ? "" : "|", i);
    }
    script[65] = "e";
    strbuf_text(&wanted, ") 2:e~");
    make("p");
    cr_expect_str_eq(play(script), strbuf_cstr(&wanted));
    cr_expect_eq(stage_driver_flags(driver).outline_beyond, 36);
    strbuf_free(&text);
    strbuf_free(&wanted);
}

Test(stages, branches_64_of_one_token)
{
    const char *script[MAX_SCRIPT] = {0};
    parallel(64, NULL, 1, NULL);
    for (int i = 0; i < 64; i++)
        script[i] = i % 2 ? "o" : "ab";
    make("p");
    const char *text = play(script);
    cr_expect_eq(strlen(text), strlen("hidden: 0:()~") + 64 + 63, "%s", text);
    cr_expect_eq(widest, 64);
}

Test(stages, what_a_template_makes_of_an_item_is_bounded)
{
    /* Byte tokens: what was one token may come back as many, more than was promised. */
    serial(NULL, 1, NULL);
    outline("{item}{item}{item}{item}{item}{item}{item}{item}{item}{item}{item}{item}", 8, 1);
    serial("t", 1, NULL);
    context = 40;
    const char *text;
    make("p");
    text = play(SCRIPT("[- a\n- b\n]", "x", "y", "z"));
    cr_expect_str_eq(text, "0:- a\n- b\n~ 1:(aaaaaaaaaaaax|bbbbbbbbbbbby)~ 2:tz~", "%s", text);
    context = 14;
    make("p");
    text = play(SCRIPT("[- a\n- b\n]", "x", "y", "z"));
    cr_expect_str_eq(text, "0:- a\n- b\n~ 1:(aaaaaaaaaaaa|bbbbbbbbbbbb)~", "%s", text);
}

Test(stages, seeds)
{
    serial("a", 1, NULL);
    parallel(3, "b", 1, NULL);
    make("p");
    cr_expect_eq(params.sample.seed, 7);
    struct stage_params next;
    struct sequence_ending ending = {.reason = FINISH_LENGTH, .generated = 1, .kept = 1};
    uint32_t cut;
    stage_driver_token(driver, 0, 3 + 'x', false, &cut);
    stage_driver_finish(driver, 0, &ending, &cut);
    cr_assert(stage_driver_next(driver, &next));
    uint64_t base = rng_at(7, 1 + (UINT64_C(1) << 32));
    cr_expect_eq(next.branches[0].seed, base);
    cr_expect_eq(next.branches[2].seed, rng_at(base, 2));
    cr_expect(next.parallel && next.last && next.count == 3 && next.first_index == 1);
    restart();
    parallel(2, "b", 1, NULL);
    make("p");
    ending = (struct sequence_ending){.reason = FINISH_LENGTH};
    stage_driver_finish(driver, 0, &ending, &cut);
    cr_assert(stage_driver_next(driver, &next));
    cr_expect_eq(next.branches[0].seed, 7); /* as n = 2 */
    cr_expect_eq(next.branches[1].seed, rng_at(7, 1));
}

Test(stages, blocks_at_most)
{
    /* 33 of the prompt in 3 blocks; each branch: 1 private token + 15 = 1 block. */
    parallel(2, NULL, 15, NULL);
    make("123456789012345678901234567890123");
    cr_expect_eq(need.blocks, 3 + 2 * 1);
    parallel(2, NULL, 15, NULL);
    make("12345678901234567890123456789012");
    /* 15 copied and one private, then 15; the join; one private, 15 of which the last is not
     * computed. */
    cr_expect_eq(need.blocks, 2 + 2 * 2 + 1 + 2 * 1);
    cr_expect_eq(need.width, 2);
}

/* --- grammars */

#define PLAN "<Parallel>\n<Goal>\n<Outline>1: one</Outline>\n<Outline>two</Outline>\n</Goal>"
#define NPR  "<guideline><plan>1: one</plan><plan>2: two</plan></guideline>"

Test(stages, a_model_that_forks)
{
    grammar = tag_grammar_preset("multiverse");
    expect("0:so " PLAN " 1:(\n<Path>\n1: a</Path>|\n<Path>\n2: b</Path>) "
           "2:\n<Conclusion>\nc</Conclusion>\n</Parallel> fin",
           "so " PLAN, " a</Path>", " b</Path>", "c</Conclusion>\n</Parallel> fin");
    cr_expect_not(stage_driver_flags(driver).malformed);
    grammar = tag_grammar_preset("npr");
    expect("0:" NPR
           " 1:(\n<step>\n1:a</step>|\n<step>\n2:b</step>) 2:\n<takeaway>\nc</takeaway>" NPR
           " 3:(\n<step>\n1:|\n<step>\n2:d) 4:\n<takeaway>\n",
           NPR, "a</step>", "b</step>", "c</takeaway>" NPR, "", "d", "");
    cr_expect_not(stage_driver_flags(driver).malformed);
}

Test(stages, tags_split_over_tokens_and_with_bytes_behind)
{
    grammar = tag_grammar_preset("multiverse");
    expect("0:<Parallel><Goal><Outline>q</Outline></Goal> 1:(\n<Path>\n1:r</Path>) "
           "2:\n<Conclusion>\n",
           "<Parallel><Goal><Outline>q</Outline></Go[al>xy]", "r[</Path>\n]", "");
    expect("0:<Parallel><Goal><Outline>q</Outline></Goal> 1:(\n<Path>\n1:r</Path>) "
           "2:\n<Conclusion>\n",
           "<Parallel><Goal><Outline>q</Outline></Goal>", "r[</Path>]!", "");
}

Test(stages, malformed_tags_stay_text)
{
    grammar = tag_grammar_preset("multiverse");
    expect("0:</Goal>" PLAN "x", "</Goal>" PLAN "x");
    cr_expect(stage_driver_flags(driver).malformed);
    expect("0:<Parallel></Goal>x", "<Parallel></Goal>x");
    cr_expect(stage_driver_flags(driver).malformed);
    /* A block inside a path; the path's own end is found behind it. */
    expect("0:" PLAN " 1:(\n<Path>\n1:" PLAN "i</Path></Parallel>o</Path>|\n<Path>\n2:b</Path>) "
           "2:\n<Conclusion>\n",
           PLAN, PLAN "i</Path></Parallel>o</Path>x", "b</Path>", "");
    cr_expect(stage_driver_flags(driver).malformed);
    /* More branches than a block may have, and than an answer may have. */
    max_branches = 1;
    expect("0:" PLAN "x", PLAN "x");
    cr_expect(stage_driver_flags(driver).malformed);
    max_branches = 8;
    max_sequences = 3; /* the trunk, two paths and no join */
    expect("0:" PLAN "x", PLAN "x");
    cr_expect(stage_driver_flags(driver).malformed);
    max_sequences = 4;
    expect("0:" PLAN " 1:(\n<Path>\n1:|\n<Path>\n2:) 2:\n<Conclusion>\n</Parallel>" PLAN "x", PLAN,
           "", "", "</Parallel>" PLAN "x");
}

Test(stages, max_tokens_counts_along_the_longest_path)
{
    grammar = tag_grammar_preset("npr");
    int32_t trunk = (int32_t)strlen(NPR), given = (int32_t)strlen("\n<step>\n1:");
    int32_t join = (int32_t)strlen("\n<takeaway>\n");
    max_tokens = trunk;
    expect("0:" NPR "~", NPR);
    max_tokens = trunk + given + 3;
    expect("0:" NPR " 1:(\n<step>\n1:abc|\n<step>\n2:d)~", NPR, "abcdef", "d");
    max_tokens = trunk + given + 3 + join + 2;
    expect("0:" NPR " 1:(\n<step>\n1:abc|\n<step>\n2:d) 2:\n<takeaway>\nxy~", NPR, "abc", "d",
           "xyz");
    expect("0:" NPR " 1:(\n<step>\n1:abcdefghijklmnopq|\n<step>\n2:d)~", NPR,
           "abcdefghijklmnopqrstuvw", "d");
}

Test(stages, stop_strings_beside_tags)
{
    grammar = tag_grammar_preset("npr");
    stops[0] = "\n\n";
    stops[1] = "end>";
    stop_count = 2;
    expect("0:ab", "ab\n\n" NPR);
    expect("0:" NPR " 1:(\n<step>\n1:a|\n<step>\n2:b</step>) 2:\n<takeaway>\nc", NPR, "a\n\nx",
           "b</step>", "c[\n\n]");
    /* The tag is complete first; a stop string that began before its end would have come first. */
    stops[0] = ">\n";
    stop_count = 1;
    expect("0:" NPR " 1:(\n<step>\n1:a</step>|\n<step>\n2:b) 2:\n<takeaway>\nc", NPR, "a</step>",
           "b>\n", "c");
}

Test(stages, memory_that_cannot_be_had)
{
    serial(NULL, 60, STOPS("\n\n"));
    outline("\n## {index}. {item}:", 8, 10);
    serial("e", 4, NULL);
    int64_t n = 0;
    bool failed = true;
    for (; failed && n < 200; n++) {
        struct stage_source source = {
            .tokenizer = tokenizer, .stages = stages, .stage_count = stage_count};
        struct error err = {0};
        int32_t prompt[] = {5, 6};
        finish();
        alloc_fail_after(n + 1);
        failed = stage_plan_create(&source, &plan, &err) != ST_OK;
        if (failed) cr_assert_eq(err.status, ST_NO_MEMORY, "%s", err.text);
        if (!failed) {
            need = stage_plan_need(plan, 2, 0, 0);
            driver = stage_driver_create(plan, &need, CONTEXT, prompt, 2, 7);
            failed = !driver;
        }
        for (const char *at = "- a\n- b"; !failed && *at; at++) {
            uint32_t cut;
            stage_driver_token(driver, 0, 3 + *at, false, &cut);
        }
        struct sequence_ending ending = {.reason = FINISH_STOP, .generated = 7, .kept = 7};
        struct stage_params next;
        uint32_t shown;
        if (!failed) {
            stage_driver_finish(driver, 0, &ending, &shown);
            bool more = stage_driver_next(driver, &next);
            failed = stage_driver_failed(driver);
            cr_assert_eq(more, !failed);
        }
        alloc_fail_after(0);
    }
    cr_expect_gt(n, 10);
    cr_expect_lt(n, 200);
}
