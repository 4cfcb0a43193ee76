#include "tests/fuzz/support_input.h"
#include "model/normalize.h"
#include "model/utf8.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_set_level(LOG_ERROR); /* warnings are expected by the thousand */
    return 0;
}

/* --- taking an input apart */

uint8_t input_byte(struct input *input)
{
    if (!input->left) return 0;
    input->left--;
    return (uint8_t)*input->text++;
}

struct input input_line(struct input *input)
{
    const char *end = memchr(input->text, '\n', input->left);
    struct input line = {input->text, end ? (size_t)(end - input->text) : input->left};
    size_t used = line.left + (end != NULL);
    input->text += used;
    input->left -= used;
    return line;
}

/* Where the next line begins that starts with "@@". */
static size_t part_end(const struct input *input)
{
    for (size_t at = 0; at + 2 <= input->left; at++)
        if (!memcmp(input->text + at, "@@", 2) && (at == 0 || input->text[at - 1] == '\n'))
            return at;
    return input->left;
}

bool input_part(struct input *input, struct input_part *part)
{
    *part = (struct input_part){.name = "", .text = input->text};
    if (!input->left) return false;
    if (part_end(input) == 0) {
        struct input line = input_line(input);
        part->name = line.text + 2;
        part->name_length = line.left - 2;
        part->text = input->text;
    }
    part->length = part_end(input);
    input->text += part->length;
    input->left -= part->length;
    return true;
}

bool part_is(const struct input_part *part, const char *name)
{
    return part->name_length == strlen(name) && !memcmp(part->name, name, part->name_length);
}

char *input_string(struct input input)
{
    char *copy = must_alloc(input.left + 1);
    for (size_t i = 0; i < input.left; i++)
        copy[i] = input.text[i] ? input.text[i] : ' ';
    return copy;
}

/* --- inputs as files */

static void write_all(int fd, const void *bytes, size_t size)
{
    if (ftruncate(fd, 0) < 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
        die("the input cannot be written");
}

const char *file_in_memory(const void *bytes, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        if (fd < 0) die("no file in memory");
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    write_all(fd, bytes, size);
    return path;
}

const char *scratch_directory(void)
{
    static char path[512];
    if (path[0]) return path;
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/espalier-fuzz-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(path)) die("%s: no directory can be made", path);
    return path;
}

static void scratch_path(const char *name, char path[static 600])
{
    snprintf(path, 600, "%s/%.64s", scratch_directory(), name);
}

void scratch_file(const char *name, const void *bytes, size_t size)
{
    char path[600];
    scratch_path(name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) die("%s: cannot be made", path);
    write_all(fd, bytes, size);
    close(fd);
}

void scratch_remove(const char *name)
{
    char path[600];
    scratch_path(name, path);
    unlink(path);
}

/* --- tokenizers */

bool is_utf8(const char *text, size_t length)
{
    return utf8_valid_prefix(text, length) == length;
}

/* Text to ids and back: the tokens' bytes are the text's, or with NFC the normalized text's. A
 * vocabulary that lacks a byte leaves bytes out, so there only the ids are checked. */
static void check_encode(const struct tokenizer *tokenizer, struct input text, bool parse_special,
                         const struct strbuf *expected)
{
    struct token_list ids = {0};
    struct strbuf bytes = {0}, shown = {0};
    enum status status =
        tokenizer_encode(tokenizer, text.text, text.left, parse_special, &ids, NULL);
    /* A pattern out of the input may need too long; then nothing is given. */
    invariant(!status || (status == ST_UNSUPPORTED && !expected && !ids.count), "encoding: %s",
              status_words(status));
    for (size_t i = 0; i < ids.count; i++) {
        invariant(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_size(tokenizer), "id %d", ids.ids[i]);
        tokenizer_token_bytes(tokenizer, ids.ids[i], true, &bytes);
    }
    invariant(!expected || (bytes.length == expected->length &&
                            !memcmp(strbuf_cstr(&bytes), strbuf_cstr(expected), bytes.length)),
              "%zu bytes came back as %zu others", text.left, bytes.length);
    tokenizer_decode(tokenizer, ids.ids, ids.count, true, &shown);
    invariant(is_utf8(strbuf_cstr(&shown), shown.length), "decoded text is no UTF-8");
    invariant(!is_utf8(strbuf_cstr(&bytes), bytes.length) || bytes.length == shown.length,
              "whole characters were decoded to others");
    strbuf_free(&bytes);
    strbuf_free(&shown);
    free(ids.ids);
}

void check_tokenizer(const struct tokenizer *tokenizer, struct input text, bool whole, bool nfc)
{
    struct strbuf expected = {0};
    if (nfc)
        invariant(nfc_append(text.text, text.left, &expected), "out of memory");
    else
        strbuf_append(&expected, text.text, text.left);
    /* A special token's text is not normalized, and cutting it out changes what meets what. */
    check_encode(tokenizer, text, false, whole ? &expected : NULL);
    check_encode(tokenizer, text, true, whole && !nfc ? &expected : NULL);
    strbuf_free(&expected);
}
