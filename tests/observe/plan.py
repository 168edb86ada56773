"""The calls of agree.py: what is asked, by whom, and by whom it is answered."""

import http.client
import json
import threading
import time

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/anthropic/v1/messages"
GEMINI, OLLAMA = "/gemini/v1beta/models", "/ollama/api/chat"
# one whose price is known, and that never answers: nothing is learned of it
BROKEN = "broken"
THINGS = ("password", "router", "phone", "printer", "thermostat", "alarm", "modem", "laptop")
TASKS = 100


class Plan:
    """`first` before all else, `calls` at once, `repeated` when those are over, `pairs` two at a time, `refused` last.
    A call: agent, path, body, headers."""

    def __init__(self) -> None:
        self.made = 0
        self.calls, self.repeated, self.pairs = [], [], []
        # who is never answered has no label of its own
        self.first = [self.one(agent, CHAT, "good morning") for agent in ("unlucky", "late", "gone")]
        for n in range(350):
            self.calls.append(self.one(f"agent-{n % 4}", CHAT, f"question {n}"))
        for n in range(200):
            self.calls.append(self.one(f"agent-{n % 4}", MESSAGES, f"word {n}"))
        for n in range(100):
            self.calls.append(self.one(f"agent-{n % 3}", "/v1/embeddings", f"text {n}"))
        for n in range(60):
            self.calls += [self.one(f"agent-{n % 2}", path, f"line {n}") for path in (RESPONSES, GEMINI, OLLAMA)]
        for n in range(TASKS):
            self.calls.append(self.one("later", CHAT, f"task {n}", prefer="respond-async"))
        for n in range(25):
            self.calls.append(self.one("unlucky", CHAT, f"fail {n}", BROKEN))
            self.calls.append(self.one("wrong", CHAT, f"refuse {n}"))
        for n in range(10):
            self.calls.append(self.one("late", "/slow" + CHAT, f"silence {n}", BROKEN))
            self.calls.append(self.one("late", "/slow" + MESSAGES, f"stall {n}"))
            self.calls.append(self.one("gone", MESSAGES, f"stall {n} for one who goes"))
        kept = [self.one("asker", CHAT, f"same {n}") for n in range(30)]
        asked = [self.one("helped", CHAT, f"How do I reset my {thing}?", "small", stream=False) for thing in THINGS]
        self.calls += kept + asked
        self.repeated += [call for call in kept for _ in range(4)]
        self.repeated += [self.one("helped", CHAT, f"How can I reset my {thing}?", "small", stream=False) for thing in THINGS]
        self.pairs = [self.one("asker", CHAT, f"slowly {n}") for n in range(10)]
        self.refused = [self.one("limited", CHAT, f"few {n}") for n in range(50)]

    def one(self, agent: str, path: str, text: str, model: str = "", stream: bool = None, **headers: str) -> tuple:
        self.made += 1
        model = model or ("large" if self.made % 3 == 0 else "small")
        stream = self.made % 2 == 0 if stream is None else stream
        if "stall" in text:
            stream = True
        said = [{"role": "user", "content": text}]
        if path == "/v1/embeddings":
            return agent, path, {"model": model, "input": text}, headers
        if path == RESPONSES:
            return agent, path, {"model": model, "stream": stream, "input": said}, headers
        if path == GEMINI:
            how = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return agent, f"{path}/{model}:{how}", {"contents": [{"role": "user", "parts": [{"text": text}]}]}, headers
        more = {"max_tokens": 1000} if path.endswith("/messages") else {}
        return agent, path, {"model": model, "stream": stream, "messages": said, **more}, headers

    def spared(self, seen) -> list:
        """Calls that the backend was not asked, each with the one whose answer it had. `seen`: how often the backend
        was asked what."""
        before = {asked(call): call for call in self.calls + self.pairs}
        twins = [(call, before.get(asked(call))) for call in self.repeated]
        twins = [(call, twin or before[asked(call).replace("How can", "How do")]) for call, twin in twins]
        none = [(call, twin) for call, twin in twins if call is twin or not seen[asked(call)]]
        return none + [(call, call) for call in self.pairs]


def asked(call: tuple) -> str:
    """What tells a call from others: the text that the backend sees."""
    return said(call[2])


def said(body: dict) -> str:
    return json.dumps(body.get("messages") or body.get("input") or body.get("contents"))


class Client:
    """A connection for each thread."""

    def __init__(self, port: int) -> None:
        self.port, self.own = port, threading.local()

    def ask(self, call: tuple) -> int:
        agent, path, body, more = call
        link = getattr(self.own, "link", None)
        if link is None:
            link = self.own.link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"content-type": "application/json", "x-agent-id": agent, "authorization": "Bearer k"} | more
        link.request("POST", path, json.dumps(body), headers)
        answer = link.getresponse()
        try:
            answer.read()
        except http.client.IncompleteRead:
            # one that a deadline has cut
            self.own.link = None
        return answer.status

    def leave(self, call: tuple) -> int:
        """The same, and goes when the first word came. It is not to be read on what was read for another."""
        agent, path, body, more = call
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"content-type": "application/json", "x-agent-id": agent, "authorization": "Bearer k"} | more
        link.request("POST", path, json.dumps(body), headers)
        answer = link.getresponse()
        while b"last word" not in answer.readline():
            pass
        # all that came has been counted by now
        time.sleep(0.1)
        link.close()
        answer.close()
        return answer.status

    def each(self, call: tuple) -> int:
        return self.leave(call) if call[0] == "gone" else self.ask(call)
