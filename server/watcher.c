#include "server/watcher.h"
#include "base/alloc.h"
#include "base/log.h"
#include "server/exchange.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS        500
#define GONE_US         1000000 /* what a client sent before it closed its side may still be answered */
#define PRESSED_IDLE_US 1000000 /* an idle connection's time when connections are scarce */
#define WAKE_KEY        UINT64_MAX

enum slot_state { SLOT_FREE, SLOT_IDLE, SLOT_BODY, SLOT_BUSY };

struct watch_slot {
    int fd;
    enum slot_state state;
    uint32_t generation; /* tells an event of an earlier connection in this slot */
    int64_t since_us;
    bool gone; /* the client closed its side, at gone_us */
    int64_t gone_us;
    struct exchange *exchange; /* while busy; referenced */
    struct watch_slot *next_free;
};

struct watcher {
    struct server_limits limits;
    struct clock clock;
    int epoll, event;
    pthread_t thread;
    _Atomic bool stop;
    struct exchange *_Atomic wake_list;

    pthread_mutex_t lock; /* the slots; held for a few instructions or one sweep */
    struct watch_slot *slots;
    struct watch_slot *free_slots;
    int32_t slot_count, used;
};

/* --- the engine's side */

/* An eventfd refuses nothing but a count above 2^64 - 2, and then it has rung already. */
static void ring(struct watcher *watcher)
{
    uint64_t one = 1;
    if (write(watcher->event, &one, sizeof one) < 0 && errno != EAGAIN)
        die("eventfd: %s", strerror(errno));
}

void watcher_wake(struct watcher *watcher, struct exchange *exchange)
{
    if (atomic_exchange(&exchange->linked, true)) return;
    exchange_ref(exchange);
    struct exchange *head = atomic_load(&watcher->wake_list);
    do {
        exchange->wake_next = head;
    } while (!atomic_compare_exchange_weak(&watcher->wake_list, &head, exchange));
}

void watcher_ring(struct watcher *watcher)
{
    if (atomic_load(&watcher->wake_list)) ring(watcher);
}

static void resume_woken(struct watcher *watcher)
{
    struct exchange *exchange = atomic_exchange(&watcher->wake_list, NULL);
    while (exchange) {
        struct exchange *next = exchange->wake_next;
        /* Unlinked first: news that comes after the flag is down links it again. */
        atomic_store(&exchange->linked, false);
        exchange_unpark(exchange);
        exchange_unref(exchange);
        exchange = next;
    }
}

/* The bell is silenced before the list is taken: who links afterwards rings again. A read that
 * fails leaves it ringing, so this is called once more. */
static void answer_ring(struct watcher *watcher)
{
    uint64_t rung;
    ssize_t silenced = read(watcher->event, &rung, sizeof rung);
    (void)silenced;
    resume_woken(watcher);
}

/* --- hang-ups and deadlines */

static void hang_up(struct watcher *watcher, uint64_t key)
{
    struct watch_slot *slot = &watcher->slots[key & UINT32_MAX];
    struct exchange *exchange = NULL;
    pthread_mutex_lock(&watcher->lock);
    if (slot->state != SLOT_FREE && slot->generation == key >> 32) {
        slot->gone = true;
        slot->gone_us = clock_now(&watcher->clock);
        exchange = slot->exchange;
        if (exchange) exchange_ref(exchange);
    }
    pthread_mutex_unlock(&watcher->lock);
    if (!exchange) return;
    exchange_abandon(exchange);
    exchange_unref(exchange);
}

static bool overdue(const struct watcher *watcher, const struct watch_slot *slot, int64_t now_us)
{
    if (slot->state == SLOT_FREE || slot->state == SLOT_BUSY) return false;
    /* MHD polls by edges and misses an end that comes together with the last bytes. */
    if (slot->gone && now_us - slot->gone_us > GONE_US) return true;
    int64_t waited_us = now_us - slot->since_us;
    if (slot->state == SLOT_BODY) return waited_us > watcher->limits.body_timeout_us;
    bool pressed = watcher->used > watcher->limits.max_connections / 10 * 9;
    return waited_us > (pressed ? PRESSED_IDLE_US : watcher->limits.idle_timeout_us);
}

static void sweep(struct watcher *watcher, int64_t now_us)
{
    pthread_mutex_lock(&watcher->lock);
    for (int32_t i = 0; watcher->used && i < watcher->slot_count; i++)
        /* MHD sees the end of its input and closes the connection by its own rules. */
        if (overdue(watcher, &watcher->slots[i], now_us)) shutdown(watcher->slots[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&watcher->lock);
}

static void *watch(void *argument)
{
    struct watcher *watcher = argument;
    int64_t swept_us = clock_now(&watcher->clock);
    while (!atomic_load(&watcher->stop)) {
        struct epoll_event events[64];
        int count = epoll_wait(watcher->epoll, events, 64, SWEEP_MS);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 != WAKE_KEY)
                hang_up(watcher, events[i].data.u64);
            else
                answer_ring(watcher);
        }
        int64_t now_us = clock_now(&watcher->clock);
        if (now_us - swept_us < SWEEP_MS * 1000) continue;
        sweep(watcher, now_us);
        swept_us = now_us;
    }
    return NULL;
}

/* --- MHD's side */

/* false: the system has no memory to watch one more (or fs.epoll.max_user_watches is reached). */
static bool watch_socket(struct watcher *watcher, struct watch_slot *slot)
{
    uint64_t key = (uint64_t)slot->generation << 32 | (uint32_t)(slot - watcher->slots);
    /* Edge-triggered: one hang-up, one event. */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.u64 = key};
    if (epoll_ctl(watcher->epoll, EPOLL_CTL_ADD, slot->fd, &event) == 0) return true;
    log_warn("a connection is refused, it cannot be watched: %s", strerror(errno));
    return false;
}

struct watch_slot *watcher_open(struct watcher *watcher, int fd)
{
    pthread_mutex_lock(&watcher->lock);
    struct watch_slot *slot = watcher->free_slots;
    if (slot) {
        slot->fd = fd;
        slot->generation++;
        if (!watch_socket(watcher, slot)) slot = NULL; /* it stays in the list of free ones */
    }
    if (slot) {
        watcher->free_slots = slot->next_free;
        watcher->used++;
        slot->gone = false;
        slot->state = SLOT_IDLE;
        slot->since_us = clock_now(&watcher->clock);
    }
    pthread_mutex_unlock(&watcher->lock);
    return slot;
}

/* Takes the exchange out; the caller drops its reference outside the lock. */
static struct exchange *set_state(struct watcher *watcher, struct watch_slot *slot,
                                  enum slot_state state)
{
    struct exchange *exchange = slot->exchange;
    slot->exchange = NULL;
    slot->state = state;
    slot->since_us = clock_now(&watcher->clock);
    return exchange;
}

void watcher_close(struct watcher *watcher, struct watch_slot *slot)
{
    pthread_mutex_lock(&watcher->lock);
    struct exchange *exchange = set_state(watcher, slot, SLOT_FREE);
    epoll_ctl(watcher->epoll, EPOLL_CTL_DEL, slot->fd, NULL);
    slot->fd = -1;
    slot->next_free = watcher->free_slots;
    watcher->free_slots = slot;
    watcher->used--;
    pthread_mutex_unlock(&watcher->lock);
    if (exchange) exchange_unref(exchange);
}

static void change_state(struct watcher *watcher, struct watch_slot *slot, enum slot_state state)
{
    pthread_mutex_lock(&watcher->lock);
    struct exchange *exchange = set_state(watcher, slot, state);
    pthread_mutex_unlock(&watcher->lock);
    if (exchange) exchange_unref(exchange);
}

void watcher_reads_body(struct watcher *watcher, struct watch_slot *slot)
{
    change_state(watcher, slot, SLOT_BODY);
}

void watcher_idle(struct watcher *watcher, struct watch_slot *slot)
{
    change_state(watcher, slot, SLOT_IDLE);
}

void watcher_busy(struct watcher *watcher, struct watch_slot *slot, struct exchange *exchange)
{
    exchange_ref(exchange);
    pthread_mutex_lock(&watcher->lock);
    struct exchange *before = set_state(watcher, slot, SLOT_BUSY);
    invariant(!before, "a connection has two exchanges");
    slot->exchange = exchange;
    bool gone = slot->gone;
    pthread_mutex_unlock(&watcher->lock);
    if (gone) exchange_abandon(exchange);
}

void watcher_each(struct watcher *watcher, void (*visit)(struct exchange *exchange))
{
    for (int32_t i = 0; i < watcher->slot_count; i++) {
        pthread_mutex_lock(&watcher->lock);
        struct exchange *exchange = watcher->slots[i].exchange;
        if (exchange) exchange_ref(exchange);
        pthread_mutex_unlock(&watcher->lock);
        if (!exchange) continue;
        visit(exchange);
        exchange_unref(exchange);
    }
}

int32_t watcher_connections(struct watcher *watcher)
{
    pthread_mutex_lock(&watcher->lock);
    int32_t used = watcher->used;
    pthread_mutex_unlock(&watcher->lock);
    return used;
}

/* --- life */

static enum status open_descriptors(struct watcher *watcher, struct error *err)
{
    watcher->epoll = epoll_create1(EPOLL_CLOEXEC);
    watcher->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_KEY};
    if (watcher->epoll < 0 || watcher->event < 0 ||
        epoll_ctl(watcher->epoll, EPOLL_CTL_ADD, watcher->event, &event))
        return fail(err, ST_IO, "watcher: %s", strerror(errno));
    return ST_OK;
}

static void release(struct watcher *watcher)
{
    if (watcher->epoll >= 0) close(watcher->epoll);
    if (watcher->event >= 0) close(watcher->event);
    pthread_mutex_destroy(&watcher->lock);
    free(watcher->slots);
    free(watcher);
}

enum status watcher_create(const struct server_limits *limits, struct clock clock,
                           struct watcher **out, struct error *err)
{
    struct watcher *watcher = must_alloc(sizeof *watcher);
    watcher->limits = *limits;
    watcher->clock = clock;
    pthread_mutex_init(&watcher->lock, NULL);
    watcher->slot_count = limits->max_connections;
    watcher->slots = must_alloc((size_t)watcher->slot_count * sizeof *watcher->slots);
    for (int32_t i = watcher->slot_count - 1; i >= 0; i--) {
        watcher->slots[i].fd = -1;
        watcher->slots[i].next_free = watcher->free_slots;
        watcher->free_slots = &watcher->slots[i];
    }
    enum status status = open_descriptors(watcher, err);
    if (!status && pthread_create(&watcher->thread, NULL, watch, watcher))
        status = fail(err, ST_IO, "watcher: no thread can be started");
    if (status) {
        release(watcher);
        return status;
    }
    pthread_setname_np(watcher->thread, "watcher");
    *out = watcher;
    return ST_OK;
}

void watcher_free(struct watcher *watcher)
{
    if (!watcher) return;
    atomic_store(&watcher->stop, true);
    ring(watcher);
    pthread_join(watcher->thread, NULL);
    resume_woken(watcher);
    release(watcher);
}
