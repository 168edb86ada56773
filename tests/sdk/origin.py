"""A backend that answers every chat with the same words, whatever the request says, but for its
usage: that is reported where it is asked for. So what a client sees with and without the sidecar
can be compared event by event, also where the sidecar changes the request.

Who brings tools is answered with two calls at once, their arguments interleaved; who wants
`logprobs` gets them. A chat that is not streamed gets the same as one object, written down here
apart, so that it is known what a stream has to amount to.

Two headers tell what arrived: `x-saw-stream-options`, and `x-saw-key`, a hash of the credential.
`GET /seen` tells how many chats there were.
"""

import hashlib
import http.server
import itertools
import json
import threading

WORDS = ["Ebb", " and", " flow", ", 潮", " 🌊", "", " twice", " a", " day."]
USAGE = {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20}
# as the pieces of a stream: index, and what comes
CALLS = [
    (0, {"id": "call_1", "type": "function", "function": {"name": "tide_table", "arguments": ""}}),
    (0, {"function": {"arguments": '{"port": "Saint'}}),
    (1, {"id": "call_2", "type": "function", "function": {"name": "moon", "arguments": ""}}),
    (1, {"function": {"arguments": '{"day": 1.0, "at": "'}}),
    (0, {"function": {"arguments": '-Malo \\"潮\\""}'}}),
    (1, {"function": {"arguments": 'Ἀθῆναι"}'}}),
]
MESSAGE = {"role": "assistant", "content": "Ebb and flow, 潮 🌊 twice a day.", "refusal": None}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function",
         "function": {"name": "tide_table", "arguments": '{"port": "Saint-Malo \\"潮\\""}'}},
        {"id": "call_2", "type": "function",
         "function": {"name": "moon", "arguments": '{"day": 1.0, "at": "Ἀθῆναι"}'}},
    ],
    "refusal": None,
}  # fmt: skip
chats = itertools.count(1)
seen = {"chats": 0}


def probability(word):
    return {"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []}


def chunk(choices, **more):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-sim"}
    return {**head, "choices": choices, **more}


def choice(delta, reason=None, logprobs=None):
    return [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]


def events(body, with_usage):
    # as the vendor does: asked for usage, every chunk has the field, and the last has no choices
    more = {"usage": None} if with_usage else {}
    if body.get("tools"):
        yield chunk(choice({"role": "assistant", "content": None, "refusal": None}), **more)
        for index, call in CALLS:
            yield chunk(choice({"tool_calls": [{"index": index, **call}]}), **more)
        yield chunk(choice({}, "tool_calls"), **more)
    else:
        yield chunk(choice({"role": "assistant", "content": "", "refusal": None}), **more)
        for word in WORDS:
            told = {"content": [probability(word)], "refusal": None} if body.get("logprobs") else None
            yield chunk(choice({"content": word}, None, told), **more)
        yield chunk(choice({}, "stop"), **more)
    if with_usage:
        yield chunk([], usage=USAGE)


def whole(body):
    tools = bool(body.get("tools"))
    message, reason = (CALLING, "tool_calls") if tools else (MESSAGE, "stop")
    asked = body.get("logprobs") and not tools
    told = {"content": [probability(word) for word in WORDS], "refusal": None} if asked else None
    only = {"index": 0, "message": message, "logprobs": told, "finish_reason": reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-sim"}
    return {**head, "choices": [only], "usage": USAGE}


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer("application/json", json.dumps(seen).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen["chats"] = next(chats)
        if not body.get("stream"):
            return self.answer("application/json", json.dumps(whole(body)).encode())
        options = body.get("stream_options")
        credential = self.headers.get("authorization", "").encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-saw-stream-options", json.dumps(options))
        self.send_header("x-saw-key", hashlib.sha256(credential).hexdigest())
        self.end_headers()
        for event in events(body, bool(options and options.get("include_usage"))):
            self.piece(f"data: {json.dumps(event)}\n\n".encode())
        self.piece(b"data: [DONE]\n\n")
        self.piece(b"")

    def answer(self, content_type, body):
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
