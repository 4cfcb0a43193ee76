/* Stages: what a fork shares and copies, what a join puts together, and that nothing is computed
 * twice or lost. Every answer is compared to plain recursion (support_stage_reference.h); computed
 * tokens and copies are counted by the simulated executor, blocks by the pool. */
#include "support_bench.h"
#include "support_stage_reference.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct stage_client *play(struct bench *bench, const struct script *script)
{
    struct error err = {0};
    struct stage_client *client = stage_client_create(script);
    cr_assert_eq(stage_client_add(client, bench->s, &err), ST_OK, "%s", err.text);
    return client;
}

/* Frees the client. */
static void expect_right(struct stage_client *client, const char *what)
{
    struct reference *reference = reference_create(client->script, VOCAB);
    const char *mistake = stage_client_mistake(client, reference);
    cr_assert_null(mistake, "%s: %s", what, mistake);
    cr_assert(client->cancelled || !stage_client_was_cut(client), "%s: it was cut", what);
    reference_free(reference);
    stage_client_free(client);
}

static struct simulated_counts counts_of(const struct bench *bench)
{
    return simulated_counts(bench->sim);
}

static int32_t held(const struct bench *bench)
{
    return block_pool_counts(bench->s->pool).held;
}

static struct bench *open_blocks(int32_t depth, int32_t blocks)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = depth;
    capacity.block_count = blocks;
    return bench_open(capacity, scheduler_options_default(), (struct simulated_options){0});
}

static bool all_have(const struct stage_client *client, int32_t first, int32_t count,
                     int32_t tokens)
{
    for (int32_t i = first; i < first + count; i++)
        if (client->streams[i].count < tokens) return false;
    return true;
}

static void tick_until(struct bench *bench, const struct stage_client *client, int32_t first,
                       int32_t count, int32_t tokens)
{
    int ticks = 0;
    while (!all_have(client, first, count, tokens)) {
        cr_assert(tick(bench) && !client->done, "the branches never get there");
        cr_assert_lt(++ticks, 10000);
    }
}

/* The list of tokens that a stage leaves: of a request that only ran serially, a flat prompt. */
static void flat_prompt(struct script *flat, const struct script *script, int32_t stage,
                        int32_t max_tokens)
{
    struct reference *reference = reference_create(script, VOCAB);
    const struct placed_list *list = &reference->contexts[stage];
    script_begin(flat, VOCAB, list->count, max_tokens);
    for (int32_t i = 0; i < list->count; i++)
        flat->branches[0].prompt[i] = list->items[i].token;
    reference_free(reference);
}

/* --- forks */

/* K tokens of the parent: its complete blocks are shared, (K - 1) % 16 slots are copied for each
 * branch, and its last token and what follows are all that is computed. */
Test(fork_join, a_fork_shares_blocks_and_copies_the_rest)
{
    static const int32_t kept[] = {1, 2, 15, 16, 17, 18, 31, 32, 33, 48, 49, 64, 65, 160, 161};
    const int32_t width = 4, answer = 3;
    for (int32_t depth = 1; depth <= 2; depth++)
        for (size_t i = 0; i < COUNT_OF(kept); i++) {
            struct bench *bench = open_blocks(depth, 64);
            struct script script;
            int32_t k = kept[i], rest = (k - 1) % 16, shared = (k - 1) / 16;
            script_begin(&script, VOCAB, k, 0);
            script_parallel(&script, VOCAB, width, 2, answer);
            struct stage_client *client = play(bench, &script);
            tick_until(bench, client, 1, width, 1);
            /* Besides, the parent's last block may be there still. */
            int32_t own = width * blocks_for_slots(rest + 1 + 2 + 1);
            int32_t most = own + width * (blocks_for_slots(rest + 1 + 2 + answer) -
                                          blocks_for_slots(rest + 1 + 2 + 1));
            /* With 15 slots copied the last token fills a block: one computes it for all. */
            int32_t found = rest == 15 ? width - 1 : 0;
            cr_assert_geq(held(bench), shared + own - found);
            cr_assert_leq(held(bench), shared + most + 1, "K = %d: %d blocks held", k, held(bench));
            run_out(bench);
            struct simulated_counts counts = counts_of(bench);
            cr_assert_eq(counts.copies, rest ? width - found : 0, "K = %d: %lld copies", k,
                         (long long)counts.copies);
            cr_assert_eq(counts.copied_slots, (width - found) * rest);
            cr_assert_eq(counts.tokens, k - 1 - found + width * (1 + 2 + answer - 1),
                         "K = %d: %lld tokens computed", k, (long long)counts.tokens);
            expect_right(client, "fork");
            bench_close(bench);
            script_free(&script);
        }
}

/* The parent's own answer counts as what it keeps, and its last token is no row of its own. */
Test(fork_join, a_fork_behind_an_answer)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t answer = 1; answer <= 34; answer++) {
            struct bench *bench = open_blocks(depth, 64);
            struct script script;
            int32_t k = 20 + answer;
            script_begin(&script, VOCAB, 20, answer);
            script_parallel(&script, VOCAB, 3, 5, 4);
            struct stage_client *client = play(bench, &script);
            run_out(bench);
            int32_t found = (k - 1) % 16 == 15 ? 2 : 0;
            cr_assert_eq(counts_of(bench).copied_slots, (3 - found) * ((k - 1) % 16));
            cr_assert_eq(counts_of(bench).tokens, k - 1 - found + 3 * (1 + 5 + 4 - 1));
            expect_right(client, "fork behind an answer");
            bench_close(bench);
            script_free(&script);
        }
}

/* n answers are a fork in which nothing is put behind the prompt. */
Test(fork_join, n_answers_are_a_fork)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t k = 30; k <= 34; k++) {
            struct bench *bench = open_blocks(depth, 64);
            struct script script;
            script_begin(&script, VOCAB, k, 6);
            script.params.n = script.stages[0].count = script.sequence_count = 5;
            script.params.sample.temperature = 1;
            for (int32_t i = 1; i < 5; i++) {
                script.branches[i] = script.branches[0];
                script.branches[i].seed = rng_at(script.branches[0].seed, (uint64_t)i);
            }
            struct stage_client *client = play(bench, &script);
            run_out(bench);
            cr_assert_eq(counts_of(bench).tokens, k - 1 + 5 * (1 + 6 - 1));
            cr_assert_eq(counts_of(bench).copied_slots, 5 * ((k - 1) % 16));
            expect_right(client, "n = 5");
            bench_close(bench);
            script_free(&script);
        }
}

/* --- joins */

/* What the branches computed stays where it is: behind the join only the new prompt and answer are
 * computed, and nothing is copied. */
Test(fork_join, a_join_copies_and_recomputes_nothing)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t k = 15; k <= 34; k++) {
            struct bench *bench = open_blocks(depth, 128);
            struct script script;
            script_begin(&script, VOCAB, k, 0);
            struct script_branch *branches = script_parallel(&script, VOCAB, 3, 4, 10);
            branches[1].max_tokens = 25;
            branches[2].prompt_count = 1;
            script_serial(&script, VOCAB, 6, 8);
            struct stage_client *client = play(bench, &script);
            run_out(bench);
            int32_t in_branches = (1 + 4 + 10) + (1 + 4 + 25) + (1 + 1 + 10);
            int32_t found = (k - 1) % 16 == 15 ? 2 : 0;
            cr_assert_eq(counts_of(bench).tokens, k - 1 - found + in_branches + 6 + 8 - 1,
                         "K = %d, depth %d: %lld tokens computed", k, depth,
                         (long long)counts_of(bench).tokens);
            cr_assert_eq(counts_of(bench).copied_slots, (3 - found) * ((k - 1) % 16));
            struct reference *reference = reference_create(&script, VOCAB);
            const struct placed_list *after = &reference->contexts[2];
            cr_assert_eq(after->count, k + 14 + 29 + 11 + 14);
            cr_assert_eq(after->next_position, k + 29 + 14);
            reference_free(reference);
            expect_right(client, "join");
            bench_close(bench);
            script_free(&script);
        }
}

/* Every remainder of the parent, the branches and what follows, around the blocks' ends. */
Test(fork_join, all_lengths_around_a_block)
{
    static const int32_t lengths[] = {0, 1, 14, 15, 16, 17};
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t k = 14; k <= 18; k++)
            for (size_t b = 0; b < COUNT_OF(lengths); b++)
                for (size_t j = 0; j < COUNT_OF(lengths); j++) {
                    struct bench *bench = open_blocks(depth, 64);
                    struct script script;
                    script_begin(&script, VOCAB, k, 1);
                    script_parallel(&script, VOCAB, 2, lengths[b], lengths[j])[1].max_tokens = 3;
                    script_serial(&script, VOCAB, lengths[j], lengths[b]);
                    script_serial(&script, VOCAB, 3, lengths[j]);
                    script_parallel(&script, VOCAB, 3, 1, lengths[b]);
                    script_serial(&script, VOCAB, 2, 2);
                    struct stage_client *client = play(bench, &script);
                    run_out(bench);
                    expect_right(client, "lengths");
                    bench_close(bench);
                    script_free(&script);
                }
}

/* Branches that add nothing: not a row more than the first of them needs. */
Test(fork_join, branches_without_tokens)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t k = 15; k <= 18; k++) {
            struct bench *bench = open_blocks(depth, 64);
            struct script script;
            script_begin(&script, VOCAB, k, 2);
            script_parallel(&script, VOCAB, 3, 0, 0);
            script_serial(&script, VOCAB, 4, 5);
            struct stage_client *client = play(bench, &script);
            run_out(bench);
            int64_t least = k + 2 - 1 + 1 + 4 + 5 - 1;
            cr_assert_geq(counts_of(bench).tokens, least);
            cr_assert_leq(counts_of(bench).tokens, least + 2);
            expect_right(client, "nothing in the branches");
            bench_close(bench);
            script_free(&script);
        }
}

/* A join without a prompt, and a stage without anything between two parallel ones. */
Test(fork_join, a_join_without_a_prompt)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_blocks(depth, 64);
        struct script script;
        script_begin(&script, VOCAB, 20, 3);
        script_parallel(&script, VOCAB, 2, 3, 4);
        script_serial(&script, VOCAB, 0, 5);
        script_parallel(&script, VOCAB, 2, 3, 4);
        script_serial(&script, VOCAB, 0, 0);
        script_parallel(&script, VOCAB, 3, 0, 6);
        script_serial(&script, VOCAB, 0, 4);
        struct stage_client *client = play(bench, &script);
        run_out(bench);
        expect_right(client, "no prompt");
        bench_close(bench);
        script_free(&script);
    }
}

Test(fork_join, sixty_four_branches_of_one_token)
{
    static const char *const policies[] = {"eager", "off", "cap:7"};
    for (int32_t depth = 1; depth <= 2; depth++)
        for (size_t i = 0; i < COUNT_OF(policies); i++) {
            struct executor_capacity capacity = roomy;
            struct scheduler_options options = scheduler_options_default();
            struct error err = {0};
            capacity.depth = depth;
            cr_assert_eq(policy_parse(policies[i], &options.policy, &err), ST_OK);
            struct bench *bench = bench_open(capacity, options, (struct simulated_options){0});
            struct script script;
            script_begin(&script, VOCAB, 40, 0);
            script_parallel(&script, VOCAB, 64, 0, 1);
            script_serial(&script, VOCAB, 3, 4);
            script.params.sample.temperature = 1;
            struct stage_client *client = play(bench, &script);
            run_out(bench);
            cr_assert_eq(counts_of(bench).tokens, 39 + 64 * 2 + 3 + 3);
            cr_assert_eq(client->stats.output_tokens, 64 + 4);
            expect_right(client, policies[i]);
            bench_close(bench);
            script_free(&script);
        }
}

/* What an owner cuts off leaves the context, what it puts behind follows. */
Test(fork_join, cut_and_appended_tokens)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t cut = 0; cut <= 18; cut++)
            for (int32_t appended = 0; appended <= 17; appended += appended ? 14 : 1) {
                struct bench *bench = open_blocks(depth, 128);
                struct script script;
                script_begin(&script, VOCAB, 12, 18);
                script_serial(&script, VOCAB, 5, 6);
                script_parallel(&script, VOCAB, 3, 4, 18);
                script_serial(&script, VOCAB, 2, 18);
                script_serial(&script, VOCAB, 0, 6);
                for (int32_t i = 0; i < script.sequence_count; i++) {
                    script.branches[i].cut = (cut + i) % 19;
                    script.branches[i].appended_count = i % 2 ? appended : 0;
                    for (int32_t a = 0; a < appended; a++)
                        script.branches[i].appended[a] = (a * 5 + i) % VOCAB;
                }
                struct stage_client *client = play(bench, &script);
                run_out(bench);
                expect_right(client, "cut and appended");
                bench_close(bench);
                script_free(&script);
            }
}

/* --- what the prefix tree has of it */

static int32_t cached_of_flat(struct bench *bench, const struct script *flat)
{
    struct stage_client *client = play(bench, flat);
    run_out(bench);
    int32_t cached = client->stats.cached_tokens;
    expect_right(client, "flat");
    return cached;
}

/* One branch and what follows it stand at the positions of a flat prompt, and are not found as one:
 * of a model that joins, a branch's numbers are not those of flat text. */
Test(fork_join, a_flat_prompt_finds_no_branch_and_nothing_behind_a_join)
{
    for (int32_t k = 15; k <= 50; k += 7) {
        struct bench *bench = open_blocks(1, 128);
        struct script script, flat;
        script_begin(&script, VOCAB, k, 0);
        script_parallel(&script, VOCAB, 1, 20, 30);
        script_serial(&script, VOCAB, 20, 40);
        struct stage_client *client = play(bench, &script);
        run_out(bench);
        expect_right(client, "one branch");
        for (int32_t stage = 1; stage <= 2; stage++) {
            flat_prompt(&flat, &script, stage, 1);
            /* The second time its own blocks are there: what it left is flat. */
            if (stage == 1) cr_assert_eq(cached_of_flat(bench, &flat), (k - 1) / 16 * 16);
            if (stage == 2) {
                int32_t first = k + 50;
                cr_assert_eq(cached_of_flat(bench, &flat), first / 16 * 16);
            }
            script_free(&flat);
        }
        bench_close(bench);
        script_free(&script);
    }
}

Test(fork_join, serial_stages_are_found_as_the_flat_prompt_they_are)
{
    for (int32_t k = 15; k <= 50; k += 5) {
        struct bench *bench = open_blocks(1, 128);
        struct script script, flat;
        script_begin(&script, VOCAB, k, 9);
        script_serial(&script, VOCAB, 20, 18);
        script_serial(&script, VOCAB, 7, 30);
        struct stage_client *client = play(bench, &script);
        run_out(bench);
        expect_right(client, "serial");
        flat_prompt(&flat, &script, 2, 1);
        int32_t length = flat.branches[0].prompt_count;
        cr_assert_eq(cached_of_flat(bench, &flat), (length - 1) / 16 * 16);
        script_free(&flat);
        bench_close(bench);
        script_free(&script);
    }
}

/* The same again: every prompt's complete blocks are found, in branches and behind the join too. */
Test(fork_join, the_same_stages_again_are_found)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t k = 40; k <= 56; k++) {
            struct bench *bench = open_blocks(depth, 128);
            struct script script;
            script_begin(&script, VOCAB, k, 0);
            script_parallel(&script, VOCAB, 3, 50, 4);
            script_serial(&script, VOCAB, 40, 8);
            struct stage_client *client = play(bench, &script);
            run_out(bench);
            int64_t first = counts_of(bench).tokens;
            cr_assert_eq(client->stats.cached_tokens, 0);
            int32_t found = (k - 1) % 16 == 15 ? 2 : 0;
            cr_assert_eq(first, k - 1 - found + 3 * (1 + 50 + 4) + 40 + 8 - 1);
            expect_right(client, "the first time");
            client = play(bench, &script);
            run_out(bench);
            int64_t second = counts_of(bench).tokens - first;
            int32_t cached = client->stats.cached_tokens;
            cr_assert(cached == (k - 1) / 16 * 16 || cached == k / 16 * 16, "%d cached of %d",
                      cached, k);
            /* A branch finds 3 or 4 blocks of its own, the join 2: 150 of 165 and 32 of 47. */
            cr_assert_leq(second, 16 + 3 * (16 + 4) + 8 + 7, "K = %d: %lld of %lld computed again",
                          k, (long long)second, (long long)first);
            expect_right(client, "the second time");
            bench_close(bench);
            script_free(&script);
        }
}

/* Behind other branches the same prompt is another context. */
Test(fork_join, other_branches_make_another_join)
{
    struct bench *bench = open_blocks(1, 128);
    struct script script;
    script_begin(&script, VOCAB, 33, 0);
    script_parallel(&script, VOCAB, 2, 20, 0);
    script_serial(&script, VOCAB, 48, 1);
    struct stage_client *client = play(bench, &script);
    run_out(bench);
    expect_right(client, "the first");
    for (int i = 0; i < 3; i++) {
        struct script_branch *branches = &script.branches[1];
        if (i == 0) branches[1].prompt[19]++; /* the last token of the last branch */
        if (i == 1) branches[1].prompt_count--;
        if (i == 2) { /* the other order */
            struct script_branch first = branches[0];
            branches[0] = branches[1];
            branches[1] = first;
        }
        int64_t before = counts_of(bench).tokens;
        client = play(bench, &script);
        run_out(bench);
        cr_assert_geq(counts_of(bench).tokens - before, 48, "the join of other branches was found");
        expect_right(client, "another");
    }
    bench_close(bench);
    script_free(&script);
}

/* --- what interrupts */

Test(fork_join, preemption_in_a_parallel_stage_loses_nothing)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_blocks(depth, 22);
        struct script scripts[3];
        struct stage_client *clients[3];
        int32_t preemptions = 0;
        for (int i = 0; i < 3; i++) {
            script_begin(&scripts[i], VOCAB, 10 + i, 4);
            script_parallel(&scripts[i], VOCAB, 3, 3, 60);
            script_serial(&scripts[i], VOCAB, 4, 10);
            scripts[i].params.sample.temperature = 1;
            for (int32_t k = 0; k < scripts[i].sequence_count; k++)
                scripts[i].branches[k].seed += (uint64_t)(100 * i);
            clients[i] = play(bench, &scripts[i]);
        }
        run_out(bench);
        cr_assert_eq(clients[0]->stats.preemptions, 0, "the first in line is never a victim");
        for (int i = 0; i < 3; i++) {
            preemptions += clients[i]->stats.preemptions;
            expect_right(clients[i], "preempted");
            script_free(&scripts[i]);
        }
        cr_assert_gt(preemptions, 0);
        bench_close(bench);
    }
}

/* Cancelled when one branch has finished and the others go on: the finished one stays so, the
 * others end, no further stage is asked for. */
Test(fork_join, cancelled_with_one_branch_finished)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = bench_default(depth);
        struct script script, other;
        script_begin(&script, VOCAB, 20, 2);
        script_parallel(&script, VOCAB, 3, 3, 50)[1].max_tokens = 2;
        script_serial(&script, VOCAB, 4, 10);
        script_begin(&other, VOCAB, 9, 60);
        struct stage_client *client = play(bench, &script), *beside = play(bench, &other);
        tick_until(bench, client, 1, 3, 2);
        for (int i = 0; i < 4; i++)
            tick(bench);
        cr_assert(client->streams[2].finished);
        client->cancelled = true;
        scheduler_cancel(bench->s, client->id);
        tick(bench);
        cr_assert(client->done);
        cr_assert_eq(client->streams[1].reason, FINISH_ABORT);
        cr_assert_eq(client->streams[2].reason, FINISH_LENGTH);
        cr_assert_eq(client->streams[3].reason, FINISH_ABORT);
        cr_assert_not(client->streams[4].begun);
        tick(bench); /* the row that was in flight */
        cr_assert_leq(held(bench), blocks_for_slots(9 + 60), "the cancelled one holds blocks");
        run_out(bench);
        expect_right(client, "cancelled");
        expect_right(beside, "beside");
        bench_close(bench);
        script_free(&script);
        script_free(&other);
    }
}

static void ladder_script(struct script *script, int32_t i)
{
    script_begin(script, VOCAB, 12 + i, 8);
    script_parallel(script, VOCAB, 3, 2 + i, 20);
    script_serial(script, VOCAB, 3, 8);
    script_serial(script, VOCAB, 3, 8);
}

/* Cancelled at every tick in turn, beside another that goes on. */
Test(fork_join, cancelled_at_every_tick)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int32_t at = 0;; at++) {
            struct bench *bench = bench_default(depth);
            struct script scripts[2];
            struct stage_client *clients[2];
            for (int32_t i = 0; i < 2; i++) {
                ladder_script(&scripts[i], i);
                clients[i] = play(bench, &scripts[i]);
            }
            for (int32_t i = 0; i < at; i++)
                tick(bench);
            bool over = clients[0]->done;
            clients[0]->cancelled = !over;
            scheduler_cancel(bench->s, clients[0]->id);
            tick(bench);
            cr_assert(clients[0]->done);
            run_out(bench);
            for (int32_t i = 0; i < 2; i++) {
                expect_right(clients[i], "cancelled");
                script_free(&scripts[i]);
            }
            bench_close(bench);
            if (over) break;
        }
}

/* The n-th request for a block fails, in turn: the answers are the same. */
Test(fork_join, fault_ladder_over_blocks)
{
    for (int32_t depth = 1; depth <= 2; depth++)
        for (int64_t n = 1; n <= 60; n++) {
            struct bench *bench = open_blocks(depth, 26);
            struct script scripts[3];
            struct stage_client *clients[3];
            for (int32_t i = 0; i < 3; i++) {
                ladder_script(&scripts[i], i);
                clients[i] = play(bench, &scripts[i]);
            }
            block_pool_fail_after(bench->s->pool, n);
            run_out(bench);
            for (int32_t i = 0; i < 3; i++) {
                expect_right(clients[i], "a block that was refused");
                script_free(&scripts[i]);
            }
            bench_close(bench);
        }
}

/* The n-th allocation fails, in turn: the request is refused, or ends with FINISH_ERROR when it was
 * in the middle of its stages, and whatever else runs does not notice. */
Test(fork_join, fault_ladder_over_memory)
{
    bool failed = true;
    log_set_level(LOG_ERROR);
    for (int64_t n = 1; failed; n++) {
        struct bench *bench = bench_default(2);
        struct script script, other;
        struct error err = {0};
        script_begin(&other, VOCAB, 9, 70);
        ladder_script(&script, 0);
        struct stage_client *beside = play(bench, &other), *client = stage_client_create(&script);
        alloc_fail_after(n);
        enum status status = stage_client_add(client, bench->s, &err);
        cr_assert(status == ST_OK || status == ST_NO_MEMORY);
        run_out(bench);
        void *unused = try_alloc(1, 1); /* refused: nothing before it was */
        failed = unused == NULL ? false : true;
        free(unused);
        alloc_fail_after(0);
        if (status == ST_OK) {
            struct reference *reference = reference_create(&script, VOCAB);
            const char *mistake = stage_client_mistake(client, reference);
            cr_assert_null(mistake, "allocation %lld: %s", (long long)n, mistake);
            cr_assert(failed || client->stats.reason == FINISH_LENGTH);
            cr_assert(client->stats.reason == FINISH_LENGTH ||
                      client->stats.reason == FINISH_ERROR);
            reference_free(reference);
        }
        stage_client_free(client);
        expect_right(beside, "beside");
        bench_close(bench);
        script_free(&script);
        script_free(&other);
        cr_assert_lt(n, 1000);
    }
}

/* A step fails, the n-th row's token is none, in turn: those in it end, nothing stays behind. */
Test(fork_join, failing_steps)
{
    log_set_level(LOG_ERROR);
    int failed = 0, whole = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct executor_capacity capacity = roomy;
        struct simulated_options faults = {.seed = seed};
        capacity.depth = 1 + (int32_t)(seed % 2);
        if (seed % 3 == 0) faults.submit_failures = 0.02;
        if (seed % 3 == 1) faults.collect_failures = 0.02;
        if (seed % 3 == 2) faults.bad_tokens = 0.02;
        struct bench *bench = bench_open(capacity, scheduler_options_default(), faults);
        struct script script;
        ladder_script(&script, (int32_t)(seed % 5));
        struct stage_client *client = play(bench, &script);
        run_out(bench);
        failed += client->stats.reason == FINISH_ERROR;
        whole += client->stats.reason == FINISH_LENGTH;
        struct reference *reference = reference_create(&script, VOCAB);
        const char *mistake = stage_client_mistake(client, reference);
        cr_assert_null(mistake, "seed %d: %s", (int)seed, mistake);
        reference_free(reference);
        stage_client_free(client);
        bench_close(bench);
        script_free(&script);
    }
    cr_assert(failed > 5 && whole > 5, "%d failed, %d did not", failed, whole);
}

/* --- what is refused */

static void expect_refused(struct bench *bench, const struct script *script)
{
    struct error err = {0};
    struct stage_client *client = stage_client_create(script);
    cr_assert_eq(stage_client_add(client, bench->s, &err), ST_INVALID);
    cr_assert(strlen(err.text) > 10, "\"%s\" says nothing", err.text);
    stage_client_free(client);
}

Test(fork_join, what_could_never_run_is_refused)
{
    struct bench *bench = open_blocks(1, 12);
    struct script script;
    script_begin(&script, VOCAB, 20, 2);
    script_parallel(&script, VOCAB, 8, 3, 50); /* 8 branches of 70 tokens in 12 blocks */
    expect_refused(bench, &script);
    script_free(&script);
    bench_close(bench);

    bench = open_blocks(1, 256);
    script_begin(&script, VOCAB, 200, 300);
    script_serial(&script, VOCAB, 200, 300);
    script_serial(&script, VOCAB, 20, 5); /* 1025 positions of 1024 */
    expect_refused(bench, &script);
    script.branches[2].max_tokens--;
    struct stage_client *client = play(bench, &script);
    run_out(bench);
    expect_right(client, "the longest");
    script_free(&script);
    bench_close(bench);
}

/* A stage that is the last gives back what is behind it while its branches still run. */
Test(fork_join, the_last_stage_holds_only_what_it_reads)
{
    for (int last = 0; last < 2; last++) {
        struct bench *bench = open_blocks(1, 64);
        struct script script;
        script_begin(&script, VOCAB, 33, 0);
        script_parallel(&script, VOCAB, 3, 2, 4)[1].max_tokens = 100;
        script.stages[1].last = last;
        struct stage_client *client = play(bench, &script);
        while (client->streams[2].count < 100) {
            tick(bench);
            if (client->streams[2].count != 50) continue;
            int32_t reader = blocks_for_slots(1 + 2 + 50); /* and another may be taken already */
            if (last)
                cr_assert_leq(held(bench), 2 + reader + 1, "%d blocks held", held(bench));
            else
                cr_assert_geq(held(bench), 2 + reader + 2);
        }
        run_out(bench);
        expect_right(client, "the last stage");
        bench_close(bench);
        script_free(&script);
    }
}

/* Twins: what one computes of its end the others find, one after the other where the policy lets
 * one of them forward at a time. Nothing of that is a standstill. */
Test(fork_join, twins_that_find_their_end_computed)
{
    for (int32_t width = 2; width <= 12; width++) {
        struct scheduler_options options = scheduler_options_default();
        struct error err = {0};
        cr_assert_eq(policy_parse("off", &options.policy, &err), ST_OK);
        struct bench *bench = bench_open(roomy, options, (struct simulated_options){0});
        struct script script;
        script_begin(&script, VOCAB, 17, 0);
        struct script_branch *branches = script_parallel(&script, VOCAB, width, 7, 3);
        branches[0].appended_count = 5; /* 16 slots with the parent's last token */
        for (int32_t i = 1; i < width; i++)
            branches[i] = branches[0];
        script_serial(&script, VOCAB, 2, 2);
        struct stage_client *client = play(bench, &script);
        run_out(bench);
        expect_right(client, "twins");
        bench_close(bench);
        script_free(&script);
    }
}
