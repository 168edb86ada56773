"""What the tests with limits share: the agents' keys, clients that note each of their attempts, and
what the access log must say in the end (`run.py` looks there once all tests are through).
"""

import functools
import json
import os
import time
import unittest

import anthropic
import openai
from harness import Pair, simulate
from langchain_openai import ChatOpenAI

LIMITS = os.environ["TIDEGATE_TEST_LIMITS"]
ORIGIN = os.environ["TIDEGATE_TEST_ORIGIN"]
KEYS = json.loads(os.environ["TIDEGATE_TEST_KEYS"])
EXPECTED = os.path.join(os.environ["TIDEGATE_TEST_LOGS"], "sdk", "expected-calls.jsonl")
PROMPT = "Say something about tides."


class Attempts:
    """What an SDK sends and gets, attempt by attempt."""

    def __init__(self):
        self.all = []
        self.hooks = {"request": [self.begin], "response": [self.end]}

    def begin(self, _request):
        self.all.append({"begun": time.monotonic()})

    def end(self, response):
        self.all[-1] |= {"ended": time.monotonic(), "status": response.status_code, "headers": response.headers}
        if response.is_error:
            self.all[-1]["text"] = response.read().decode()

    @property
    def statuses(self):
        return [attempt["status"] for attempt in self.all]


class Face:
    """One SDK: how it is called, what it raises, and where it shows what."""

    sdk = openai
    retries = 2

    def __init__(self, kind, base=LIMITS, key=None, **options):
        self.agent = f"{kind}-{self.name}"
        self.attempts = Attempts()
        self.http = self.sdk.DefaultHttpxClient(event_hooks=self.attempts.hooks)
        options = {"max_retries": self.retries, **options}
        self.client = self.connect(base, key or KEYS[self.agent], http_client=self.http, **options)

    def expect(self, *calls, agent=True):
        """This agent's whole part of the access log: a status, or a status and an error, a call."""
        with open(EXPECTED, "a", encoding="utf-8") as file:
            calls = [list(call) if isinstance(call, tuple) else [call, None] for call in calls]
            file.write(json.dumps({"agent": self.agent if agent else None, "calls": calls}) + "\n")


class OpenAI(Face):
    name = "openai"
    requests_header = "x-ratelimit-remaining-requests"

    @staticmethod
    def connect(base, key, **options):
        return openai.OpenAI(base_url=f"{base}/v1", api_key=key, **options)

    def ask(self, prompt=PROMPT, script="", model="gpt-sim", most=None):
        most = {} if most is None else {"max_tokens": most}
        messages = [{"role": "user", "content": prompt}]
        return self.client.chat.completions.create(model=model, messages=messages, **most, **simulate(script))

    @staticmethod
    def fault(error):
        """Type, code and sentence of an error."""
        return error.body["type"], error.code, error.body["message"]

    @staticmethod
    def end(answer):
        return answer.choices[0].finish_reason, answer.usage.completion_tokens


class LangChain(OpenAI):
    name = "langchain"

    @staticmethod
    def connect(base, key, **options):
        return ChatOpenAI(model="gpt-sim", base_url=f"{base}/v1", api_key=key, **options)

    def ask(self, prompt=PROMPT, script="", model="gpt-sim", most=None):
        most = {} if most is None else {"max_tokens": most}
        return self.client.invoke(prompt, model=model, **most, **simulate(script))

    @staticmethod
    def end(answer):
        return answer.response_metadata["finish_reason"], answer.usage_metadata["output_tokens"]


class Anthropic(Face):
    sdk = anthropic
    name = "anthropic"
    requests_header = "anthropic-ratelimit-requests-remaining"

    @staticmethod
    def connect(base, key, **options):
        return anthropic.Anthropic(base_url=base, api_key=key, **options)

    def ask(self, prompt=PROMPT, script="", model="claude-sim", most=64):
        messages = [{"role": "user", "content": prompt}]
        return self.client.messages.create(model=model, max_tokens=most or 64, messages=messages, **simulate(script))

    @staticmethod
    def fault(error):
        # this dialect has no codes
        return error.body["error"]["type"], None, error.body["error"]["message"]

    @staticmethod
    def end(answer):
        return answer.stop_reason, answer.usage.output_tokens


def each(kind, *faces, **options):
    """Runs a test once for each SDK, as an agent of its own."""

    def of(test):
        @functools.wraps(test)
        def run(self):
            for face in faces or (OpenAI, Anthropic, LangChain):
                with self.subTest(face.name):
                    test(self, self.open(face(kind, **options)))

        return run

    return of


class Limited(unittest.TestCase):
    maxDiff = 4000

    def open(self, face):
        """A face whose connections end with the test."""
        self.addCleanup(face.http.close)
        return face

    def refused(self, call, status, kind):
        """The call fails as it should; gives the error. Every error of ours has an id."""
        with self.assertRaises(kind) as caught:
            call()
        error = caught.exception
        Pair.note(error)
        # LangChain raises the SDK's errors under names of its own
        self.assertIn(kind, type(error).__mro__[:2])
        self.assertEqual(error.status_code, status)
        self.assertEqual(error.response.headers["x-tidegate-source"], "policy")
        self.assertTrue(error.request_id.startswith("req_"))
        self.assertEqual(error.request_id, error.response.headers["x-tidegate-request-id"])
        return error
