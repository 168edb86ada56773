"""A backend that keeps its own books: what each answer says was used follows from the number of the
call, and is written down here, so that everybody who counts can be held to it."""

import collections
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CLASSES = ("input", "output", "cached_input", "cache_write", "reasoning")
Used = collections.namedtuple("Used", CLASSES)


def used_by(text: str, dialect: str) -> Used:
    """Input includes cached input and cache writes, output includes reasoning."""
    draw = hashlib.sha256(text.encode()).digest()
    cached, reasoning = (draw[0], draw[1]) if dialect not in ("embeddings", "ollama") else (0, 0)
    written = draw[2] if dialect == "messages" else 0
    if dialect == "messages":
        reasoning = 0  # has no class of its own there
    output = 0 if dialect == "embeddings" else 1 + draw[3] + reasoning
    return Used(1 + 7 * draw[4] + cached + written, output, cached, written, reasoning)


def cost(used: Used, price: dict) -> int:
    """`price`: billionths of a dollar for a token, by class."""
    plain_in = used.input - used.cached_input - used.cache_write
    paid = plain_in * price["input"] + used.cached_input * price["cached_input"]
    return paid + used.cache_write * price["cache_write"] + used.output * price["output"]


class Ledger:
    """Counts by agent, as the backend sees them."""

    def __init__(self, prices: dict) -> None:
        self.prices, self.lock = prices, threading.Lock()
        # how often it was asked what
        self.seen = collections.Counter()
        # calls that it did not tell all of
        self.untold = collections.Counter()
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

    def book(self, agent: str, model: str, used: Used, unsaid: int = 0) -> None:
        """`unsaid`: tokens of output that are to be charged beyond those that it tells of."""
        with self.lock:
            self.calls[agent] += 1
            self.nano[agent] += cost(used, self.prices[model]) + unsaid * self.prices[model]["output"]
            for name, count in zip(CLASSES, used):
                self.tokens[agent][name] += count

    def fails(self, agent: str, model: str, text: str) -> None:
        """It tells of no tokens, and may have read the prompt: a token for each four bytes of it is charged, so
        long as the model has never told of any."""
        with self.lock:
            self.untold[agent] += 1
            self.nano[agent] += -(-len(text) // 4) * self.prices[model]["input"]

    def answer(self, to: BaseHTTPRequestHandler, body: dict) -> None:
        agent = to.headers.get("x-agent-id", "")
        text = said(body)
        with self.lock:
            self.seen[text] += 1
        if "refuse" in text:
            return send(to, 400, "application/json", [b'{"error":{"message":"it is wrong","type":"invalid_request_error"}}'])
        if "fail" in text or "silence" in text:
            self.fails(agent, body["model"], text)
        if "fail" in text:
            return send(to, 500, "application/json", [b'{"error":{"message":"it is broken","type":"server_error"}}'])
        if "silence" in text:
            return until_left(to)
        path = to.path.split("?")[0]
        form, stream, model = FORMS[path.rsplit("/", 1)[-1].split(":")[-1]], body.get("stream", False), body.get("model")
        if form is gemini:
            model, _, how = path.rsplit("/", 1)[-1].partition(":")
            stream = how.startswith("stream")
        used = used_by(text, form.__name__)
        if "stall" in text:
            return self.stall(to, agent, body, used)
        if "slowly" in text:
            time.sleep(0.3)
        self.book(agent, model, used)
        kind = "application/json"
        if stream:
            kind = "application/x-ndjson" if form is ollama else "text/event-stream"
        return send(to, 200, kind, form(body | {"model": model, "stream": stream}, used))

    def stall(self, to: BaseHTTPRequestHandler, agent: str, body: dict, used: Used) -> None:
        """Words without an end: it has told what it read and that it wrote one token, and each word is one more."""
        words = 3 + used.output % 20
        begin, open_block, _, *_ = messages(body, used)
        word = event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "well"}}, "content_block_delta")
        self.book(agent, body["model"], used._replace(output=1), words)
        with self.lock:
            self.untold[agent] += 1
        send(to, 200, "text/event-stream", [begin, open_block, *[word] * words, b": last word\n\n"], endless=True)
        until_left(to)


def said(body: dict) -> str:
    return json.dumps(body.get("messages") or body.get("input") or body.get("contents"))


def until_left(to: BaseHTTPRequestHandler) -> None:
    """Nothing more, until the other side has enough."""
    to.close_connection = True
    to.connection.settimeout(20)
    try:
        to.connection.recv(1)
    except OSError:
        pass


def send(to: BaseHTTPRequestHandler, status: int, kind: str, parts: list, endless: bool = False) -> None:
    to.send_response(status)
    to.send_header("content-type", kind)
    if endless:
        to.send_header("connection", "close")
    else:
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


def responses(body: dict, used: Used) -> list:
    usage = {
        "input_tokens": used.input, "input_tokens_details": {"cached_tokens": used.cached_input},
        "output_tokens": used.output, "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.input + used.output,
    }  # fmt: skip
    head = {"id": "r", "object": "response", "created_at": 1, "model": body["model"]}
    said = {"id": "m", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]}
    done = head | {"status": "completed", "output": [said], "usage": usage}
    if not body["stream"]:
        return [json.dumps(done).encode()]
    delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "well"}
    return [
        event({"type": "response.created", "response": head | {"status": "in_progress", "output": [], "usage": None}}, "response.created"),
        event(delta, "response.output_text.delta"),
        event({"type": "response.completed", "response": done}, "response.completed"),
    ]


def gemini(body: dict, used: Used) -> list:
    """Thoughts stand beside the candidates there, not among them."""
    usage = {
        "promptTokenCount": used.input, "cachedContentTokenCount": used.cached_input, "thoughtsTokenCount": used.reasoning,
        "candidatesTokenCount": used.output - used.reasoning, "totalTokenCount": used.input + used.output,
    }  # fmt: skip
    part = {"content": {"parts": [{"text": "well"}], "role": "model"}, "index": 0}
    last = {"candidates": [part | {"finishReason": "STOP"}], "usageMetadata": usage, "modelVersion": body["model"]}
    if not body["stream"]:
        return [json.dumps(last).encode()]
    return [event({"candidates": [part], "modelVersion": body["model"]}), event(last)]


def ollama(body: dict, used: Used) -> list:
    def line(text: str, **more) -> bytes:
        return json.dumps({"model": body["model"], "message": {"role": "assistant", "content": text}, "done": False} | more).encode() + b"\n"

    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": used.input, "eval_count": used.output}
    return [line("well"), line("", **counts)] if body["stream"] else [line("well", **counts)]


# by the last word of a path
FORMS = {
    "completions": chat, "messages": messages, "embeddings": embeddings, "responses": responses, "chat": ollama,
    "generateContent": gemini, "streamGenerateContent": gemini,
}  # fmt: skip
