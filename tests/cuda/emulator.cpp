// Fibers, barriers, warp collectives and launches of the CUDA emulator (emulator.h).
#include "tests/cuda/emulator_fibers.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <pthread.h>
#include <sys/mman.h>

#if !defined(__x86_64__)
#error "the switch of stacks is written for x86-64"
#endif

enum { STACK_BYTES = 256 * 1024, GUARD_BYTES = 4096, WARP = 32, BARRIERS = 16 };

int emu_order = EMU_ROUND_ROBIN, emu_async_mode = EMU_ASYNC_LATE;
int emu_abort_on_error = 1, emu_errors = 0;
unsigned emu_seed = 1;
emu_thread *emu_cur;
uint3 emu_block_index;
dim3 emu_block_dim, emu_grid_dim;
emu_translated (*emu_find_translated)(const void *kernel);
emu_fiber *emu_running, emu_host;

struct warp {
    unsigned waiting, ended; // lanes
    unsigned generation;
    long sync[2]; // what __syncwarp orders by, alternating: the next one must not order this one
};

struct barrier {
    unsigned arrived, expected, generation;
    int predicates;
    long sync[2];
};

static emu_fiber fibers[EMU_MAX_THREADS];
static warp warps[EMU_MAX_THREADS / WARP];
static barrier barriers[BARRIERS];
static int threads, alive, stacks_made;
static short queue[EMU_MAX_THREADS]; // ready fibers, a ring
static int queue_first, queue_count;
static const emu_launch_args *launch;
static bool in_kernel, failed;
static unsigned random_state;
static long block_begins, block_ends, fence;

unsigned emu_random()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

// --- switching

// Saves the callee-saved registers on the stack, keeps its pointer in *from, goes on with `to`.
extern "C" void emu_switch_stack(void **from, void *to);
__asm__(".text\n"
        ".globl emu_switch_stack\n"
        ".type emu_switch_stack,@function\n"
        "emu_switch_stack:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size emu_switch_stack,.-emu_switch_stack\n");

static void switch_to(emu_fiber *to)
{
    emu_fiber *from = emu_running;
    if (from == to) return;
    emu_running = to;
    emu_cur = &to->thread;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(to->tsan, 1); // 1: the switch itself orders nothing
#endif
    emu_switch_stack(&from->stack_pointer, to->stack_pointer);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void emu_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "EMU ERROR: ");
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (in_kernel)
        fprintf(stderr, " [%s block (%u,%u,%u) thread (%u,%u,%u)]\n", launch->name,
                emu_block_index.x, emu_block_index.y, emu_block_index.z, threadIdx.x, threadIdx.y,
                threadIdx.z);
    else
        fprintf(stderr, " [host]\n");
    emu_errors++;
    if (emu_abort_on_error) abort();
    if (!in_kernel) return;
    failed = true;
    if (emu_running != &emu_host) switch_to(&emu_host); // the kernel's fibers are left behind
}

static void make_ready(emu_fiber *fiber)
{
    fiber->state = EMU_READY;
    queue[(queue_first + queue_count++) % EMU_MAX_THREADS] = (short)(fiber - fibers);
}

// Takes the next fiber of the queue: its first, its last, or any.
static emu_fiber *next_ready()
{
    int last = (queue_first + queue_count - 1) % EMU_MAX_THREADS, at = queue_first;
    if (emu_order == EMU_REVERSE) at = last;
    if (emu_order == EMU_RANDOM)
        at = (queue_first + (int)(emu_random() % (unsigned)queue_count)) % EMU_MAX_THREADS;
    emu_fiber *fiber = &fibers[queue[at]];
    if (emu_order == EMU_ROUND_ROBIN)
        queue_first = (queue_first + 1) % EMU_MAX_THREADS;
    else
        queue[at] = queue[last];
    queue_count--;
    return fiber;
}

static void deadlock()
{
    for (int i = 0; i < threads; i++) {
        const emu_fiber *fiber = &fibers[i];
        if (fiber->state == EMU_DONE) continue;
        bool same = i > 0 && fibers[i - 1].state == fiber->state &&
                    fibers[i - 1].where.line == fiber->where.line;
        if (!same)
            fprintf(stderr, "EMU: thread %d and those after it wait in %s, %s:%d\n", i,
                    fiber->waits_in, fiber->where.file, fiber->where.line);
    }
    emu_fail("deadlock: %d of %d threads wait, no thread can run", alive, threads);
}

static void run_others()
{
    if (queue_count)
        switch_to(next_ready());
    else
        deadlock();
}

// In random order a thread that need not wait lets another one run first.
static void wait_or_go_on(bool wait)
{
    if (!wait && emu_order != EMU_RANDOM) return;
    if (!wait) make_ready(emu_running);
    run_others();
}

// --- warp collectives: the last lane to arrive computes every lane's result

// Runs the collective that lanes of the mask wait in, if all of them are here or have ended.
static bool warp_complete(warp *w, emu_fiber *lanes, unsigned mask)
{
    unsigned present = mask & ~w->ended;
    if ((w->waiting & present) != present || !present) return false;
    const void *in[WARP] = {};
    void *out[WARP] = {};
    const emu_fiber *first = &lanes[__builtin_ctz(present)];
    static char none[1]; // a collective without operands still shows who takes part
    for (unsigned left = present; left; left &= left - 1) {
        int lane = __builtin_ctz(left);
        const emu_fiber *f = &lanes[lane];
        if (f->mask != mask || f->op != first->op) {
            emu_fail("lanes of a warp disagree: lane %u in %s at %s:%d (mask %08x), lane %d in %s "
                     "at %s:%d (mask %08x)",
                     first->thread.lane, first->waits_in, first->where.file, first->where.line,
                     first->mask, lane, f->waits_in, f->where.file, f->where.line, f->mask);
            return false;
        }
        in[lane] = f->in ? f->in : none;
        out[lane] = f->out;
    }
    first->op(mask, in, out);
    w->waiting &= ~present;
    w->generation++;
    for (unsigned left = present; left; left &= left - 1) {
        emu_fiber *f = &lanes[__builtin_ctz(left)];
        if (f != emu_running) make_ready(f);
    }
    return true;
}

// The mask without the lanes that a short last warp does not have; names them when they were named.
static unsigned existing_lanes(unsigned mask, const emu_fiber *f, const char *name)
{
    unsigned first = f->thread.warp * WARP, lanes = (unsigned)threads - first;
    unsigned existing = lanes >= WARP ? EMU_ALL_LANES : (1u << lanes) - 1;
    if (mask != EMU_ALL_LANES && (mask & ~existing))
        emu_fail("%s: mask %08x names lanes that do not exist", name, mask);
    return mask & existing;
}

void emu_warp_collective(unsigned mask, emu_warp_op op, const char *name, bool orders,
                         const void *in, void *out, emu_loc where)
{
    emu_fiber *f = emu_running;
    if (!in_kernel || f == &emu_host)
        return emu_fail("%s:%d: %s outside of a kernel", where.file, where.line, name);
    warp *w = &warps[f->thread.warp];
    mask = existing_lanes(mask, f, name);
    if (!(mask >> f->thread.lane & 1))
        emu_fail("%s:%d: %s: lane %u is not in its own mask %08x", where.file, where.line, name,
                 f->thread.lane, mask);
    f->mask = mask;
    f->op = op;
    f->waits_in = name;
    f->in = in;
    f->out = out;
    f->where = where;
    f->state = EMU_IN_WARP;
    w->waiting |= 1u << f->thread.lane;
    long *sync = &w->sync[w->generation & 1];
    if (orders) emu_release(sync);
    wait_or_go_on(!warp_complete(w, &fibers[f->thread.warp * WARP], mask));
    f->state = EMU_READY;
    if (orders) emu_acquire(sync);
}

// --- block barriers

static void barrier_complete(barrier *b)
{
    unsigned needed = b->expected ? b->expected : (unsigned)alive;
    if (!b->arrived || b->arrived < needed) return;
    int index = (int)(b - barriers), predicates = b->predicates;
    b->arrived = 0;
    b->predicates = 0;
    b->generation++;
    for (int i = 0; i < threads; i++) {
        emu_fiber *f = &fibers[i];
        if (f->state != EMU_IN_BLOCK || f->barrier != index) continue;
        f->result = predicates;
        if (f == emu_running)
            f->state = EMU_READY;
        else
            make_ready(f);
    }
}

// Threads that meet at one barrier must have come to the same line of it.
static void check_arrival(const barrier *b, const emu_fiber *f, unsigned count)
{
    if (!b->arrived) return;
    if (b->expected != count)
        emu_fail("%s:%d: barrier %d with counts %u and %u", f->where.file, f->where.line,
                 f->barrier, b->expected, count);
    for (int i = 0; i < threads; i++) {
        const emu_fiber *o = &fibers[i];
        if (o == f || o->state != EMU_IN_BLOCK || o->barrier != f->barrier) continue;
        if (o->where.line != f->where.line || strcmp(o->where.file, f->where.file) != 0)
            emu_fail("divergent barrier: thread %u is at %s:%d, thread %u at %s:%d",
                     o->thread.linear, o->where.file, o->where.line, f->thread.linear,
                     f->where.file, f->where.line);
        return;
    }
}

int emu_block_sync(int index, unsigned count, int predicate, emu_loc where)
{
    emu_fiber *f = emu_running;
    if (!in_kernel || f == &emu_host || index < 0 || index >= BARRIERS) {
        emu_fail("%s:%d: barrier %d outside of a kernel, or none of 0..15", where.file, where.line,
                 index);
        return 0;
    }
    barrier *b = &barriers[index];
    f->barrier = index;
    f->where = where;
    f->waits_in = "a barrier";
    check_arrival(b, f, count);
    f->state = EMU_IN_BLOCK;
    b->arrived++;
    b->expected = count;
    b->predicates += predicate;
    long *sync = &b->sync[b->generation & 1];
    emu_release(sync);
    barrier_complete(b);
    wait_or_go_on(f->state == EMU_IN_BLOCK);
    f->state = EMU_READY;
    emu_acquire(sync);
    return f->result;
}

void emu_fence()
{
    emu_release(&fence);
    emu_acquire(&fence);
}

// --- launches

// A thread has ended: who waits for it may go on.
static void thread_ended(emu_fiber *f)
{
    if (f->copies)
        emu_fail("thread %u ends with %d cp.async in flight", f->thread.linear, f->copies);
    f->group = 0;
    f->state = EMU_DONE;
    alive--;
    emu_release(&block_ends);
    warp *w = &warps[f->thread.warp];
    emu_fiber *lanes = &fibers[f->thread.warp * WARP];
    w->ended |= 1u << f->thread.lane;
    for (unsigned left = w->waiting; left; left &= left - 1) {
        int lane = __builtin_ctz(left);
        if (w->waiting >> lane & 1) warp_complete(w, lanes, lanes[lane].mask);
    }
    for (barrier &b : barriers)
        barrier_complete(&b);
}

// Where every fiber begins; one call of the kernel for each block it takes part in.
static void fiber_main()
{
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    for (;;) {
        emu_acquire(&block_begins);
        launch->run(launch->closure);
        thread_ended(emu_running);
        if (alive)
            run_others();
        else
            switch_to(&emu_host);
    }
}

static void make_fiber(emu_fiber *f)
{
    if (!f->stack) {
        char *memory = (char *)mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) {
            perror("the emulator's stacks");
            abort();
        }
        f->stack = memory + GUARD_BYTES;
        f->stack_bytes = STACK_BYTES;
    }
    emu_unpoison(f->stack, f->stack_bytes);
#ifdef EMU_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    // At entry rsp is 8 below a multiple of 16, as behind a call.
    void **top = (void **)(f->stack + f->stack_bytes - 72);
    *top = nullptr; // the return address of fiber_main, which does not return
    *--top = (void *)fiber_main;
    for (int i = 0; i < 6; i++) // the registers that emu_switch_stack takes off
        *--top = nullptr;
    f->stack_pointer = top;
    f->copies = 0;
    f->group = 0;
}

static void make_host()
{
    if (emu_host.stack) return;
    pthread_attr_t attributes;
    void *low;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &emu_host.stack_bytes);
    pthread_attr_destroy(&attributes);
    emu_host.stack = (char *)low;
#ifdef EMU_TSAN
    emu_host.tsan = __tsan_get_current_fiber();
#endif
    emu_running = &emu_host;
    emu_cur = &emu_host.thread;
}

static void begin_block(uint3 index)
{
    emu_block_index = index;
    for (warp &w : warps)
        w = {};
    for (barrier &b : barriers)
        b = {};
    queue_first = queue_count = 0;
    alive = threads;
    for (int i = 0; i < threads; i++) {
        unsigned u = (unsigned)i;
        uint3 thread{u % emu_block_dim.x, u / emu_block_dim.x % emu_block_dim.y,
                     u / emu_block_dim.x / emu_block_dim.y};
        fibers[i].thread = {thread, u, u % WARP, u / WARP};
        make_ready(&fibers[i]);
    }
}

static void run_block(size_t block)
{
    const dim3 &grid = launch->grid;
    emu_shared_begin(launch->shared_bytes);
    begin_block(uint3{(unsigned)(block % grid.x), (unsigned)(block / grid.x % grid.y),
                      (unsigned)(block / grid.x / grid.y)});
    emu_release(&block_begins);
    run_others();
    emu_acquire(&block_ends);
    emu_shared_end();
}

static void run_blocks()
{
    size_t count = (size_t)launch->grid.x * launch->grid.y * launch->grid.z, step = 1;
    if (emu_order == EMU_RANDOM && count > 1) do
            step = 1 + emu_random() % (count - 1);
        while (std::gcd(step, count) != 1);
    for (size_t k = 0; k < count && !failed; k++)
        run_block(emu_order == EMU_REVERSE ? count - 1 - k : k * step % count);
}

// Launches that a GPU refuses.
static bool launch_possible(const emu_launch_args &l)
{
    size_t block = (size_t)l.block.x * l.block.y * l.block.z;
    bool shape = block > 0 && block <= EMU_MAX_THREADS && l.block.z <= 64 && l.grid.x && l.grid.y &&
                 l.grid.z && l.grid.x <= 0x7fffffffu && l.grid.y <= 65535 && l.grid.z <= 65535;
    if (!shape)
        emu_fail("%s: a grid of %u,%u,%u blocks of %u,%u,%u threads", l.name, l.grid.x, l.grid.y,
                 l.grid.z, l.block.x, l.block.y, l.block.z);
    else if (!emu_shared_allowed(l.kernel, l.shared_bytes))
        emu_fail("%s: %zu bytes of dynamic shared memory, more than it was allowed", l.name,
                 l.shared_bytes);
    else
        return true;
    return false;
}

void emu_run(const emu_launch_args &given)
{
    emu_launch_args l = given;
    if (!launch_possible(l)) return;
    make_host();
    emu_translated translated = emu_find_translated ? emu_find_translated(l.kernel) : nullptr;
    if (translated) {
        l.run = (void (*)(void *))translated;
        l.closure = l.values;
    }
    threads = (int)(l.block.x * l.block.y * l.block.z);
    for (; stacks_made < threads; stacks_made++)
        make_fiber(&fibers[stacks_made]);
    launch = &l;
    emu_block_dim = l.block;
    emu_grid_dim = l.grid;
    random_state = emu_seed * 2654435761u | 1u;
    in_kernel = true;
    failed = false;
    emu_device_guard(false);
    run_blocks();
    emu_device_guard(true);
    in_kernel = false;
    if (!failed) return;
    for (int i = 0; i < stacks_made; i++) // what they were doing is abandoned
        make_fiber(&fibers[i]);
}
