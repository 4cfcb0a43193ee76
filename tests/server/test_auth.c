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

static enum status load(const char *text, struct auth **auth, struct error *err)
{
    char path[] = "/tmp/espalier-keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    enum status status = auth_load(path, auth, err);
    unlink(path);
    return status;
}

Test(auth, takes_the_keys_of_the_file_and_no_others)
{
    struct auth *auth;
    struct error err = {0};
    cr_assert_eq(load("# staff\nsk-first\r\n\nsk-second\n", &auth, &err), ST_OK, "%s", err.text);
    cr_expect(auth_allows(auth, "Bearer sk-first"));
    cr_expect(auth_allows(auth, "bearer  sk-second"));
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

Test(auth, a_file_without_keys_opens_no_door)
{
    struct auth *auth;
    struct error err = {0};
    cr_expect_eq(load("# nothing\n\n", &auth, &err), ST_INVALID);
    cr_expect_eq(load("two words\n", &auth, &err), ST_INVALID);
    cr_expect_eq(auth_load("/nonexistent/keys", &auth, &err), ST_IO);
}
