/* One status for the whole project, the CUDA side included. 0 is success.
 *
 * A function that can fail for a reason the user should read takes a `struct error *` last and
 * returns its status; the words say which file, field or request, what was found and what is
 * allowed. Expected failures return. A broken invariant of our own calls die() and stops the
 * process.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#define STATUS_MAP(X)               \
    X(OK, "ok")                     \
    X(USAGE, "wrong usage")         \
    X(INVALID, "invalid value")     \
    X(NOT_FOUND, "not found")       \
    X(IO, "input or output failed") \
    X(BAD_FILE, "malformed file")   \
    X(UNSUPPORTED, "not supported") \
    X(NO_MEMORY, "out of memory")   \
    X(NO_SPACE, "no room")          \
    X(FULL, "queue full")           \
    X(LATE, "too late")             \
    X(CLOSED, "shutting down")      \
    X(NO_DEVICE, "no such device")  \
    X(INTERNAL, "internal error")

enum status {
#define X(name, words) ST_##name,
    STATUS_MAP(X)
#undef X
};

/* Short words for a status, never NULL. */
const char *status_words(enum status status);

/* A status with its explanation. Plain value; zero-initialise it. */
struct error {
    enum status status;
    char text[512];
};

/* Control characters become '?', in place: text of a file must not move the cursor of a terminal or
 * begin a line of its own in a log. */
void make_printable(char *text);

/* Fills `err` (may be NULL) and returns `status`, so that a check reads `return fail(err, ...)`.
 * The text is made printable. */
enum status fail(struct error *err, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "PREFIX: " before the text that is already there; returns err->status. */
enum status fail_prefix(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A broken invariant of our own: prints where and what, then aborts. */
void die_at(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4))); /* not _Noreturn: .cu files read this, too */

#define die(...) die_at(__FILE__, __LINE__, __VA_ARGS__)
#define invariant(condition, ...)                                                       \
    do {                                                                                \
        if (__builtin_expect(!(condition), 0)) die_at(__FILE__, __LINE__, __VA_ARGS__); \
    } while (0)

#endif
