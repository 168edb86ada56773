"""A backend that answers every chat with the same stream, whatever the request says, but for its
usage: that is reported where it is asked for. So what a client sees with and without the sidecar
can be compared event by event, also where the sidecar changes the request.

Two headers tell what arrived: `x-saw-stream-options`, and `x-saw-key`, a hash of the credential.
"""

import hashlib
import http.server
import json
import threading

WORDS = ["Ebb", " and", " flow", ", 潮", " 🌊", "", " twice", " a", " day."]
USAGE = {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20}


def chunk(choices, **more):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-sim"}
    return {**head, "choices": choices, **more}


def choice(delta, reason=None):
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]


def events(with_usage):
    # as the vendor does: asked for usage, every chunk has the field, and the last has no choices
    more = {"usage": None} if with_usage else {}
    yield chunk(choice({"role": "assistant", "content": "", "refusal": None}), **more)
    for word in WORDS:
        yield chunk(choice({"content": word}), **more)
    yield chunk(choice({}, "stop"), **more)
    if with_usage:
        yield chunk([], usage=USAGE)


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        options = body.get("stream_options")
        credential = self.headers.get("authorization", "").encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-saw-stream-options", json.dumps(options))
        self.send_header("x-saw-key", hashlib.sha256(credential).hexdigest())
        self.end_headers()
        for event in events(bool(options and options.get("include_usage"))):
            self.piece(f"data: {json.dumps(event)}\n\n".encode())
        self.piece(b"data: [DONE]\n\n")
        self.piece(b"")

    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        pass


def serve(port):
    """Serves until the process ends."""
    http.server.ThreadingHTTPServer.daemon_threads = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
