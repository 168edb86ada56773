"""What the tests of the cache share: calls whose heads are looked at as well, the count of calls at
the backend, and what the access log must say in the end (`run.py` looks there once all tests are
through).

Each test is an agent of its own. What its calls saved is taken from what the SDK shows as used.
"""

import collections
import contextlib
import json
import os
import re
import unittest
import urllib.request

import anthropic
import openai
from harness import DIRECT, KEY, plain

PROXY = os.environ["TIDEGATE_TEST_CACHE"]
BACKEND = os.environ["TIDEGATE_TEST_CACHE_BACKEND"]
ORIGIN = os.environ["TIDEGATE_TEST_ORIGIN"]
LOGS = os.path.join(os.environ["TIDEGATE_TEST_LOGS"], "sdk")
EXPECTED = os.path.join(LOGS, "expected-cache.jsonl")
# a byte for each look at the backend's counters, which are requests too
LOOKS = os.path.join(LOGS, "cache-looks")


def calls_at_backend():
    """How many calls have reached the backends of the cache so far."""
    with open(LOOKS, "a+b") as file:
        file.write(b".")
        file.flush()
        looks = file.tell()
    with urllib.request.urlopen(f"{BACKEND}/simulate/seen", timeout=5) as answer:
        simulated = json.load(answer)["requests"] - looks
    with urllib.request.urlopen(f"{ORIGIN}/seen", timeout=5) as answer:
        return simulated + json.load(answer)["chats"]


def word(headers):
    """What the head says that the cache made of a call, as the access log calls it."""
    status = headers.get("cache-status", "")
    if "; hit" in status:
        detail = re.search("detail=([a-z]+)", status)[1]
        return {"memory": "hit", "disk": "hit"}.get(detail, detail)
    if "; collapsed" in status:
        return "joined"
    return {"fwd=miss": "miss", "fwd=partial": "partial"}.get(status.removeprefix("tidegate; "), status)


def tokens(data):
    """Tokens of an answer, or of a stream of events, as its client is told; none is nothing."""
    found = [used for event in (data if isinstance(data, list) else [data]) if (used := usage(event))]
    if not found:
        return 0
    last = found[-1]
    if "total_tokens" in last:
        return last["total_tokens"]
    cached = (last.get("cache_creation_input_tokens") or 0) + (last.get("cache_read_input_tokens") or 0)
    return last["input_tokens"] + cached + last["output_tokens"]


def usage(event):
    return event.get("usage") or (event.get("response") or {}).get("usage")


class Got:
    """An answer as plain data, with its head."""

    def __init__(self, data, headers):
        self.data, self.headers, self.word = plain(data), headers, word(headers)


class Cached(unittest.TestCase):
    maxDiff = 4000
    kind = "plain"

    def setUp(self):
        self.agent = f"{self.kind}-{type(self).__name__}-{self._testMethodName}"[:60]
        self.words, self.saved = collections.Counter(), 0
        self.options = {"default_headers": {"x-agent-id": self.agent}, "max_retries": 0}
        self.openai = openai.OpenAI(base_url=f"{PROXY}/v1", api_key=KEY, **self.options)
        self.anthropic = anthropic.Anthropic(base_url=PROXY, api_key=KEY, **self.options)
        # another simulator, whose answers are the same, and whose calls are not counted
        self.direct = openai.OpenAI(base_url=f"{DIRECT}/v1", api_key=KEY, **self.options)
        for client in (self.openai, self.anthropic, self.direct):
            self.addCleanup(client.close)

    def tearDown(self):
        row = {"agent": self.agent, "words": self.words, "saved": self.saved}
        with open(EXPECTED, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @contextlib.contextmanager
    def upstream(self, expected):
        """So many calls reach the backend."""
        before = calls_at_backend()
        yield
        self.assertEqual(calls_at_backend() - before, expected, "calls that reached the backend")

    def note(self, word, saved=0):
        """For the access log."""
        self.words[word] += 1
        self.saved += saved

    def ask(self, resource, word, **options):
        """One call, which the cache makes `word` of."""
        raw = resource.with_raw_response.create(**options)
        answer = raw.parse()
        got = Got(list(answer) if options.get("stream") else answer, raw.headers)
        # an SDK has read a stream before its connection has told the end: who asks at once joins it still
        allowed = (word, "joined") if word == "hit" else (word,)
        self.assertIn(got.word, allowed, got.headers.get("cache-status"))
        self.is_told(got.headers, got.word)
        self.note(got.word, tokens(got.data) if got.word not in ("miss", "partial") else 0)
        return got

    def is_told(self, headers, word):
        """The head says where an answer is from, and how old it is."""
        kept = word in ("hit", "canonical", "semantic")
        self.assertEqual(headers.get("x-tidegate-source"), "cache" if kept else "upstream")
        self.assertEqual("age" in headers, kept)
        self.assertRegex(headers["x-tidegate-request-id"], "^req_")

    def twice(self, resource, **options):
        """The same call twice: one of them reaches the backend, and the SDK sees no difference."""
        with self.upstream(1):
            first = self.ask(resource, "miss", **options)
            second = self.ask(resource, "hit", **options)
        self.assertEqual(first.data, second.data)
        self.assertTrue(first.data)
        self.assertEqual(first.headers["content-type"], second.headers["content-type"])
        return first.data
