/* Texts from files, pipes and standard input. */
#include "model/text_input.h"
#include "base/base.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LENGTH ((size_t)300000) /* more than a pipe holds, and than a read takes */

static struct strbuf long_text(void)
{
    struct strbuf out = {0};
    for (size_t i = 0; i < LENGTH; i++)
        strbuf_char(&out, (char)('a' + i * 7 % 23));
    return out;
}

static void expect_text(const char *name, const struct strbuf *expected)
{
    char *text = NULL;
    size_t length = 0;
    struct error err = {0};
    cr_assert(text_input_read(name, LENGTH, &text, &length, &err) == ST_OK, "%s", err.text);
    cr_assert_eq(length, expected->length);
    cr_assert(!memcmp(text, strbuf_cstr(expected), length + 1));
    free(text);
}

struct feeding {
    int fd;
    struct strbuf text;
};

static void *feed(void *argument)
{
    struct feeding *feeding = argument;
    for (size_t at = 0; at < feeding->text.length;) {
        ssize_t put = write(feeding->fd, feeding->text.data + at, feeding->text.length - at);
        if (put < 0) break;
        at += (size_t)put;
    }
    close(feeding->fd);
    return NULL;
}

/* Reads `name` while another thread writes into a pipe, whose end is descriptor `end`. */
static void expect_piped(const char *name, int end)
{
    int ends[2];
    pthread_t writer;
    cr_assert(pipe(ends) == 0 && dup2(ends[0], end) == end);
    close(ends[0]);
    struct feeding feeding = {ends[1], long_text()};
    cr_assert(pthread_create(&writer, NULL, feed, &feeding) == 0);
    expect_text(name, &feeding.text);
    pthread_join(writer, NULL);
    close(end);
    strbuf_free(&feeding.text);
}

Test(text_input, files)
{
    struct strbuf text = long_text(), none = {0};
    char *path = write_file(&text), *empty = write_file(&none);
    expect_text(path, &text);
    expect_text(empty, &none);
    remove_file(path);
    remove_file(empty);
    strbuf_free(&text);
}

Test(text_input, standard_input)
{
    expect_piped("-", STDIN_FILENO);
}

Test(text_input, a_pipe_by_its_descriptor)
{
    expect_piped("/dev/fd/63", 63);
}

Test(text_input, refusals)
{
    char *text = NULL;
    size_t length;
    struct error err = {0};
    struct strbuf bytes = long_text();
    char *path = write_file(&bytes);
    expect_refusal(text_input_read(path, LENGTH - 1, &text, &length, &err), &err, ST_BAD_FILE,
                   "more than 299999 bytes");
    expect_refusal(text_input_read("/", LENGTH, &text, &length, &err), &err, ST_IO,
                   "/: Is a directory");
    expect_refusal(text_input_read("/none", LENGTH, &text, &length, &err), &err, ST_NOT_FOUND,
                   "/none: No such file");
    alloc_fail_after(1);
    expect_refusal(text_input_read(path, LENGTH, &text, &length, &err), &err, ST_NO_MEMORY,
                   "no memory");
    alloc_fail_after(0);
    cr_assert_null(text);
    remove_file(path);
    strbuf_free(&bytes);
}
