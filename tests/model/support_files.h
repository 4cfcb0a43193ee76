/* Small model files, made byte by byte, right or wrong on purpose. */
#ifndef TESTS_MODEL_SUPPORT_FILES_H
#define TESTS_MODEL_SUPPORT_FILES_H

#include "base/base.h"
#include "model/gguf.h"

/* --- bytes */

void put_u32(struct strbuf *out, uint32_t value);
void put_u64(struct strbuf *out, uint64_t value);
void put_f32(struct strbuf *out, float value);
void put_string(struct strbuf *out, const char *text); /* u64 length, bytes */

/* A new file with these bytes; remove_file deletes it and frees the path. */
char *write_file(const struct strbuf *bytes);
void remove_file(char *path);

/* A new directory; files in it; everything away. */
char *make_directory(void);
void write_in(const char *dir, const char *name, const void *bytes, size_t length);
void remove_directory(char *dir);

/* --- GGUF */

enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q8_0 = 8,
    GGML_Q6_K = 14,
    GGML_IQ2_XS = 17,
};

struct gguf_writer {
    struct strbuf keys, tensors, data;
    uint64_t key_count, tensor_count, alignment;
    const char *skip; /* a key or tensor of this name is left out */
    uint32_t version; /* 0: 3 */
};

void writer_key(struct gguf_writer *w, const char *key, enum gguf_type type); /* value follows */
void writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void writer_f32(struct gguf_writer *w, const char *key, float value);
void writer_bool(struct gguf_writer *w, const char *key, bool value);
void writer_string(struct gguf_writer *w, const char *key, const char *text);
void writer_strings(struct gguf_writer *w, const char *key, const char *const *texts,
                    uint64_t count);
void writer_i32s(struct gguf_writer *w, const char *key, const int32_t *values, uint64_t count);

/* An entry as it is written (dims may be NULL), and one of F32 values with its data (the i-th is
 * i). dims: row first.
 */
void writer_entry(struct gguf_writer *w, const char *name, uint32_t dim_count, const uint64_t *dims,
                  uint32_t type, uint64_t offset);
void writer_tensor(struct gguf_writer *w, const char *name, uint64_t cols, uint64_t rows);

/* Header, keys, entries, padding, data; empties the writer. */
struct strbuf writer_finish(struct gguf_writer *w);

/* A whole llama: 1 layer, hidden 8, 2 heads x 4 over 1, intermediate 6, 6 tokens. */
#define TINY_ROPE_DIM 4
void writer_tiny_model(struct gguf_writer *w);

/* --- refusals */

/* status and err say `expected`, and the words hold `part`. */
void expect_refusal_at(const char *file, int line, enum status status, const struct error *err,
                       enum status expected, const char *part);
#define expect_refusal(...) expect_refusal_at(__FILE__, __LINE__, __VA_ARGS__)

#endif
