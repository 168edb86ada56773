"""Limits as the official SDKs for Python live through them: what their own retries do with our
refusals, what they raise, and what they see of calls that pass."""

import datetime
import threading
import time

import anthropic
from harness import KEY, plain, simulate, wait_for
from limits import KEYS, LIMITS, ORIGIN, PROMPT, Anthropic, LangChain, Limited, OpenAI, each

LONG = [{"role": "user", "content": PROMPT * 40}]
NOT_OURS = "tgk_" + "A" * 43


class Retries(Limited):
    @each("quick")
    def test_a_limit_that_heals_soon_is_waited_for(self, face):
        """The SDK comes back when it was told to: not when its own backoff would, within half a
        second, and not after the whole second of retry-after."""
        face.expect(200, (429, "rate_limit_exceeded"), 200)
        face.ask()
        self.assertTrue(face.ask())
        self.assertEqual(face.attempts.statuses, [200, 429, 200])
        _, refused, again = face.attempts.all
        told = int(refused["headers"]["retry-after-ms"])
        self.assertEqual(refused["headers"]["retry-after"], "1")
        self.assertNotIn("x-should-retry", refused["headers"])
        self.assertEqual(refused["headers"][face.requests_header], "0")
        self.assertTrue(0 < told <= 667, told)
        waited = again["begun"] - refused["ended"]
        self.assertGreaterEqual(waited, told / 1000)
        self.assertLess(waited, 1)

    @each("slow")
    def test_a_limit_that_heals_late_is_not_waited_for(self, face):
        face.expect(200, (429, "rate_limit_exceeded"))
        face.ask()
        error = self.refused(face.ask, 429, face.sdk.RateLimitError)
        self.assertEqual(face.attempts.statuses, [200, 429])
        self.assertEqual(error.response.headers["x-should-retry"], "false")
        self.assertEqual(error.response.headers["retry-after"], "60")
        kind, code, message = face.fault(error)
        self.assertIn(code, ("rate_limit_exceeded", None))
        self.assertIn(kind, ("requests", "rate_limit_error", "rate_limit_exceeded"))
        named = f'The limit `slow/requests` of agent "{face.agent}" is reached (requests); it has room again in 6 min.'
        self.assertEqual(message, named)
        self.assertIn(named, str(error))

    @each("budget")
    def test_a_spent_budget_is_final(self, face):
        face.expect(200, (402, "insufficient_quota"))
        face.ask(script="tokens=900", most=900)
        error = self.refused(face.ask, 402, face.sdk.APIStatusError)
        self.assertEqual(face.attempts.statuses, [200, 402])
        self.assertEqual(error.response.headers["x-should-retry"], "false")
        self.assertNotIn("retry-after", error.response.headers)
        kind, code, message = face.fault(error)
        if face.sdk is anthropic:
            self.assertEqual(kind, "billing_error")
        else:
            self.assertEqual((kind, code), ("insufficient_quota", "insufficient_quota"))
        self.assertRegex(message, f'^The budget `budget/spend` of agent "{face.agent}" is spent; it begins anew in .+\\.$')

    @each("unpriced")
    def test_an_unknown_price_under_a_hard_budget_is_forbidden(self, face):
        face.expect((403, "model_unpriced"))
        error = self.refused(lambda: face.ask(model="nobody-knows"), 403, face.sdk.PermissionDeniedError)
        self.assertEqual(face.attempts.statuses, [403])
        self.assertIn("price of this model is not known", str(error))

    @each("small")
    def test_what_never_fits_is_a_bad_request(self, face):
        face.expect((400, "request_exceeds_limit"), 200)
        error = self.refused(lambda: face.ask(PROMPT * 200), 400, face.sdk.BadRequestError)
        self.assertEqual(face.attempts.statuses, [400])
        _, code, message = face.fault(error)
        self.assertIn(code, ("request_exceeds_limit", None))
        self.assertEqual(
            message,
            "The request needs more input tokens than the limit `small/input_tokens` "
            f'of agent "{face.agent}" allows at once.',
        )
        # and the limit is as full as before
        self.assertTrue(face.ask("hi"))

    @each("line")
    def test_the_end_of_the_wait_in_line_is_retried(self, face):
        face.expect(200, (408, "queue_timeout"), 200)
        holder = self.open(type(face)("line"))
        holding = threading.Thread(target=holder.ask, kwargs={"script": "ttft=1200ms"})
        holding.start()
        wait_for(lambda: holder.attempts.all, 5, "the holder has called")
        time.sleep(0.15)
        self.assertTrue(face.ask())
        holding.join()
        self.assertEqual(holder.attempts.statuses, [200])
        self.assertEqual(face.attempts.statuses, [408, 200])
        timeout, again = face.attempts.all
        stood = timeout["ended"] - timeout["begun"]
        self.assertTrue(0.3 <= stood < 0.9, stood)
        self.assertIn("The limit `line/concurrency` of agent", timeout["text"])
        self.assertIn(" within 0.3 s ", timeout["text"])
        told = int(timeout["headers"]["retry-after-ms"])
        self.assertGreaterEqual(again["begun"] - timeout["ended"], told / 1000)


class Keys(Limited):
    @each("counted-key", OpenAI, Anthropic)
    def test_only_the_backend_sees_the_backends_key(self, face):
        """The agent's key goes no further than the sidecar, which has the backend's own."""
        face.expect(200, 200)
        self.assertTrue(face.ask())
        vendor = "anthropic" if face.sdk is anthropic else "openai"
        base = f"{LIMITS}/{vendor}/simulate"
        c = face.client.with_options(base_url=base)
        echo = c.post("/echo", cast_to=object, body={})
        headers = {name.lower(): value for name, value in echo["headers"]}
        # compared without showing: a failure would print the key
        name, prefix = ("x-api-key", "") if vendor == "anthropic" else ("authorization", "Bearer ")
        self.assertTrue(headers.get(name) == prefix + KEY, f"{name} is not the backend's key")
        self.assertFalse(KEYS[face.agent] in str(echo), "the agent's key was passed on")
        self.assertEqual(sorted({"authorization", "x-api-key"} & headers.keys()), [name])

    @each("wrong", key=NOT_OURS)
    def test_a_key_of_the_right_form_that_nobody_made(self, face):
        self.not_let_in(face, NOT_OURS, "invalid_api_key", "The tidegate key of this request is not valid.")

    @each("wrong", key="sk-of-a-vendor")
    def test_a_vendors_key(self, face):
        self.not_let_in(face, "sk-of-a-vendor", "no_key", "This sidecar asks for a key of its own")

    def not_let_in(self, face, key, code, said):
        face.expect((401, code), agent=False)
        error = self.refused(face.ask, 401, face.sdk.AuthenticationError)
        self.assertEqual(face.attempts.statuses, [401])
        kind, named, message = face.fault(error)
        if face.sdk is anthropic:
            self.assertEqual(kind, "authentication_error")
        else:
            self.assertEqual(named, code)
        self.assertTrue(message.startswith(said), message)
        self.assertNotIn(key, str(error))

    @each("narrow")
    def test_a_model_that_the_key_does_not_allow(self, face):
        face.expect((403, "not_allowed"))
        error = self.refused(face.ask, 403, face.sdk.PermissionDeniedError)
        self.assertEqual(face.attempts.statuses, [403])
        self.assertIn("The tidegate key of this request does not allow its model.", str(error))


class Answers(Limited):
    @each("bound")
    def test_a_clamp_is_seen_as_length(self, face):
        """A hundred tokens are left, five hundred would come. Anthropic's calls always say a bound."""
        face.expect(200)
        most = 5000 if face.sdk is anthropic else None
        reason = "max_tokens" if face.sdk is anthropic else "length"
        self.assertEqual(face.end(face.ask(script="tokens=500", most=most)), (reason, 100))

    @each("bound-more", OpenAI, LangChain)
    def test_a_bound_that_is_too_large_is_lowered(self, face):
        face.expect(200)
        self.assertEqual(face.end(face.ask(script="tokens=500", most=5000)), ("length", 100))

    def test_what_is_left_is_told_in_openais_headers(self):
        face = self.open(OpenAI("counted-headers"))
        face.expect(200, 200)
        create = face.client.chat.completions.with_raw_response.create
        left = []
        for _ in range(2):
            raw = create(model="gpt-sim", messages=LONG, **simulate("tokens=500"))
            usage = raw.parse().usage
            headers = raw.headers
            self.assertEqual(headers["x-tidegate-source"], "upstream")
            self.assertEqual(headers["x-ratelimit-limit-requests"], "600")
            self.assertEqual(headers["x-ratelimit-limit-tokens"], "40000")
            left.append([int(headers[f"x-ratelimit-remaining-{what}"]) for what in ("requests", "tokens")])
            for what in ("requests", "tokens"):
                # as Go writes a duration
                self.assertRegex(headers[f"x-ratelimit-reset-{what}"], r"^((\d+m)?[\d.]+s|\d+ms)$")
            self.assertIn('"counted/requests";q=600;w=3600', headers["ratelimit-policy"])
            self.assertIn(f'"counted/requests";r={left[-1][0]};t=', headers["ratelimit"])
        self.less_is_left(left, {"requests": 600, "tokens": 40_000}, {"requests": 1, "tokens": usage.total_tokens})

    def test_what_is_left_is_told_in_anthropics_headers(self):
        face = self.open(Anthropic("counted-headers"))
        face.expect(200, 200)
        create = face.client.messages.with_raw_response.create
        all_of = {"requests": 600, "tokens": 40_000, "input-tokens": 20_000, "output-tokens": 30_000}
        left = []
        for _ in range(2):
            raw = create(model="claude-sim", max_tokens=600, messages=LONG, **simulate("tokens=500"))
            usage = raw.parse().usage
            left.append([])
            for what, most in all_of.items():
                header = f"anthropic-ratelimit-{what}"
                self.assertEqual(raw.headers[f"{header}-limit"], str(most))
                left[-1].append(int(raw.headers[f"{header}-remaining"]))
                reset = datetime.datetime.fromisoformat(raw.headers[f"{header}-reset"])
                away = (reset - datetime.datetime.now(datetime.UTC)).total_seconds()
                self.assertTrue(-1 < away < 3600, away)
            self.assertNotIn("x-ratelimit-limit-requests", raw.headers)
        used = {"requests": 1, "input-tokens": usage.input_tokens, "output-tokens": usage.output_tokens}
        self.less_is_left(left, all_of, used | {"tokens": usage.input_tokens + usage.output_tokens})

    def less_is_left(self, left, most, used):
        """When the second call goes, what the first has used is gone, but for a little refill; more is
        held for what is to come."""
        for (what, limit), first, second in zip(most.items(), *left, strict=True):
            with self.subTest(what):
                self.assertGreater(used[what], 0)
                self.assertTrue(0 < first < limit, first)
                self.assertTrue(0 < second <= limit - used[what] * 0.9, second)
        self.assertEqual([first[0] for first in left], [599, 598])


class Streams(Limited):
    """Limits count tokens, so usage is asked for where the client does not, and hidden again."""

    def streams(self, face, **options):
        """Chunks by the iterator, of a direct call and through the sidecar, and what each backend
        saw of stream_options."""
        seen = []
        for base, key in ((ORIGIN, "any"), (f"{LIMITS}/origin", KEYS[face.agent])):
            c = face.connect(base, key)
            self.addCleanup(c.close)
            create = c.chat.completions.with_raw_response.create
            raw = create(model="gpt-sim", messages=[{"role": "user", "content": PROMPT}], stream=True, **options)
            seen.append(([plain(chunk) for chunk in raw.parse()], raw.headers["x-saw-stream-options"]))
        return seen

    def test_usage_that_only_we_asked_for_is_not_seen(self):
        face = self.open(OpenAI("counted-stream"))
        face.expect(200, 200, 200)
        for options in ({}, {"stream_options": {"include_usage": False}}):
            with self.subTest(options=options):
                (direct, asked), (proxied, asked_by_us) = self.streams(face, **options)
                self.assertNotIn("true", asked)
                self.assertEqual(asked_by_us, '{"include_usage": true}')
                self.assertEqual(proxied, direct)
                self.assertEqual(len(proxied), 11)
        raw = self.bytes_of(face)
        self.assertNotIn(b'"prompt_tokens"', raw)
        self.assertTrue(raw.endswith(b"data: [DONE]\n\n"))

    def bytes_of(self, face):
        c = face.connect(f"{LIMITS}/origin", KEYS[face.agent])
        self.addCleanup(c.close)
        messages = [{"role": "user", "content": PROMPT}]
        with c.chat.completions.with_streaming_response.create(model="gpt-sim", messages=messages, stream=True) as raw:
            return b"".join(raw.iter_bytes())

    def test_usage_that_the_client_asked_for_is_seen(self):
        face = self.open(OpenAI("counted-usage"))
        face.expect(200)
        (direct, _), (proxied, _) = self.streams(face, stream_options={"include_usage": True})
        self.assertEqual(proxied, direct)
        self.assertEqual((proxied[-1]["choices"], proxied[-1]["usage"]["total_tokens"]), ([], 20))

    def test_langchain(self):
        face = LangChain("counted-stream")
        face.expect(200, 200)
        for with_usage in (False, True):
            with self.subTest(with_usage=with_usage):
                direct, proxied = (
                    list(face.connect(base, key, stream_usage=with_usage).stream(PROMPT))
                    for base, key in ((ORIGIN, "any"), (f"{LIMITS}/origin", KEYS[face.agent]))
                )
                shown = [[(c.content, c.response_metadata, c.usage_metadata) for c in x] for x in (direct, proxied)]
                self.assertEqual(shown[1], shown[0])
                used = [c.usage_metadata["total_tokens"] for c in proxied if c.usage_metadata]
                self.assertEqual(used, [20] if with_usage else [])
                self.assertEqual("".join(c.content for c in proxied), "Ebb and flow, 潮 🌊 twice a day.")

    def test_anthropic(self):
        face = self.open(Anthropic("counted-stream"))
        face.expect(200)
        got = list(
            face.client.messages.create(
                model="claude-sim", max_tokens=64, messages=[{"role": "user", "content": PROMPT}],
                stream=True, **simulate("tokens=20"),
            )
        )
        self.assertEqual((got[0].type, got[-1].type), ("message_start", "message_stop"))
        self.assertEqual(sum(event.type == "content_block_delta" for event in got), 20)
