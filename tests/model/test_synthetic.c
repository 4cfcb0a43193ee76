/* Synthetic models: weights from a seed in any order of reading, and a tokenizer for every id. */
#include "model/synthetic.h"
#include "base/base.h"
#include "model/chat.h"
#include "model/tokenizer.h"
#include "model/utf8.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct checkpoint *open_or_fail(const char *path)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    cr_assert(checkpoint_open(path, &checkpoint, &err) == ST_OK, "%s", err.text);
    return checkpoint;
}

Test(synthetic, shapes_are_the_known_ones)
{
    struct checkpoint *checkpoint = open_or_fail("synthetic:qwen3-0.6b");
    const struct model_config *c = checkpoint_config(checkpoint);
    struct error err = {0};
    cr_expect(c->layers == 28 && c->hidden == 1024 && c->intermediate == 3072);
    cr_expect(c->heads == 16 && c->kv_heads == 8 && c->head_dim == 128 && c->vocab == 151936);
    cr_expect(c->tied && c->qk_norm && c->rope.theta == 1e6 && c->rms_eps == 1e-6f);
    cr_expect_eq(model_config_check(c, &err), ST_OK);
    cr_expect_not_null(checkpoint_tensor(checkpoint, TENSOR_Q_NORM, 27));
    cr_expect_null(checkpoint_tensor(checkpoint, TENSOR_HEAD, 0));
    checkpoint_close(checkpoint);
}

Test(synthetic, unknown_shapes_and_seeds_are_refused)
{
    static const char *const wrong[] = {"synthetic:",      "synthetic:huge",   "synthetic:tin",
                                        "synthetic:tiny:", "synthetic:tiny:x", "synthetic:tiny:1x"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct checkpoint *checkpoint;
        struct error err = {0};
        enum status status = checkpoint_open(wrong[i], &checkpoint, &err);
        expect_refusal(status, &err, ST_NOT_FOUND,
                       "there are tiny, smollm2-135m, qwen3-0.6b, llama3");
    }
}

/* The same values whichever rows are read together; other values for another tensor, layer or seed.
 */
Test(synthetic, a_weight_depends_on_seed_tensor_and_place)
{
    struct checkpoint *one = open_or_fail("synthetic:tiny"),
                      *same = open_or_fail("synthetic:tiny:1");
    struct checkpoint *other = open_or_fail("synthetic:tiny:2");
    const struct checkpoint_tensor *q = checkpoint_tensor(one, TENSOR_Q, 0);
    float all[64][64], row[64], elsewhere[64];
    cr_assert(q->rows == 64 && q->cols == 64);
    checkpoint_read_rows(q, 0, 64, all[0]);
    for (int64_t r = 63; r >= 0; r--) {
        checkpoint_read_rows(checkpoint_tensor(same, TENSOR_Q, 0), r, 1, row);
        cr_expect_arr_eq(row, all[r], sizeof row);
    }
    checkpoint_read_rows(checkpoint_tensor(other, TENSOR_Q, 0), 0, 1, elsewhere);
    cr_expect_neq(elsewhere[0], all[0][0]);
    checkpoint_read_rows(checkpoint_tensor(one, TENSOR_Q, 1), 0, 1, elsewhere);
    cr_expect_neq(elsewhere[0], all[0][0]);
    checkpoint_close(one);
    checkpoint_close(same);
    checkpoint_close(other);
}

/* N(0, gain^2 / cols), exact in bf16: 512 x 64 numbers, five standard errors. */
Test(synthetic, matrices_have_their_spread)
{
    struct checkpoint *checkpoint = open_or_fail("synthetic:tiny");
    const struct checkpoint_tensor *head = checkpoint_tensor(checkpoint, TENSOR_HEAD, 0);
    int64_t count = head->rows * head->cols;
    float *values = must_alloc((size_t)count * sizeof *values);
    double sum = 0, squares = 0;
    checkpoint_read_rows(head, 0, head->rows, values);
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        cr_assert_eq(bits & 0xffff, 0, "no bf16: %08x", bits);
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    double deviation = (double)head->gain / sqrt((double)head->cols), n = (double)count;
    cr_expect(fabs(sum / n) < 5 * deviation / sqrt(n), "mean %g", sum / n);
    cr_expect(fabs(sqrt(squares / n) / deviation - 1) < 5 / sqrt(2 * n), "deviation %g, not %g",
              sqrt(squares / n), deviation);
    free(values);
    checkpoint_close(checkpoint);
}

Test(synthetic, every_id_is_text_of_its_own)
{
    struct checkpoint *checkpoint = open_or_fail("synthetic:tiny");
    const struct tokenizer_spec *spec = checkpoint_tokenizer(checkpoint);
    struct tokenizer *tokenizer;
    struct error err = {0};
    cr_assert(tokenizer_create(spec, &tokenizer, &err) == ST_OK, "%s", err.text);
    cr_expect_eq(chat_template_detect(spec->chat_template, NULL), CHAT_CHATML);
    cr_expect_eq(tokenizer_find_special(tokenizer, "<|im_end|>"), 2);
    for (int32_t id = 0; id < spec->token_count; id++) {
        const struct tokenizer_token *token = &spec->tokens[id];
        cr_expect_eq(utf8_valid_prefix(token->text, token->length), token->length, "id %d", id);
        for (int32_t j = 0; j < id; j++)
            cr_assert(spec->tokens[j].length != token->length ||
                          memcmp(spec->tokens[j].text, token->text, token->length) != 0,
                      "ids %d and %d are both %.*s", j, id, (int)token->length, token->text);
    }
    tokenizer_free(tokenizer);
    checkpoint_close(checkpoint);
}

/* Without merges a text's tokens are its bytes, and they come back as that text. */
Test(synthetic, text_comes_back)
{
    static const char text[] = "Three trees: \xc3\xa9\xf0\x9f\x8c\xb3\n";
    struct checkpoint *checkpoint = open_or_fail("synthetic:smollm2-135m");
    struct tokenizer *tokenizer;
    struct token_list list = {0};
    struct strbuf back = {0};
    struct error err = {0};
    cr_assert(tokenizer_create(checkpoint_tokenizer(checkpoint), &tokenizer, &err) == ST_OK, "%s",
              err.text);
    cr_assert_eq(tokenizer_encode(tokenizer, text, strlen(text), false, &list, &err), ST_OK);
    cr_expect_eq(list.count, strlen(text));
    tokenizer_decode(tokenizer, list.ids, list.count, true, &back);
    cr_expect_str_eq(strbuf_cstr(&back), text);
    strbuf_free(&back);
    free(list.ids);
    tokenizer_free(tokenizer);
    checkpoint_close(checkpoint);
}
