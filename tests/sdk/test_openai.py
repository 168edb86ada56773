"""The official `openai` package through the sidecar."""

import asyncio
import time

import openai
from harness import DIRECT, KEY, PROXY, Pair, plain, seen, simulate, wait_for

MODEL = "gpt-sim"
ASK = [{"role": "user", "content": "Say something about tides. Ünïcödé 潮 🌊"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "tide_table",
        "description": "High and low water of a day",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
    },
}


def client(base, **options):
    return openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, **options)


def chat(c, script="", **options):
    return c.chat.completions.create(model=MODEL, messages=ASK, **simulate(script), **options)


class OpenAI(Pair):
    @classmethod
    def setUpClass(cls):
        cls.direct, cls.proxied = client(DIRECT), client(PROXY)


class Answers(OpenAI):
    def test_chat(self):
        got = self.same(chat)
        self.assertTrue(got["choices"][0]["message"]["content"])
        self.assertGreater(got["usage"]["completion_tokens"], 0)

    def test_chat_under_the_vendors_prefix(self):
        prefixed = openai.OpenAI(base_url=f"{PROXY}/openai/v1", api_key=KEY)
        self.assertEqual(plain(chat(self.direct)), plain(chat(prefixed)))

    def test_chat_stream_with_usage(self):
        got = self.same(lambda c: list(chat(c, "tokens=40", stream=True, stream_options={"include_usage": True})))
        self.assertGreater(len(got), 40)
        self.assertEqual(got[-1]["usage"]["completion_tokens"], 40)

    def test_chat_stream_without_usage_is_not_given_one(self):
        got = self.same(lambda c: list(chat(c, stream=True)))
        self.assertFalse(any(chunk["usage"] for chunk in got))

    def test_stream_bytes(self):
        for script in ("tokens=200", "sse=crlf", "sse=cr", "sse=tight", "sse=comments", "fault=split=utf8", "fault=split=bytes"):
            with self.subTest(script):
                self.same(lambda c, script=script: raw_stream(c, script))

    def test_tools(self):
        got = self.same(lambda c: chat(c, "tool=1", tools=[TOOL]))
        (call,) = got["choices"][0]["message"]["tool_calls"]
        self.assertEqual(call["function"]["name"], "tide_table")

    def test_tools_stream(self):
        got = self.same(lambda c: list(chat(c, "tool=1", tools=[TOOL], stream=True)))
        self.assertTrue(any(choice["delta"]["tool_calls"] for chunk in got for choice in chunk["choices"]))

    def test_embeddings_as_the_sdk_asks_for_them(self):
        """The SDK asks for base64 unless told otherwise, and decodes it."""
        got = self.same(lambda c: c.embeddings.create(model=MODEL, input=["ebb", "flow", "潮"]))
        self.assertEqual(len(got["data"]), 3)
        self.assertIsInstance(got["data"][0]["embedding"][0], float)

    def test_embeddings_as_numbers(self):
        got = self.same(
            lambda c: c.embeddings.create(model=MODEL, input="ebb", dimensions=64, encoding_format="float")
        )
        self.assertEqual(len(got["data"][0]["embedding"]), 64)

    def test_responses(self):
        got = self.same(lambda c: c.responses.create(model=MODEL, input="hello", **simulate("tokens=12")))
        self.assertEqual(got["status"], "completed")
        self.assertEqual(got["usage"]["output_tokens"], 12)

    def test_responses_stream(self):
        got = self.same(lambda c: list(c.responses.create(model=MODEL, input="hello", stream=True)))
        self.assertEqual(got[0]["type"], "response.created")
        self.assertEqual(got[-1]["type"], "response.completed")
        self.assertEqual([e["sequence_number"] for e in got], list(range(got[0]["sequence_number"], got[0]["sequence_number"] + len(got))))

    def test_completions(self):
        got = self.same(lambda c: c.completions.create(model=MODEL, prompt="Once"))
        self.assertTrue(got["choices"][0]["text"])

    def test_models(self):
        self.assertTrue(self.same(lambda c: list(c.models.list())))

    def test_large_prompt(self):
        messages = [{"role": "user", "content": "潮 and tide. " * 80_000}]
        self.same(lambda c: c.chat.completions.create(model=MODEL, messages=messages))

    def test_request_arrives_as_it_was_sent(self):
        """The body byte for byte; of the headers only what belongs to the one connection differs."""
        body = '{"model":"m",  "x-unknown": [1e999, "\\ud800"],"model2":"潮"}\n'
        arrived = []
        for base in (f"{DIRECT}/simulate", f"{PROXY}/openai/simulate"):
            c = openai.OpenAI(base_url=base, api_key=KEY)
            options = {"headers": {"content-type": "application/json", "x-mine": "a, b"}}
            mirror = c.post("/mirror", cast_to=str, content=body.encode(), options=options)
            self.assertEqual(mirror, body)
            echo = c.post("/echo?q=%20a&b", cast_to=object, content=body.encode(), options=options)
            echo["headers"] = sorted(
                [name.lower(), value] for name, value in echo["headers"]
                if name.lower() not in ("host", "connection", "via", "traceparent", "tracestate")
                and not name.lower().startswith("x-tidegate-")
            )
            arrived.append({key: echo[key] for key in ("method", "target", "headers")})
        self.assertIn(["authorization", f"Bearer {KEY}"], arrived[1]["headers"])
        # compared without showing: a failure would print the key
        self.assertTrue(arrived[0] == arrived[1], differing(*arrived))


def differing(a, b):
    names = {name for name, _ in a["headers"] if [name, _] not in b["headers"]} | {name for name, _ in b["headers"] if [name, _] not in a["headers"]}
    return f"{a['method']} {a['target']} / {b['method']} {b['target']}, headers {sorted(names)}"


def raw_stream(c, script):
    with c.chat.completions.with_streaming_response.create(
        model=MODEL, messages=ASK, stream=True, **simulate(script)
    ) as answer:
        return b"".join(answer.iter_bytes()), answer.headers["content-type"]


class Failures(OpenAI):
    def test_statuses(self):
        kinds = {
            400: openai.BadRequestError,
            401: openai.AuthenticationError,
            402: openai.APIStatusError,
            403: openai.PermissionDeniedError,
            404: openai.NotFoundError,
            413: openai.APIStatusError,
            422: openai.UnprocessableEntityError,
        }
        for status, kind in kinds.items():
            with self.subTest(status):
                got = self.same_failure(kind, lambda c, status=status: chat(c, f"fault={status}"))
                self.assertEqual((got["status"], got["attempts"]), (status, 1))

    def test_rate_limit_is_retried_by_the_sdk_alone(self):
        got = self.same_failure(openai.RateLimitError, lambda c: chat(c, "fault=429; retry=ms; retry-after=0"))
        self.assertEqual(got["attempts"], 3)

    def test_server_errors_are_retried_by_the_sdk_alone(self):
        for status in (500, 503):
            with self.subTest(status):
                got = self.same_failure(
                    openai.InternalServerError,
                    lambda c, status=status: chat(c.with_options(max_retries=1), f"fault={status}; retry=none"),
                )
                self.assertEqual(got["attempts"], 2)

    def test_retry_after_is_obeyed(self):
        for name, c in (("direct", self.direct), ("proxied", self.proxied)):
            with self.subTest(name), self.attempts(2):
                begun = time.monotonic()
                answer = chat(c, f"fault=429; times=1; retry-after=1; id={name}-{begun}")
                self.assertGreaterEqual(time.monotonic() - begun, 1.0)
                self.assertTrue(answer.choices[0].message.content)

    def test_retry_hints_arrive(self):
        for form in ("seconds", "ms", "date", "x-ratelimit", "none"):
            with self.subTest(form):
                hints = []
                for c in (self.direct, self.proxied):
                    with self.assertRaises(openai.RateLimitError) as caught:
                        chat(c.with_options(max_retries=0), f"fault=429; retry={form}")
                    headers = caught.exception.response.headers
                    hints.append({
                        name: value for name, value in headers.items()
                        if ("ratelimit" in name or "retry" in name or name in ("x-request-id", "content-type"))
                        # a date is told anew each second
                        and not (form == "date" and name == "retry-after")
                    } | {"has": "retry-after" in headers})
                self.assertEqual(*hints)

    def test_a_stream_that_dies_raises(self):
        for fault in ("reset-mid=5", "close-mid=5"):
            with self.subTest(fault):
                for c in (self.direct, self.proxied):
                    got = []
                    with self.assertRaises((openai.APIError, Exception)) as caught:
                        for chunk in chat(c, f"fault={fault}; tokens=50; gap=5ms", stream=True):
                            got.append(chunk)
                    self.note(caught.exception)
                    self.assertNotIsInstance(caught.exception, AssertionError)
                    self.assertGreaterEqual(len(got), 5, "what came before the end is delivered")
                    self.assertLess(len(got), 40)

    def test_a_responses_stream_that_dies_raises(self):
        with self.assertRaises(Exception) as caught:
            for _ in self.proxied.responses.create(
                model=MODEL, input="hi", stream=True, **simulate("fault=reset-mid=5; gap=5ms")
            ):
                pass
        self.note(caught.exception)

    def test_an_answer_that_dies_raises(self):
        for fault in ("reset", "close", "reset-mid=1", "cl-long", "garbage"):
            with self.subTest(fault):
                for c in (self.direct, self.proxied):
                    with self.assertRaises(openai.APIError) as caught:
                        chat(c.with_options(max_retries=0), f"fault={fault}")
                    self.note(caught.exception)

    def test_an_error_event_in_the_stream_raises_the_same(self):
        self.same_failure(openai.APIError, lambda c: list(chat(c, "fault=error-event=3", stream=True)))

    def test_the_callers_timeout(self):
        cancelled = seen()["cancelled"]
        with self.assertRaises(openai.APITimeoutError) as caught:
            chat(self.proxied.with_options(timeout=0.4, max_retries=0), "ttft=30s")
        self.note(caught.exception)
        wait_for(lambda: seen()["cancelled"] > cancelled, 1, "the backend is told that the caller left")

    def test_leaving_a_stream_cancels_it(self):
        cancelled = seen()["cancelled"]
        stream = chat(self.proxied, "tokens=10000; gap=10ms", stream=True)
        for _ in range(5):
            next(stream)
        stream.close()
        wait_for(lambda: seen()["cancelled"] > cancelled, 1, "the backend is told that the caller left")

    def test_a_slow_stream_is_not_cut(self):
        got = self.same(lambda c: list(chat(c, "tokens=6; gap=600ms; ttft=600ms", stream=True)))
        self.assertGreaterEqual(len(got), 6)


class Concurrency(OpenAI):
    def test_fifty_streams_at_once(self):
        expected = [[plain(x) for x in ask(self.direct, n)] for n in range(5)]

        async def one(c, n):
            stream = await c.chat.completions.create(stream=True, **question(n))
            return n, [plain(chunk) async for chunk in stream]

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=f"{PROXY}/v1", api_key=KEY) as c:
                return await asyncio.gather(*(one(c, n) for n in range(50)))

        for n, got in asyncio.run(all_of_them()):
            self.assertEqual(got, expected[n % 5])


def question(n):
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"question {n % 5}"}],
        **simulate("tokens=50; gap=3ms; ttft=30ms"),
    }


def ask(c, n):
    return c.chat.completions.create(stream=True, **question(n))
