"""The official `anthropic` package through the sidecar."""

import asyncio
import time

import anthropic
from harness import DIRECT, KEY, PROXY, Pair, plain, seen, simulate, wait_for

MODEL = "claude-sim"
ASK = [{"role": "user", "content": "Say something about tides. Ünïcödé 潮 🌊"}]
TOOL = {
    "name": "tide_table",
    "description": "High and low water of a day",
    "input_schema": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
}


def message(c, script="", **options):
    return c.messages.create(
        model=MODEL, max_tokens=options.pop("max_tokens", 64), messages=ASK, **simulate(script), **options
    )


class Anthropic(Pair):
    @classmethod
    def setUpClass(cls):
        cls.direct, cls.proxied = (anthropic.Anthropic(base_url=base, api_key=KEY) for base in (DIRECT, PROXY))


class Answers(Anthropic):
    def test_message(self):
        got = self.same(message)
        self.assertTrue(got["content"][0]["text"])
        self.assertGreater(got["usage"]["output_tokens"], 0)

    def test_message_under_the_vendors_prefix(self):
        prefixed = anthropic.Anthropic(base_url=f"{PROXY}/anthropic", api_key=KEY)
        self.assertEqual(plain(message(self.direct)), plain(message(prefixed)))

    def test_stream(self):
        got = self.same(lambda c: list(message(c, "tokens=40", stream=True)))
        self.assertEqual((got[0]["type"], got[-1]["type"]), ("message_start", "message_stop"))

    def test_stream_helper(self):
        def final(c):
            with c.messages.stream(model=MODEL, max_tokens=64, messages=ASK) as stream:
                return ["".join(stream.text_stream), stream.get_final_message().model_dump(mode="json")]

        self.assertTrue(self.same(final)[0])

    def test_stream_bytes(self):
        def raw(c, script):
            with c.messages.with_streaming_response.create(
                model=MODEL, max_tokens=300, messages=ASK, stream=True, **simulate(script)
            ) as answer:
                return b"".join(answer.iter_bytes())

        for script in ("tokens=200", "sse=crlf", "fault=split=utf8", "reasoning=20"):
            with self.subTest(script):
                self.same(lambda c, script=script: raw(c, script))

    def test_tools(self):
        got = self.same(lambda c: message(c, "tool=1", tools=[TOOL]))
        self.assertEqual(got["stop_reason"], "tool_use")
        self.assertEqual(got["content"][-1]["name"], "tide_table")

    def test_tools_stream(self):
        got = self.same(lambda c: list(message(c, "tool=1", tools=[TOOL], stream=True)))
        self.assertTrue(any(e["type"] == "content_block_delta" and e["delta"]["type"] == "input_json_delta" for e in got))

    def test_count_tokens(self):
        got = self.same(lambda c: c.messages.count_tokens(model=MODEL, messages=ASK))
        self.assertGreater(got["input_tokens"], 0)

    def test_models(self):
        self.assertTrue(self.same(lambda c: list(c.models.list())))


class Failures(Anthropic):
    def test_statuses(self):
        kinds = {
            400: anthropic.BadRequestError,
            401: anthropic.AuthenticationError,
            403: anthropic.PermissionDeniedError,
            404: anthropic.NotFoundError,
            413: anthropic.APIStatusError,
        }
        for status, kind in kinds.items():
            with self.subTest(status):
                got = self.same_failure(kind, lambda c, status=status: message(c, f"fault={status}"))
                self.assertEqual((got["status"], got["attempts"]), (status, 1))

    def test_overload_is_retried_by_the_sdk_alone(self):
        got = self.same_failure(
            anthropic.APIStatusError, lambda c: message(c.with_options(max_retries=1), "fault=529; retry=none")
        )
        self.assertEqual((got["status"], got["attempts"]), (529, 2))

    def test_retry_after_is_obeyed(self):
        for name, c in (("direct", self.direct), ("proxied", self.proxied)):
            with self.subTest(name), self.attempts(2):
                begun = time.monotonic()
                message(c, f"fault=429; times=1; retry-after=1; id={name}-{begun}")
                self.assertGreaterEqual(time.monotonic() - begun, 1.0)

    def test_rate_limit_headers_arrive(self):
        hints = []
        for c in (self.direct, self.proxied):
            with self.assertRaises(anthropic.RateLimitError) as caught:
                message(c.with_options(max_retries=0), "fault=429; retry=anthropic")
            names = sorted(name for name in caught.exception.response.headers if "ratelimit" in name)
            self.assertTrue(names)
            hints.append([names, caught.exception.response.headers.get("request-id")])
        self.assertEqual(*hints)

    def test_a_stream_that_dies_raises(self):
        for fault in ("reset-mid=5", "close-mid=5"):
            with self.subTest(fault):
                for c in (self.direct, self.proxied):
                    got = []
                    with self.assertRaises(Exception) as caught:
                        for event in message(c, f"fault={fault}; tokens=50; gap=5ms", stream=True):
                            got.append(event)
                    self.note(caught.exception)
                    self.assertNotIsInstance(caught.exception, AssertionError)
                    self.assertGreaterEqual(len(got), 5)
                    self.assertNotIn("message_stop", [event.type for event in got])

    def test_an_error_event_in_the_stream_raises_the_same(self):
        self.same_failure(anthropic.APIStatusError, lambda c: list(message(c, "fault=error-event=3", stream=True)))

    def test_leaving_a_stream_cancels_it(self):
        cancelled = seen()["cancelled"]
        stream = message(self.proxied, "tokens=10000; gap=10ms", stream=True, max_tokens=10000)
        for _ in range(5):
            next(iter(stream))
        stream.close()
        wait_for(lambda: seen()["cancelled"] > cancelled, 1, "the backend is told that the caller left")


class Concurrency(Anthropic):
    def test_fifty_streams_at_once(self):
        script = simulate("tokens=50; gap=3ms; ttft=30ms")
        expected = plain(list(self.direct.messages.create(model=MODEL, max_tokens=64, messages=ASK, stream=True, **script)))

        async def one(c):
            stream = await c.messages.create(model=MODEL, max_tokens=64, messages=ASK, stream=True, **script)
            return [plain(event) async for event in stream]

        async def all_of_them():
            async with anthropic.AsyncAnthropic(base_url=PROXY, api_key=KEY) as c:
                return await asyncio.gather(*(one(c) for _ in range(50)))

        for got in asyncio.run(all_of_them()):
            self.assertEqual(got, expected)
