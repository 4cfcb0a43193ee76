/* Makes the n-th call of a class of functions fail, once or a few times in a row; loaded by
 * LD_PRELOAD into the real server (tests/faults/ladder.py).
 *
 * A page shared with the runner, the file that FAULT_CONTROL names, says which class is armed and
 * how many calls are left; it is read at every call, so the runner arms a phase of a process that
 * already runs. What is counted is what the dynamic linker sees: every call of our own code and of
 * the libraries, and malloc also from inside the C library.
 *
 * The errors are those that the kernel gives: ENOMEM for memory and mappings, EMFILE for a new
 * descriptor, EIO for a file, ENOSPC for what is written, ECONNRESET for a connection, EINTR for a
 * wait, EAGAIN for a thread. Not failed, because the kernel cannot: closing, unmapping, and writing
 * to an eventfd; nor what takes files away, which is how a failure ends.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* As ladder.py's. */
enum fault_class {
    FAULT_NONE,
    FAULT_MEMORY, /* malloc and its kin */
    FAULT_MAP,    /* mmap */
    FAULT_FILE,   /* open, stat, read */
    FAULT_SOCKET, /* socket, bind, listen, accept, recv, send and their kin */
    FAULT_POLL,   /* epoll, eventfd */
    FAULT_THREAD, /* pthread_create */
    FAULT_WRITE,  /* mkdir, creating, writing, syncing, locking, renaming */
};

struct control {
    _Atomic int32_t armed;     /* enum fault_class */
    _Atomic int32_t fired;     /* how many calls failed */
    _Atomic int64_t countdown; /* the call that takes it to 0 fails */
    _Atomic int64_t burst;     /* how many calls in a row fail; UNTIL_RELIEF: see there */
    _Atomic int64_t calls;     /* seen while armed */
    _Atomic int32_t relieved;  /* memory was given back since the first failure */
    char what[236];            /* the first call that failed */
};

/* A machine that has nothing left: calls fail until somebody unmaps RELIEF bytes. */
#define UNTIL_RELIEF 0
#define RELIEF       ((size_t)1 << 20)

static struct control *control;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("FAULT_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (page != MAP_FAILED) control = page;
}

static void describe(const char *name, void *caller)
{
    Dl_info where = {0};
    const char *file = dladdr(caller, &where) && where.dli_fname ? where.dli_fname : "?";
    const char *slash = strrchr(file, '/');
    snprintf(control->what, sizeof control->what, "%s from %s+0x%lx", name,
             slash ? slash + 1 : file, (unsigned long)((char *)caller - (char *)where.dli_fbase));
}

extern void *__interceptor_malloc(size_t bytes) __attribute__((weak));

/* A sanitizer calls the C library for its own needs, and does not expect to be refused. */
static int serves_a_sanitizer(void *caller)
{
    Dl_info where;
    return __interceptor_malloc && dladdr(caller, &where) && where.dli_fname &&
           strstr(where.dli_fname, "/libc.so");
}

static int due(enum fault_class class, const char *name, void *caller)
{
    if (!control || atomic_load(&control->armed) != (int32_t) class) return 0;
    if (serves_a_sanitizer(caller)) return 0;
    atomic_fetch_add(&control->calls, 1);
    int64_t left = atomic_fetch_sub(&control->countdown, 1), burst = atomic_load(&control->burst);
    if (left > 1) return 0;
    if (burst == UNTIL_RELIEF ? atomic_load(&control->relieved) : left <= 1 - burst) return 0;
    if (atomic_fetch_add(&control->fired, 1) == 0) describe(name, caller);
    return 1;
}

#define DUE(class, name) due(class, name, __builtin_return_address(0))

/* --- memory. dlsym itself allocates, so the real functions are named: a sanitizer's where there is
 * one, else the C library's. */

#define MEMORY(type, name, parameters)                                 \
    extern type __interceptor_##name parameters __attribute__((weak)); \
    extern type __libc_##name parameters
#define REAL_MEMORY(name) (__interceptor_##name ? __interceptor_##name : __libc_##name)

MEMORY(void *, malloc, (size_t bytes));
MEMORY(void *, calloc, (size_t count, size_t size));
MEMORY(void *, realloc, (void *old, size_t bytes));
MEMORY(void *, memalign, (size_t alignment, size_t bytes));

void *malloc(size_t bytes)
{
    if (DUE(FAULT_MEMORY, "malloc")) return errno = ENOMEM, NULL;
    return REAL_MEMORY(malloc)(bytes);
}

void *calloc(size_t count, size_t size)
{
    if (DUE(FAULT_MEMORY, "calloc")) return errno = ENOMEM, NULL;
    return REAL_MEMORY(calloc)(count, size);
}

void *realloc(void *old, size_t bytes)
{
    if (DUE(FAULT_MEMORY, "realloc")) return errno = ENOMEM, NULL;
    return REAL_MEMORY(realloc)(old, bytes);
}

void *reallocarray(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (DUE(FAULT_MEMORY, "reallocarray") || __builtin_mul_overflow(count, size, &bytes))
        return errno = ENOMEM, NULL;
    return REAL_MEMORY(realloc)(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    if (DUE(FAULT_MEMORY, "aligned_alloc")) return errno = ENOMEM, NULL;
    return REAL_MEMORY(memalign)(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    if (DUE(FAULT_MEMORY, "posix_memalign")) return ENOMEM;
    *out = REAL_MEMORY(memalign)(alignment, bytes);
    return *out ? 0 : ENOMEM;
}

/* `real` is the function of this name that the next library has. */
#define REAL(name)                                                      \
    static __typeof__(&name) found;                                     \
    __typeof__(&name) real = __atomic_load_n(&found, __ATOMIC_RELAXED); \
    if (!real) {                                                        \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);              \
        __atomic_store_n(&found, real, __ATOMIC_RELAXED);               \
    }

/* --- all others: NAME(parameters) fails with `error` and returns `failure` */

#define FAIL(class, name, type, parameters, arguments, error, failure)  \
    type name parameters                                                \
    {                                                                   \
        REAL(name)                                                      \
        if (DUE(class, #name)) return errno = (error), (type)(failure); \
        return real arguments;                                          \
    }

#define MAP_PARAMETERS (void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
FAIL(FAULT_MAP, mmap, void *, MAP_PARAMETERS, (at, bytes, prot, flags, fd, offset), ENOMEM,
     MAP_FAILED)
FAIL(FAULT_MAP, mmap64, void *, MAP_PARAMETERS, (at, bytes, prot, flags, fd, offset), ENOMEM,
     MAP_FAILED)

int munmap(void *memory, size_t bytes)
{
    REAL(munmap)
    int result = real(memory, bytes);
    if (control && bytes >= RELIEF && atomic_load(&control->fired))
        atomic_store(&control->relieved, 1);
    return result;
}

FAIL(FAULT_FILE, fopen, FILE *, (const char *path, const char *mode), (path, mode), EMFILE, NULL)
FAIL(FAULT_FILE, fopen64, FILE *, (const char *path, const char *mode), (path, mode), EMFILE, NULL)
FAIL(FAULT_FILE, fstat, int, (int fd, struct stat *out), (fd, out), EIO, -1)
FAIL(FAULT_FILE, stat, int, (const char *path, struct stat *out), (path, out), EIO, -1)
FAIL(FAULT_FILE, pread, ssize_t, (int fd, void *bytes, size_t count, off_t at),
     (fd, bytes, count, at), EIO, -1)
FAIL(FAULT_FILE, opendir, DIR *, (const char *path), (path), EMFILE, NULL)
FAIL(FAULT_FILE, getline, ssize_t, (char **line, size_t *room, FILE *file), (line, room, file), EIO,
     -1)

/* A failed fread has marked the stream; the mark cannot be set from here, so the descriptor under
 * the stream is taken away instead and the real one fails. */
size_t fread(void *bytes, size_t size, size_t count, FILE *file)
{
    REAL(fread)
    if (!DUE(FAULT_FILE, "fread")) return real(bytes, size, count, file);
    int fd = fileno(file), copy = dup(fd),
        broken = (int)syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY);
    dup2(broken, fd); /* reading a directory is an error */
    size_t got = real(bytes, size, count, file);
    dup2(copy, fd);
    close(copy);
    close(broken);
    return got;
}

/* Of regular files: an eventfd cannot refuse. */
ssize_t read(int fd, void *bytes, size_t count)
{
    REAL(read)
    struct stat info;
    if (control && syscall(SYS_fstat, fd, &info) == 0 && S_ISREG(info.st_mode) &&
        DUE(FAULT_FILE, "read"))
        return errno = EIO, -1;
    return real(fd, bytes, count);
}

/* --- writing. Of regular files, and what is buffered is the C library's own. */

static int writes_a_file(int fd)
{
    struct stat info;
    return control && syscall(SYS_fstat, fd, &info) == 0 && S_ISREG(info.st_mode);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    REAL(write)
    if (fd > STDERR_FILENO && writes_a_file(fd) && DUE(FAULT_WRITE, "write"))
        return errno = ENOSPC, -1;
    return real(fd, bytes, count);
}

#define PWRITE_PARAMETERS (int fd, const void *bytes, size_t count, off_t at)
FAIL(FAULT_WRITE, pwrite, ssize_t, PWRITE_PARAMETERS, (fd, bytes, count, at), ENOSPC, -1)
FAIL(FAULT_WRITE, pwrite64, ssize_t, PWRITE_PARAMETERS, (fd, bytes, count, at), ENOSPC, -1)
FAIL(FAULT_WRITE, fallocate, int, (int fd, int mode, off_t at, off_t count), (fd, mode, at, count),
     ENOSPC, -1)
FAIL(FAULT_WRITE, fallocate64, int, (int fd, int mode, off_t at, off_t count),
     (fd, mode, at, count), ENOSPC, -1)
FAIL(FAULT_WRITE, fsync, int, (int fd), (fd), EIO, -1)
FAIL(FAULT_WRITE, flock, int, (int fd, int operation), (fd, operation), ENOLCK, -1)
FAIL(FAULT_WRITE, mkdir, int, (const char *path, mode_t mode), (path, mode), ENOSPC, -1)
FAIL(FAULT_WRITE, rename, int, (const char *from, const char *to), (from, to), EIO, -1)
FAIL(FAULT_WRITE, renameat2, int,
     (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
     (from_fd, from, to_fd, to, flags), EIO, -1)

static int mode_of(int flags, va_list args)
{
    return flags & O_CREAT ? va_arg(args, int) : 0;
}

#define FAIL_OPEN(name)                                                            \
    int name(const char *path, int flags, ...)                                     \
    {                                                                              \
        REAL(name)                                                                 \
        va_list args;                                                              \
        va_start(args, flags);                                                     \
        int mode = mode_of(flags, args);                                           \
        va_end(args);                                                              \
        if (DUE(FAULT_FILE, #name)) return errno = EMFILE, -1;                     \
        if (flags & O_CREAT && DUE(FAULT_WRITE, #name)) return errno = ENOSPC, -1; \
        return real(path, flags, mode);                                            \
    }
FAIL_OPEN(open)
FAIL_OPEN(open64)

#define ADDRESS struct sockaddr *address, socklen_t *length
#define SENT    int fd, const void *bytes, size_t count, int flags
FAIL(FAULT_SOCKET, socket, int, (int family, int type, int protocol), (family, type, protocol),
     EMFILE, -1)
FAIL(FAULT_SOCKET, setsockopt, int,
     (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length), ENOBUFS, -1)
FAIL(FAULT_SOCKET, getsockopt, int, (int fd, int level, int name, void *value, socklen_t *length),
     (fd, level, name, value, length), ENOBUFS, -1)
FAIL(FAULT_SOCKET, bind, int, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length), ENOMEM, -1)
FAIL(FAULT_SOCKET, listen, int, (int fd, int backlog), (fd, backlog), ENOBUFS, -1)
FAIL(FAULT_SOCKET, getsockname, int, (int fd, ADDRESS), (fd, address, length), ENOBUFS, -1)
FAIL(FAULT_SOCKET, accept, int, (int fd, ADDRESS), (fd, address, length), EMFILE, -1)
FAIL(FAULT_SOCKET, accept4, int, (int fd, ADDRESS, int flags), (fd, address, length, flags), EMFILE,
     -1)
FAIL(FAULT_SOCKET, recv, ssize_t, (int fd, void *bytes, size_t count, int flags),
     (fd, bytes, count, flags), ECONNRESET, -1)
FAIL(FAULT_SOCKET, send, ssize_t, (SENT), (fd, bytes, count, flags), ECONNRESET, -1)
FAIL(FAULT_SOCKET, sendmsg, ssize_t, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags), ECONNRESET, -1)
FAIL(FAULT_SOCKET, writev, ssize_t, (int fd, const struct iovec *parts, int count),
     (fd, parts, count), ECONNRESET, -1)
FAIL(FAULT_SOCKET, shutdown, int, (int fd, int how), (fd, how), ENOBUFS, -1)

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **out)
{
    REAL(getaddrinfo)
    if (DUE(FAULT_SOCKET, "getaddrinfo")) return EAI_MEMORY;
    return real(host, port, hints, out);
}

FAIL(FAULT_POLL, epoll_create1, int, (int flags), (flags), EMFILE, -1)
FAIL(FAULT_POLL, epoll_wait, int, (int set, struct epoll_event *events, int room, int timeout),
     (set, events, room, timeout), EINTR, -1)
FAIL(FAULT_POLL, eventfd, int, (unsigned start, int flags), (start, flags), EMFILE, -1)

/* Only adding needs memory. */
int epoll_ctl(int set, int action, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl)
    if (action == EPOLL_CTL_ADD && DUE(FAULT_POLL, "epoll_ctl")) return errno = ENOMEM, -1;
    return real(set, action, fd, event);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *),
                   void *argument)
{
    REAL(pthread_create)
    if (DUE(FAULT_THREAD, "pthread_create")) return EAGAIN;
    return real(thread, attributes, main, argument);
}
