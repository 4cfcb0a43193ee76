"""Requests that are no HTTP, or more than one way to read it. Nothing may be smuggled: whatever leaves
in doubt where a request ends is refused and the connection closed. What libmicrohttpd refuses by itself
has its own small HTML page (docs/api.md), what the server refuses has the contract's JSON."""
import json
import socket
import time

import pytest
from espalier_server import read_until

BODY = b'{"prompt":"x","max_tokens":2}'
POST = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"1d\r\n" + BODY + b"\r\n0\r\n\r\n"
INNER = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"  # what a smuggler would hide


def status_of(answer):
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer[9:12])


def error_of(answer):
    """The JSON error of the one answer that came before the server closed."""
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize("request_bytes", [
    POST + b"Content-Length: 5\r\n" + CHUNKED + CHUNKS,
    POST + b"Content-Length: 4\r\n" + CHUNKED + b"0\r\n\r\n" + INNER,
    POST + b"Content-Length: 29\r\nContent-Length: 5\r\n\r\n" + BODY + INNER,
    POST + b"Content-Length: 29\r\nContent-Length: 29\r\n\r\n" + BODY + INNER,
    POST + b"content-length: 0\r\nCONTENT-LENGTH: 29\r\n\r\n" + BODY + INNER,
    POST + b"Transfer-Encoding: gzip\r\n\r\n" + INNER,
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS + INNER,
    POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS + INNER,
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + INNER,
    POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + INNER,
    POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS + INNER,
    POST + b"Content-Length : 29\r\n\r\n" + BODY + INNER,
    POST + b"X-\x01: a\r\nContent-Length: 29\r\n\r\n" + BODY,
], ids=lambda data: repr(data[47:90]))
def test_two_ways_to_read_a_request_are_refused(server, request_bytes):
    answer = server.raw(request_bytes)
    assert status_of(answer) == 400 and error_of(answer)["code"] == "invalid_http"


@pytest.mark.parametrize("length, status", [
    (b"-5", 400), (b"+29", 400), (b"0x1d", 400), (b"29, 29", 400), (b"abc", 400), (b"", 400), (b"2 9", 400),
    (b"4194305", 413), (b"9223372036854775807", 413), (b"9223372036854775808", 413),
    (b"18446744073709551615", 413), (b"18446744073709551616", 413), (b"18446744073709551645", 413),
    (b"9" * 1000, 413),
])
def test_lengths_that_are_none(server, length, status):
    if length == b"4194305":  # small enough to be read and dropped, so that the client hears of it
        answer = server.raw(POST + CLOSE + b"Content-Length: 4194305\r\n\r\n" + b"x" * 4194305)
        assert error_of(answer)["code"] == "body_too_large"
    else:
        answer = server.raw(POST + b"Content-Length: " + length + b"\r\n\r\n" + BODY + INNER)
    assert status_of(answer) == status
    assert b'"max_model_len"' not in answer, "the inner request was answered"


@pytest.mark.parametrize("chunks, status", [
    (CHUNKS, 200), (b"1D;a=b\r\n" + BODY + b"\r\n000\r\nX-Trailer: a\r\n\r\n", 200),
    (b"-1d\r\n" + BODY + b"\r\n0\r\n\r\n", 400), (b"zz\r\n" + BODY, 400), (b"\r\n" + BODY, 400),
    (b"1d\r\n" + BODY + b"XX0\r\n\r\n", 400), (b"fffffffffffffffff\r\n" + BODY, 413),
    (b"0" * 100 + b"1d\r\n" + BODY + b"\r\n0\r\n\r\n", (200, 400, 413)),
])
def test_chunks(server, chunks, status):
    answer = server.raw(POST + CLOSE + CHUNKED + chunks)
    assert status_of(answer) in (status if isinstance(status, tuple) else (status,))


def test_a_chunk_of_2_to_the_64_waits_for_its_bytes_only(launch):
    server = launch("--body-timeout", "1s")
    before = time.monotonic()
    answer = server.raw(POST + CHUNKED + b"ffffffffffffffff\r\n" + BODY)
    assert answer == b"" and time.monotonic() - before < 30
    server.wait_idle()
    server.stop()


def test_a_query_of_too_many_arguments_is_closed(launch):
    """More than the library has memory for; it says nothing."""
    server = launch("--idle-timeout", "1s")
    assert server.raw(b"GET /health?" + b"a=b&" * 10000 + b" HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    server.wait_idle()
    server.stop()


@pytest.mark.parametrize("request_bytes, status", [
    (b"GET /health HTTP/1.0\r\n\r\n", 200),
    (b"GET http://elsewhere/health HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 200),
    (b"GET /health?x=1&y=%00&z HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 200),
    (b"GET /%68ealth HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 200),
    (b"\r\n" + GET + CLOSE + b"\r\n", 200),
    (b"GET /health HTTP/1.1\r\n" + CLOSE + b"\r\n", 200),
    (GET + CLOSE + b"Content-Length: 5\r\n\r\nhello", 200),
    (b"GET /health%00x HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"GET /v1/../health HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"GET //health HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"GET http: HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"GET http:// HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 404),
    (b"TRACE /health HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 405),
    (b"OPTIONS /v1/completions HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 405),
    (b"GET /" + b"a" * 66000 + b" HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 431),
    (b"A" * 66000 + b" / HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n", 431),
], ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value))
def test_odd_requests(server, request_bytes, status):
    answer = server.raw(request_bytes)
    assert status_of(answer) == status
    assert b"\r\nX-Request-Id: " in answer, "an answer of the server's, not of the library's"
    if status >= 400:
        error_of(answer)


@pytest.mark.parametrize("request_bytes, status", [
    (b"GET /health\r\n\r\n", 400), (GET + b"no colon\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505), (b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    (GET + b"X: " + b"a" * 200000 + b"\r\n\r\n", 431), (GET + b"X: a\r\n" * 9000 + b"\r\n", 431),
    (GET + b"Cookie: " + b"a=b; " * 5000 + b"\r\n\r\n", 431),
], ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else str(value))
def test_what_the_library_refuses_by_itself(server, request_bytes, status):
    """With its own page, and always with an end of the connection: one that has not read all it was
    sent may reset it, and its page is lost then."""
    answer = server.raw(request_bytes)
    if answer or len(request_bytes) < 10000:
        assert status_of(answer) == status


def test_a_head_has_no_body(server):
    for path, status in ((b"/health", 200), (b"/nothing", 404), (b"/v1/completions", 405)):
        answer = server.raw(b"HEAD " + path + b" HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
        assert status_of(answer) == status and answer.endswith(b"\r\n\r\n")


def test_a_client_that_asks_first_is_told_before_it_sends(server):
    ask = b"Expect: 100-continue\r\nContent-Length: "
    with server.socket() as client:
        client.sendall(POST + CLOSE + ask + b"29\r\n\r\n")
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert status_of(read_until(client, b"never in an answer")) == 200
    answer = server.raw(POST + ask + b"4194305\r\n\r\n")
    assert status_of(answer) == 413 and error_of(answer)["code"] == "body_too_large"
    answer = server.raw(POST.replace(b"/v1/completions", b"/nothing") + ask + b"29\r\n\r\n")
    assert status_of(answer) == 404 and error_of(answer)["code"] == "unknown_path"


def test_a_stream_to_an_old_client_ends_with_the_connection(server):
    body = b'{"prompt":"x","max_tokens":3,"ignore_eos":true,"stream":true}'
    answer = server.raw(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head, text = answer.split(b"\r\n\r\n", 1)
    assert b"Transfer-Encoding" not in head and text.startswith(b"data: ")
    assert text.endswith(b"data: [DONE]\n\n") and text.count(b"data: ") == 5


def test_a_body_that_is_much_too_large_is_not_read(server):
    client = server.socket()
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n")
    assert b" 413 " in read_until(client, b"\r\n")
    client.close()


def test_chunks_without_end(server):
    client = server.socket()
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with pytest.raises(OSError):
        for _ in range(2000):
            client.sendall(piece)
            time.sleep(0)
    client.close()


def test_a_header_of_64_kib_and_one(server):
    client = server.socket()
    head = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Long: "
    client.sendall(head + b"a" * (65537 - len(head) - 4) + b"\r\n\r\n")
    answer = read_until(client, b'"header_too_large"')
    assert b" 431 " in answer.split(b"\r\n")[0], answer[:200]
    client.close()


def test_a_header_without_end(server):
    client = server.socket()
    data = b""
    try:
        client.sendall(b"GET /health HTTP/1.1\r\n" + b"X-Long: aaaaaaaa\r\n" * 100000)
        data = read_until(client, b"\r\n")
    except OSError:
        pass  # it may close while we still send
    assert not data or b" 431 " in data
    client.close()


def test_a_hundred_and_one_header_fields(server):
    fields = {f"X-{i}": "a" for i in range(101)}
    assert server.request("GET", "/health", headers=fields)[0] == 431


def test_what_is_no_http(server):
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n\r\n\r\n", b"GET\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808"
                 b"\r\n\r\n", b"\x00" * 70000):
        client = server.socket()
        try:
            client.sendall(junk)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
        except OSError:
            pass
        client.close()


def test_pipelined_requests_are_answered_in_order(server):
    body = BODY
    one = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    client = server.socket()
    client.sendall(one * 5 + last)
    answer = read_until(client, b"never in an answer")
    assert answer.count(b"HTTP/1.1 200 OK") == 6
    client.close()


