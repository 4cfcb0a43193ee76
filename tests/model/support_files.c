#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- bytes */

void put_u32(struct strbuf *out, uint32_t value)
{
    strbuf_append(out, &value, sizeof value);
}

void put_u64(struct strbuf *out, uint64_t value)
{
    strbuf_append(out, &value, sizeof value);
}

void put_f32(struct strbuf *out, float value)
{
    strbuf_append(out, &value, sizeof value);
}

void put_string(struct strbuf *out, const char *text)
{
    put_u64(out, strlen(text));
    strbuf_text(out, text);
}

static char *temporary(const char *pattern)
{
    const char *base = getenv("TMPDIR");
    struct strbuf path = {0};
    strbuf_format(&path, "%s/%s", base ? base : "/tmp", pattern);
    return strbuf_take(&path);
}

char *write_file(const struct strbuf *bytes)
{
    char *path = temporary("espalier-test-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0, "%s: %m", path);
    cr_assert(write(fd, strbuf_cstr(bytes), bytes->length) == (ssize_t)bytes->length);
    close(fd);
    return path;
}

void remove_file(char *path)
{
    unlink(path);
    free(path);
}

char *make_directory(void)
{
    char *path = temporary("espalier-test-XXXXXX");
    cr_assert(mkdtemp(path), "%s: %m", path);
    return path;
}

void write_in(const char *dir, const char *name, const void *bytes, size_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    cr_assert(file, "%s: %m", path);
    cr_assert(fwrite(bytes, 1, length, file) == length);
    cr_assert(fclose(file) == 0);
}

void remove_directory(char *dir)
{
    char path[512];
    DIR *list = opendir(dir);
    for (struct dirent *entry; list && (entry = readdir(list));) {
        snprintf(path, sizeof path, "%s/%.200s", dir, entry->d_name);
        unlink(path);
    }
    if (list) closedir(list);
    rmdir(dir);
    free(dir);
}

/* --- GGUF */

static bool skipped(const struct gguf_writer *w, const char *name)
{
    return w->skip && !strcmp(w->skip, name);
}

void writer_key(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    w->key_count++;
    put_string(&w->keys, key);
    put_u32(&w->keys, type);
}

void writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    if (skipped(w, key)) return;
    writer_key(w, key, GGUF_U32);
    put_u32(&w->keys, value);
}

void writer_f32(struct gguf_writer *w, const char *key, float value)
{
    if (skipped(w, key)) return;
    writer_key(w, key, GGUF_F32);
    put_f32(&w->keys, value);
}

void writer_bool(struct gguf_writer *w, const char *key, bool value)
{
    if (skipped(w, key)) return;
    writer_key(w, key, GGUF_BOOL);
    strbuf_char(&w->keys, value);
}

void writer_string(struct gguf_writer *w, const char *key, const char *text)
{
    if (skipped(w, key)) return;
    writer_key(w, key, GGUF_STRING);
    put_string(&w->keys, text);
}

void writer_strings(struct gguf_writer *w, const char *key, const char *const *texts,
                    uint64_t count)
{
    if (skipped(w, key)) return;
    writer_key(w, key, GGUF_ARRAY);
    put_u32(&w->keys, GGUF_STRING);
    put_u64(&w->keys, count);
    for (uint64_t i = 0; i < count; i++)
        put_string(&w->keys, texts[i]);
}

void writer_i32s(struct gguf_writer *w, const char *key, const int32_t *values, uint64_t count)
{
    if (skipped(w, key)) return;
    writer_key(w, key, GGUF_ARRAY);
    put_u32(&w->keys, GGUF_I32);
    put_u64(&w->keys, count);
    strbuf_append(&w->keys, values, count * sizeof *values);
}

void writer_entry(struct gguf_writer *w, const char *name, uint32_t dim_count, const uint64_t *dims,
                  uint32_t type, uint64_t offset)
{
    w->tensor_count++;
    put_string(&w->tensors, name);
    put_u32(&w->tensors, dim_count);
    for (uint32_t i = 0; dims && i < dim_count; i++)
        put_u64(&w->tensors, dims[i]);
    put_u32(&w->tensors, type);
    put_u64(&w->tensors, offset);
}

static void pad(struct strbuf *out, uint64_t alignment)
{
    while (out->length % (alignment ? alignment : 32))
        strbuf_char(out, 0);
}

void writer_tensor(struct gguf_writer *w, const char *name, uint64_t cols, uint64_t rows)
{
    uint64_t dims[2] = {cols, rows};
    if (skipped(w, name)) return;
    pad(&w->data, w->alignment);
    writer_entry(w, name, rows == 1 ? 1 : 2, dims, GGML_F32, w->data.length);
    for (uint64_t i = 0; i < rows * cols; i++)
        put_f32(&w->data, (float)i);
}

struct strbuf writer_finish(struct gguf_writer *w)
{
    struct strbuf out = {0};
    strbuf_text(&out, "GGUF");
    put_u32(&out, w->version ? w->version : 3);
    put_u64(&out, w->tensor_count);
    put_u64(&out, w->key_count);
    strbuf_append(&out, strbuf_cstr(&w->keys), w->keys.length);
    strbuf_append(&out, strbuf_cstr(&w->tensors), w->tensors.length);
    if (w->data.length) pad(&out, w->alignment);
    strbuf_append(&out, strbuf_cstr(&w->data), w->data.length);
    strbuf_free(&w->keys);
    strbuf_free(&w->tensors);
    strbuf_free(&w->data);
    *w = (struct gguf_writer){0};
    return out;
}

void writer_tiny_model(struct gguf_writer *w)
{
    static const char *const tokens[] = {"<s>", "a", "b", "ab", "c", "\xc4\xa0"};
    static const int32_t types[] = {3, 1, 1, 1, 4, 1};
    static const char *const merges[] = {"a b"};
    writer_string(w, "general.architecture", "llama");
    writer_string(w, "general.name", "Tiny");
    writer_u32(w, "llama.context_length", 64);
    writer_u32(w, "llama.embedding_length", 8);
    writer_u32(w, "llama.feed_forward_length", 6);
    writer_u32(w, "llama.block_count", 1);
    writer_u32(w, "llama.attention.head_count", 2);
    writer_u32(w, "llama.attention.head_count_kv", 1);
    writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer_f32(w, "llama.rope.freq_base", 5000);
    writer_string(w, "tokenizer.ggml.model", "gpt2");
    writer_string(w, "tokenizer.ggml.pre", "smollm");
    writer_strings(w, "tokenizer.ggml.tokens", tokens, COUNT_OF(tokens));
    writer_i32s(w, "tokenizer.ggml.token_type", types, COUNT_OF(types));
    writer_strings(w, "tokenizer.ggml.merges", merges, COUNT_OF(merges));
    writer_u32(w, "tokenizer.ggml.bos_token_id", 0);
    writer_u32(w, "tokenizer.ggml.eos_token_id", 4);
    writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    writer_string(w, "tokenizer.chat_template", "{{ messages }}");
    writer_tensor(w, "token_embd.weight", 8, 6);
    writer_tensor(w, "output_norm.weight", 8, 1);
    writer_tensor(w, "blk.0.attn_norm.weight", 8, 1);
    writer_tensor(w, "blk.0.attn_q.weight", 8, 8);
    writer_tensor(w, "blk.0.attn_k.weight", 8, 4);
    writer_tensor(w, "blk.0.attn_v.weight", 8, 4);
    writer_tensor(w, "blk.0.attn_output.weight", 8, 8);
    writer_tensor(w, "blk.0.ffn_norm.weight", 8, 1);
    writer_tensor(w, "blk.0.ffn_gate.weight", 8, 6);
    writer_tensor(w, "blk.0.ffn_up.weight", 8, 6);
    writer_tensor(w, "blk.0.ffn_down.weight", 6, 8);
}

/* --- refusals */

void expect_refusal_at(const char *file, int line, enum status status, const struct error *err,
                       enum status expected, const char *part)
{
    cr_expect(status == expected && err->status == expected && strstr(err->text, part),
              "%s:%d: expected \"%s\" with \"%s\", got \"%s\": \"%s\"", file, line,
              status_words(expected), part, status_words(status), err->text);
}
