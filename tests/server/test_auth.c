#include "server/auth.h"
#include "server/sha256.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void expect_digest(const void *bytes, size_t length, const char *hex)
{
    uint8_t digest[SHA256_BYTES];
    char found[2 * SHA256_BYTES + 1];
    sha256(bytes, length, digest);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(found + 2 * i, 3, "%02x", digest[i]);
    cr_expect_str_eq(found, hex);
}

/* FIPS 180-4's examples, and the lengths around a block's end (from coreutils' sha256sum). */
Test(auth, sha256_of_known_texts)
{
    char as[1000];
    memset(as, 'a', sizeof as);
    expect_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect_digest(as, 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    expect_digest(as, 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    expect_digest(as, 1000, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}

static enum status load_bytes(const char *text, size_t length, struct auth **auth,
                              struct error *err)
{
    char path[] = "/tmp/espalier-keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, text, length), (ssize_t)length);
    close(fd);
    enum status status = auth_load(path, auth, err);
    unlink(path);
    return status;
}

static enum status load(const char *text, struct auth **auth, struct error *err)
{
    return load_bytes(text, strlen(text), auth, err);
}

Test(auth, takes_the_keys_of_the_file_and_no_others)
{
    struct auth *auth;
    struct error err = {0};
    cr_assert_eq(load("# staff\nsk-first\r\n\n \tsk-second \n  # guests\n sk-third", &auth, &err),
                 ST_OK, "%s", err.text);
    cr_expect(auth_allows(auth, "Bearer sk-first"));
    cr_expect(auth_allows(auth, "bearer  sk-second"));
    cr_expect(auth_allows(auth, "Bearer sk-third")); /* without an end of its line */
    const char *refused[] = {NULL,
                             "",
                             "Bearer",
                             "Bearer ",
                             "sk-first",
                             "Bearer sk-",
                             "Bearer sk-firstX",
                             "Bearer # staff",
                             "Bearer SK-FIRST",
                             "Basic sk-first"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        cr_expect_not(auth_allows(auth, refused[i]), "%s", refused[i]);
    auth_free(auth);
}

/* Refused with its path and line, and never with what stands in it. */
static void expect_refused(const char *text, size_t length, const char *words)
{
    struct auth *auth;
    struct error err = {0};
    cr_expect_eq(load_bytes(text, length, &auth, &err), ST_INVALID, "%s", words);
    cr_expect(strstr(err.text, words), "found: %s", err.text);
    cr_expect_not(strstr(err.text, "sk-"), "found: %s", err.text);
}

Test(auth, a_file_without_keys_opens_no_door)
{
    char *long_key = malloc(4098), *long_file = calloc(1, (1 << 20) + 1);
    memset(long_key, 'k', 4098);
    expect_refused("", 0, "holds no API key");
    expect_refused("# nothing\n\n", 11, "holds no API key");
    expect_refused("sk-two words\n", 13, "line 1 is no key");
    expect_refused("sk-a\nsk-\0\n", 10, "line 2 is no key");
    expect_refused("sk-\x7f\n", 5, "line 1 is no key");
    expect_refused("sk-\xc3\xa9\n", 6, "line 1 is no key");
    expect_refused(long_key, 4097, "1 to 4096 printable");
    expect_refused(long_file, (1 << 20) + 1, "more than 1048576 bytes");
    free(long_key);
    free(long_file);
}

Test(auth, what_is_no_file_is_told)
{
    struct auth *auth;
    struct error err = {0};
    cr_expect_eq(auth_load("/nonexistent/keys", &auth, &err), ST_IO);
    cr_expect(strstr(err.text, "/nonexistent/keys: No such file"));
    cr_expect_eq(auth_load("/tmp", &auth, &err), ST_IO);
    cr_expect(strstr(err.text, "/tmp: Is a directory"), "found: %s", err.text);
    cr_expect_eq(auth_load("/dev/zero", &auth, &err), ST_INVALID);
}
