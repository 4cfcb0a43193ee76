/* A binary heap of connections by due time, each knowing its place. */
#include "bench/stub_server/stub.h"

static void put(struct stub *stub, size_t place, struct connection *connection)
{
    stub->heap[place] = connection;
    connection->heap_place = place + 1;
}

static void sift_up(struct stub *stub, size_t place)
{
    struct connection *moved = stub->heap[place];
    while (place > 0 && stub->heap[(place - 1) / 2]->due_us > moved->due_us) {
        put(stub, place, stub->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(stub, place, moved);
}

static void sift_down(struct stub *stub, size_t place)
{
    struct connection *moved = stub->heap[place];
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= stub->heap_count) break;
        if (child + 1 < stub->heap_count &&
            stub->heap[child + 1]->due_us < stub->heap[child]->due_us)
            child++;
        if (stub->heap[child]->due_us >= moved->due_us) break;
        put(stub, place, stub->heap[child]);
        place = child;
    }
    put(stub, place, moved);
}

void timer_clear(struct connection *connection)
{
    struct stub *stub = connection->stub;
    size_t place = connection->heap_place;
    if (place == 0) return;
    connection->heap_place = 0;
    struct connection *last = stub->heap[--stub->heap_count];
    if (last == connection) return;
    put(stub, place - 1, last);
    sift_up(stub, place - 1);
    sift_down(stub, last->heap_place - 1);
}

void timer_set(struct connection *connection, int64_t due_us)
{
    struct stub *stub = connection->stub;
    timer_clear(connection);
    connection->due_us = due_us;
    if (stub->heap_count == stub->heap_room) {
        stub->heap_room = stub->heap_room ? 2 * stub->heap_room : 256;
        stub->heap = must_realloc(stub->heap, stub->heap_room * sizeof *stub->heap);
    }
    stub->heap[stub->heap_count] = connection;
    sift_up(stub, stub->heap_count++);
}
