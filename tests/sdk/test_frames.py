"""HTTP/2 frames that a good client never sends, on cleartext with prior knowledge. Cases after
RFC 9113 and the attacks of recent years (rapid reset, floods). After each one the sidecar must
still serve. (A first frame that is not SETTINGS is no case: the h2 crate bears it.)"""

import socket
import struct
import time
import unittest
import urllib.request

from harness import PROXY

HOST, PORT = PROXY.removeprefix("http://").split(":")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """HPACK: literal without indexing, new name, no Huffman code; lengths under 127."""
    name, value = name.encode(), value.encode()
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def block(*more, method="GET", path="/v1/models", leave_out=()):
    pseudo = {":method": method, ":scheme": "http", ":path": path, ":authority": f"{HOST}:{PORT}"}
    fields = [(name, value) for name, value in pseudo.items() if name not in leave_out]
    return b"".join(literal(name, value) for name, value in [*fields, *more])


def request(stream=1, flags=END_HEADERS | END_STREAM, headers=None):
    return frame(HEADERS, flags, stream, block() if headers is None else headers)


class Connection:
    def __init__(self, first=PREFACE + frame(SETTINGS)):
        self.socket = socket.create_connection((HOST, int(PORT)), timeout=5)
        self.buffer = b""
        self.send(first)

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # the other side may have closed: what it said is still read

    def frames(self, within=4.0):
        """Frames until the connection ends or `within` seconds are over; None at its end."""
        end = time.monotonic() + within
        while True:
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3])
                if len(self.buffer) < 9 + length:
                    break
                kind, flags = self.buffer[3], self.buffer[4]
                stream = int.from_bytes(self.buffer[5:9]) & 0x7FFFFFFF
                payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
                yield kind, flags, stream, payload
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                return
            except OSError:
                more = b""
            if not more:
                yield None
                return
            self.buffer += more

    def close(self):
        self.socket.close()


class Frames(unittest.TestCase):
    def tearDown(self):
        with urllib.request.urlopen(f"{PROXY}/v1/models", timeout=5) as answer:
            self.assertEqual(answer.status, 200, "others are served after it")

    def talk(self, *frames, first=PREFACE + frame(SETTINGS), until=lambda _: False, within=4.0):
        """Everything the sidecar said up to `until`, the connection's end, or GOAWAY."""
        connection = Connection(first)
        try:
            connection.send(b"".join(frames))
            said = []
            for got in connection.frames(within):
                said.append(got)
                if got is None or got[0] == GOAWAY or until(got):
                    break
            return said
        finally:
            connection.close()

    def assert_connection_error(self, *frames, **options):
        said = self.talk(*frames, **options)
        self.assertTrue(said and (said[-1] is None or goaway_code(said[-1]) not in (None, 0)), said)

    def assert_stream_error(self, *frames, stream=1, **options):
        """RST_STREAM, an answer of 4xx, or the end of the connection: never passed on."""

        def ended(got):
            return got is not None and got[2] == stream and (got[0] == RST_STREAM or got[0] == HEADERS)

        said = self.talk(*frames, until=ended, **options)
        last = said[-1] if said else ()
        self.assertTrue(
            last is None or (last and (last[0] in (RST_STREAM, GOAWAY) or refused(last))), said
        )

    def test_a_good_request_is_answered(self):
        said = self.talk(request(), until=lambda got: got and got[0] == HEADERS)
        self.assertEqual(said[-1][0], HEADERS)
        self.assertEqual(said[-1][3][0], 0x88, "status 200, from HPACK's static table")

    def test_ping_is_answered(self):
        said = self.talk(frame(PING, 0, 0, b"12345678"), until=lambda got: got and got[0] == PING)
        self.assertEqual(said[-1], (PING, ACK, 0, b"12345678"))

    def test_an_unknown_frame_is_passed_over(self):
        said = self.talk(frame(0xEE, 0, 0, b"?"), request(), until=lambda got: got and got[0] == HEADERS)
        self.assertEqual(said[-1][0], HEADERS)

    def test_broken_preface(self):
        said = self.talk(first=b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + frame(SETTINGS))
        self.assertFalse(any(got and got[0] == HEADERS for got in said))

    def test_settings_of_a_wrong_length(self):
        self.assert_connection_error(frame(SETTINGS, 0, 0, b"12345"))

    def test_settings_on_a_stream(self):
        self.assert_connection_error(frame(SETTINGS, 0, 1))

    def test_settings_ack_with_a_payload(self):
        self.assert_connection_error(frame(SETTINGS, ACK, 0, bytes(6)))

    def test_a_window_beyond_its_maximum(self):
        self.assert_connection_error(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)))

    def test_a_frame_size_out_of_range(self):
        self.assert_connection_error(frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 100)))

    def test_a_frame_larger_than_allowed(self):
        self.assert_connection_error(request(flags=END_HEADERS), frame(DATA, 0, 1, bytes(16385)))

    def test_headers_on_stream_zero(self):
        self.assert_connection_error(request(stream=0))

    def test_an_even_stream(self):
        self.assert_connection_error(request(stream=2))

    def test_a_stream_that_goes_back(self):
        self.assert_connection_error(request(stream=5), request(stream=3))

    def test_data_on_an_idle_stream(self):
        self.assert_connection_error(frame(DATA, 0, 1, b"x"))

    def test_data_on_stream_zero(self):
        self.assert_connection_error(frame(DATA, 0, 0, b"x"))

    def test_reset_of_an_idle_stream(self):
        self.assert_connection_error(frame(RST_STREAM, 0, 1, bytes(4)))

    def test_push_from_a_client(self):
        self.assert_connection_error(frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + block()))

    def test_continuation_out_of_place(self):
        self.assert_connection_error(frame(CONTINUATION, END_HEADERS, 1, block()))

    def test_another_frame_inside_a_header_block(self):
        self.assert_connection_error(request(flags=END_STREAM), frame(PING, 0, 0, bytes(8)))

    def test_padding_longer_than_the_frame(self):
        self.assert_connection_error(frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + block()[:8]))

    def test_broken_hpack(self):
        self.assert_connection_error(request(headers=b"\xff\xff\xff\xff\xff\xff\xff"))

    def test_a_window_update_of_zero(self):
        self.assert_connection_error(frame(WINDOW_UPDATE, 0, 0, bytes(4)))

    def test_a_window_that_overflows(self):
        self.assert_connection_error(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)) * 2)

    def test_ping_of_a_wrong_length(self):
        self.assert_connection_error(frame(PING, 0, 0, b"123"))

    def test_ping_on_a_stream(self):
        self.assert_connection_error(frame(PING, 0, 1, bytes(8)))

    def test_malformed_requests(self):
        cases = {
            "an upper-case name": block(("X-Upper", "1")),
            "no path": block(leave_out=(":path",)),
            "no method": block(leave_out=(":method",)),
            "an empty path": block(path=""),
            "an unknown pseudo-header": block((":foo", "1")),
            "a pseudo-header twice": block((":path", "/again")),
            "a pseudo-header after a header": block(("x", "1"), (":scheme", "http"), leave_out=(":scheme",)),
            "connection": block(("connection", "keep-alive")),
            "transfer-encoding": block(("transfer-encoding", "chunked")),
            "te that is not trailers": block(("te", "gzip")),
            "a new line in a value": block(("x", "1\r\ny: 2")),
            "another host": block(("host", "elsewhere.example")),
        }
        for name, headers in cases.items():
            with self.subTest(name):
                self.assert_stream_error(request(headers=headers))

    def test_a_body_unlike_its_content_length(self):
        headers = block(("content-length", "5"), ("content-type", "application/json"), method="POST", path="/v1/chat/completions")
        for body in (b"{}", b"{}      "):
            with self.subTest(len(body)):
                self.assert_stream_error(
                    request(flags=END_HEADERS, headers=headers), frame(DATA, END_STREAM, 1, body)
                )

    def test_floods_end_or_are_borne(self):
        """Each is bounded work for the sidecar, which may end the connection or bear it."""
        header = block(("x-simulate", "ttft=5s"))
        floods = {
            "rapid reset": b"".join(
                request(stream, headers=header) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
                for stream in range(1, 20_001, 2)
            ),
            "settings": frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 20_000,
            "ping": frame(PING, 0, 0, bytes(8)) * 20_000,
            "continuation": request(flags=END_STREAM) + frame(CONTINUATION, 0, 1, literal("x", "y" * 100)) * 20_000,
            "empty data": request(flags=END_HEADERS, headers=block(method="POST")) + frame(DATA, 0, 1) * 20_000,
            "priority": frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)) * 20_000,
        }
        for name, flood in floods.items():
            with self.subTest(name):
                begun = time.monotonic()
                self.talk(flood, within=1.0)
                with urllib.request.urlopen(f"{PROXY}/v1/models", timeout=5) as answer:
                    self.assertEqual(answer.status, 200)
                self.assertLess(time.monotonic() - begun, 6)


def goaway_code(got):
    return int.from_bytes(got[3][4:8]) if got and got[0] == GOAWAY else None


def refused(got):
    """HEADERS with a status of 4xx: from the static table (400, 404), or written out."""
    return got[0] == HEADERS and (got[3][0] in (0x8C, 0x8D) or b"4" in got[3][:12])
