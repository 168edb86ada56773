"""A backend that keeps its own books: what each answer says was used follows from the number of the
call, and is written down here, so that everybody who counts can be held to it."""

import collections
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CLASSES = ("input", "output", "cached_input", "cache_write", "reasoning")
Used = collections.namedtuple("Used", CLASSES)


def used_by(text: str, dialect: str) -> Used:
    """Input includes cached input and cache writes, output includes reasoning."""
    draw = hashlib.sha256(text.encode()).digest()
    cached, reasoning = (draw[0], draw[1]) if dialect != "embeddings" else (0, 0)
    written = draw[2] if dialect == "messages" else 0
    if dialect == "messages":
        reasoning = 0  # has no class of its own there
    output = 0 if dialect == "embeddings" else 1 + draw[3] + reasoning
    return Used(1 + 7 * draw[4] + cached + written, output, cached, written, reasoning)


class Ledger:
    """Counts by agent, as the backend sees them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = collections.Counter()
        self.tokens = collections.defaultdict(collections.Counter)
        self.nano = collections.Counter()
        ledger = self

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802, the library's name
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                ledger.answer(self, body)

            def log_message(self, *_) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Answers)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def book(self, agent: str, model: str, used: Used, prices: dict) -> None:
        """`prices`: billionths of a dollar for a token, by class."""
        price = prices[model]
        plain_in = used.input - used.cached_input - used.cache_write
        cost = plain_in * price["input"] + used.cached_input * price["cached_input"]
        cost += used.cache_write * price["cache_write"] + used.output * price["output"]
        with self.lock:
            self.calls[agent] += 1
            self.nano[agent] += cost
            for name, count in zip(CLASSES, used):
                self.tokens[agent][name] += count

    def answer(self, to: BaseHTTPRequestHandler, body: dict) -> None:
        agent = to.headers.get("x-agent-id", "")
        text = json.dumps(body.get("messages") or body.get("input"))
        if "refuse" in text:
            return send(to, 400, "application/json", [b'{"error":{"message":"it is wrong","type":"invalid_request_error"}}'])
        if "fail" in text:
            return send(to, 500, "application/json", [b'{"error":{"message":"it is broken","type":"server_error"}}'])
        dialect = {"/v1/messages": "messages", "/v1/embeddings": "embeddings"}.get(to.path.split("?")[0], "chat")
        used = used_by(text, dialect)
        self.book(agent, body["model"], used, self.prices)
        form = {"chat": chat, "messages": messages, "embeddings": embeddings}[dialect]
        kind = "text/event-stream" if body.get("stream") else "application/json"
        return send(to, 200, kind, form(body, used))


def send(to: BaseHTTPRequestHandler, status: int, kind: str, parts: list) -> None:
    to.send_response(status)
    to.send_header("content-type", kind)
    to.send_header("content-length", str(sum(map(len, parts))))
    to.end_headers()
    for part in parts:
        to.wfile.write(part)
        to.wfile.flush()


def event(data: dict, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def chat(body: dict, used: Used) -> list:
    usage = {
        "prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cached_input},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }  # fmt: skip
    head = {"id": "c", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "well"}, "finish_reason": "stop"}
        return [json.dumps(head | {"object": "chat.completion", "choices": [choice], "usage": usage}).encode()]
    head |= {"object": "chat.completion.chunk"}
    delta = [{"index": 0, "delta": {"role": "assistant", "content": "well"}, "finish_reason": None}]
    done = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    asked = (body.get("stream_options") or {}).get("include_usage")
    last = [event(head | {"choices": [], "usage": usage})] if asked else []
    return [event(head | {"choices": delta}), event(head | {"choices": done}), *last, b"data: [DONE]\n\n"]


def messages(body: dict, used: Used) -> list:
    said = {
        "input_tokens": used.input - used.cached_input - used.cache_write,
        "cache_read_input_tokens": used.cached_input, "cache_creation_input_tokens": used.cache_write,
    }  # fmt: skip
    head = {"id": "m", "type": "message", "role": "assistant", "model": body["model"]}
    if not body.get("stream"):
        content = [{"type": "text", "text": "well"}]
        return [json.dumps(head | {"content": content, "stop_reason": "end_turn", "usage": said | {"output_tokens": used.output}}).encode()]
    begin = head | {"content": [], "stop_reason": None, "usage": said | {"output_tokens": 1}}
    return [
        event({"type": "message_start", "message": begin}, "message_start"),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start"),
        event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "well"}}, "content_block_delta"),
        event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": used.output}}, "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]


def embeddings(body: dict, used: Used) -> list:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
    usage = {"prompt_tokens": used.input, "total_tokens": used.input}
    return [json.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage}).encode()]
