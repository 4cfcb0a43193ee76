"""Clients that leave, stall, drip or come in crowds. What holds is counted, not timed: a step's work, a
connection's end, a page of memory (bench/abuse_load.py has the times)."""
import contextlib
import resource
import socket
import struct
import time

import pytest
from espalier_server import SLOW_MODEL, read_until, wait_for

COMPLETIONS = "/v1/completions"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
LONG = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True}
MIB = 1 << 20


def reset(client):
    """Closes with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def abandoned(server):
    return server.metric("espalier_requests_total", outcome="abort")


# --- clients that leave


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("close", [reset, socket.socket.close])
@pytest.mark.parametrize("prompt", [[5] * 1500, "short"])
def test_clients_that_leave(server, stream, close, prompt):
    """Mid-prefill, mid-decode and mid-stream, by FIN and by RST."""
    body = {"prompt": prompt, "max_tokens": 500, "ignore_eos": True, "stream": stream}
    for wait in (0, 0.01, 0.05):
        client = server.send(body)
        time.sleep(wait)
        close(client)
    server.wait_idle()


def test_one_that_leaves_mid_prefill_gets_no_token(launch):
    server = launch("--prefill-chunk", "1", "--context", "2048", model=SLOW_MODEL)
    client = server.send({"prompt": [5] * 2000, "max_tokens": 8, "stream": True})
    wait_for(lambda: server.metric("espalier_sequences_running") == 1, "running")
    client.close()
    server.wait_idle()
    assert server.metric("espalier_steps_total") < 2000 and abandoned(server) == 1
    assert server.metric("espalier_generation_tokens_total") == 0
    server.stop()


@pytest.mark.parametrize("close", [reset, socket.socket.close])
def test_one_that_leaves_after_one_branch_ended(launch, close):
    """The fourth token of one branch is a stop token; the three others go on without it."""
    server = launch("--context", "2048", model=SLOW_MODEL)
    fields = {"prompt": "x", "n": 4, "temperature": 1, "seed": 3, "ignore_eos": True}
    choices = server.complete(**fields, max_tokens=8, return_token_ids=True)["choices"]
    stop = choices[1]["token_ids"][3]
    client = server.send({**fields, "max_tokens": 1900, "stop_token_ids": [stop], "stream": True})
    read_until(client, b'"finish_reason":"stop"')
    wait_for(lambda: server.metric("espalier_sequences_running") == 3, "three left")
    close(client)
    server.wait_idle()
    assert abandoned(server) == 1
    assert server.complete(**fields, max_tokens=8, return_token_ids=True)["choices"] == choices
    server.stop()


def test_clients_that_leave_before_the_header_or_body_ends(server):
    connections = server.metric("espalier_connections")
    for close in (reset, socket.socket.close):
        for piece in (b"", b"P", b"POST /v1/comp", HEAD + b"Cont", HEAD + b"Content-Length: 50\r\n\r\n",
                      HEAD + b"Content-Length: 50\r\n\r\n{\"prom",
                      HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"pr"):
            client = server.socket()
            client.sendall(piece)
            close(client)
    wait_for(lambda: server.metric("espalier_connections") <= connections, "all closed")


def test_half_closed_is_gone(server):
    """As for nginx: who closes the sending half waits for nothing."""
    before = abandoned(server)
    client = server.send({**LONG, "n": 8})
    wait_for(lambda: server.metric("espalier_sequences_running") == 8, "running")
    client.shutdown(socket.SHUT_WR)
    server.wait_idle()
    assert abandoned(server) == before + 1
    client.close()


def test_32_abandoned_at_2000_tokens_are_given_up_within_a_step(launch):
    """One step may be under way when they leave and one may begin before the engine hears of it."""
    server = launch("--max-rows", "32", "--context", "2048", "--kv-memory", "2GiB", model=SLOW_MODEL)
    clients = [server.send({**LONG, "stream": i % 2 == 0}) for i in range(32)]
    wait_for(lambda: server.metric("espalier_sequences_running") == 32, "all running")
    steps = server.metric("espalier_steps_total")
    for client in clients:
        client.close()
    answer = server.complete(prompt="x", max_tokens=1, temperature=0)  # at once, though 32 rows are all
    assert answer["usage"]["completion_tokens"] == 1
    server.wait_idle()
    assert server.metric("espalier_requests_total", outcome="abort") == 32
    assert server.metric("espalier_steps_total") - steps <= 5
    assert server.metric("espalier_generation_tokens_total") < 32 * 100
    server.stop()


# --- clients that stay and do nothing


def many_files(count):
    """Room for `count` sockets in this process, or the reason why not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 500:
        pytest.skip(f"the hard limit of open files is {hard}; {count} sockets need {count + 500}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))


@contextlib.contextmanager
def idle_sockets(server, count):
    many_files(count)
    clients = [server.socket() for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            reset(client)


@pytest.mark.parametrize("options", [("--max-connections", "12000"), ()])
def test_10000_idle_sockets(launch, options):
    """With room for all of them each is held; with the default of 4096 the idle make room."""
    server = launch(*options)
    answer = server.complete(prompt="x", temperature=0)
    before = server.resident_bytes()
    with idle_sockets(server, 10000):
        open_now = server.metric("espalier_connections")
        assert open_now > 10000 if options else open_now <= 4097
        assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
        grown = server.resident_bytes() - before
        print(f"{open_now:.0f} connections: {grown / MIB:.0f} MiB")
        assert grown < 100 * MIB
    wait_for(lambda: server.metric("espalier_connections") < 10, "all closed")
    assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
    server.wait_idle()
    server.stop()


def test_slow_headers_are_cut_off(launch):
    """A byte now and then does not help: the whole header has its time."""
    server = launch("--idle-timeout", "2s")
    answer = server.complete(prompt="x", temperature=0)
    clients = [server.socket() for _ in range(50)]
    cut = 0
    for byte in HEAD + b"X-Long: " + b"a" * 1000:
        cut = sum(not still_takes(client, bytes([byte])) for client in clients)
        if cut == len(clients):
            break
        time.sleep(0.1)
    assert cut == len(clients)
    assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
    server.wait_idle()
    server.stop()


def still_takes(client, data):
    try:
        client.sendall(data)
        return True
    except OSError:
        return False


def test_idle_and_slow_connections_cost_others_nothing(launch):
    server = launch("--body-timeout", "2s", "--max-connections", "600")
    answer = server.complete(prompt="x", temperature=0)
    idle = [server.socket() for _ in range(300)]
    slow = [server.socket() for _ in range(50)]
    for client in slow:
        client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n{")
    assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
    wait_for(lambda: server.metric("espalier_connections") < 310, "slow bodies cut off")
    for client in idle + slow:
        client.close()
    server.wait_idle()
    server.stop()


def test_more_connections_than_allowed_wait_for_idle_ones_to_go(launch):
    server = launch("--max-connections", "64")
    idle = [server.socket() for _ in range(200)]
    server.complete(prompt="x")
    for client in idle:
        client.close()
    server.stop()


# --- clients that do not read


def test_readers_that_stall_are_bounded_and_cut_off(launch):
    """6 answers of some 6 MB each, none of them read: the memory they hold is what was reserved for their
    tokens, others are answered meanwhile, and after the timeout everything is free again."""
    server = launch("--stall-timeout", "3s")
    answer = server.complete(prompt="x", temperature=0)
    before = server.resident_bytes()
    deaf = [server.deaf({**LONG, "n": 16, "stream": True}) for _ in range(6)]
    assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
    wait_for(lambda: server.metric("espalier_disconnects_total") == 6, "cut off")
    grown = server.resident_bytes() - before
    print(f"6 stalled readers: {grown / MIB:.1f} MiB")
    assert grown < 25 * MIB  # all their text would be 36 MiB, their tokens are 3
    server.wait_idle()
    wait_for(lambda: server.metric("espalier_connections") <= 1, "closed")
    assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
    for client in deaf:
        client.close()
    server.stop()


def test_a_reader_that_stalls_is_cancelled_while_it_is_written_for(launch):
    server = launch("--stall-timeout", "1s", "--context", "8192", "--served-name", "m" * 255, "--kv-memory",
                    "4GiB", model=SLOW_MODEL)
    client = server.deaf({"prompt": "x", "n": 16, "max_tokens": 8000, "ignore_eos": True,
                                  "stream": True})
    wait_for(lambda: abandoned(server) == 1, "cancelled")
    server.wait_idle()
    assert server.metric("espalier_generation_tokens_total") < 16 * 8000
    client.close()
    server.stop()


def test_a_reader_that_is_slow_gets_everything(launch):
    """Slower than the model, never silent for the timeout."""
    server = launch("--stall-timeout", "3s")
    client = server.deaf({**LONG, "n": 2, "stream": True})
    data = b""
    while b"data: [DONE]\n\n" not in data:
        piece = client.recv(65536)
        assert piece, "cut off"
        data += piece
        time.sleep(0.02)
    assert data.count(b'"finish_reason":"length"') == 2
    client.close()
    server.wait_idle()
    server.stop()


# --- crowds


def test_300_at_once_are_complete_or_refused(launch):
    server = launch("--max-queue", "16", "--max-rows", "8")
    server.complete(prompt="x")
    before = server.resident_bytes()
    clients = [server.send({"prompt": "x", "max_tokens": 8, "ignore_eos": True, "stream": True},
                           close=True) for _ in range(300)]
    complete = refusals = 0
    for client in clients:
        answer = read_until(client, b"never in an answer")
        client.close()
        if answer.startswith(b"HTTP/1.1 200 "):
            assert answer.count(b"data: ") == 8 + 2 and b"data: [DONE]\n\n" in answer
            complete += 1
        else:
            assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer
            assert b'"queue_full"' in answer and b"data: " not in answer
            refusals += 1
    assert complete >= 8 and complete + refusals == 300
    grown = server.resident_bytes() - before
    print(f"300 requests ({complete} complete): {grown / MIB:.1f} MiB")
    assert grown < 64 * MIB
    server.wait_idle()
    server.stop()


def test_300_large_bodies_at_once_stay_within_their_memory(launch):
    """4 MiB each, 1.2 GiB together: what is read at one time is --max-bodies."""
    server = launch("--max-bodies", "16MiB")
    server.complete(prompt="x")
    before = server.resident_bytes()
    clients = [server.socket() for _ in range(300)]
    for client in clients:
        client.sendall(HEAD + b"Content-Length: 4000000\r\n\r\n" + b" " * 900000)
    peak = server.resident_bytes() - before
    print(f"300 bodies of 0.9 MB: {peak / MIB:.1f} MiB")
    assert peak < 150 * MIB  # 260 without a limit; a connection's own buffers are in it
    for client in clients:
        client.close()
    server.wait_idle()
    server.stop()
