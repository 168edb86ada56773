"""The official `openai` package and the cache: what is given a second time is what came first."""

import time

import openai
import origin
from cached import PROXY, Cached, Got, tokens, word
from harness import plain, simulate
from openai.types.chat import ChatCompletion

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
FLAT_TOOL = {"type": "function", **TOOL["function"]}
USAGE = {"stream_options": {"include_usage": True}}
SHAPES = {
    "text": simulate("tokens=12"),
    "reasoning": simulate("tokens=6; reasoning=5"),
    "tool": {"tools": [TOOL], **simulate("tool=1")},
    "tool after reasoning": {"tools": [TOOL], **simulate("tool=1; reasoning=4")},
    "nothing but a cut": {"max_tokens": 3},
}


def chat(**options):
    return {"model": MODEL, "messages": ASK, **options}


def distinct(number, **options):
    return {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}], **options}


class Twice(Cached):
    def test_chat(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            with self.subTest(name):
                got = self.twice(self.openai.chat.completions, **distinct(number, **shape))
                self.assertGreater(got["usage"]["completion_tokens"], 0)

    def test_chat_stream(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            with self.subTest(name):
                got = self.twice(self.openai.chat.completions, **distinct(number, stream=True, **shape))
                self.assertFalse(any(chunk["usage"] for chunk in got))

    def test_chat_stream_with_usage(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            with self.subTest(name):
                call = distinct(number, stream=True, **USAGE, **shape)
                got = self.twice(self.openai.chat.completions, **call)
                self.assertGreater(got[-1]["usage"]["completion_tokens"], 0)

    def test_other_spellings_of_a_stream(self):
        for number, script in enumerate(("sse=crlf", "sse=cr", "sse=tight", "sse=comments", "fault=split=utf8")):
            with self.subTest(script):
                call = distinct(number, stream=True, **simulate(script))
                got = self.twice(self.openai.chat.completions, **call)
                self.assertEqual(got, plain(list(self.direct.chat.completions.create(**call))))

    def test_responses(self):
        for number, script in enumerate(("tokens=9", "tokens=4; reasoning=3", "tool=1", "tool=1; reasoning=2")):
            for stream in (False, True):
                with self.subTest(script=script, stream=stream):
                    call = {"model": MODEL, "input": f"{number} {stream}", "tools": [FLAT_TOOL], "stream": stream}
                    got = self.twice(self.openai.responses, **call, **simulate(script))
                    last = got[-1]["response"] if stream else got
                    self.assertEqual(last["status"], "completed")

    def test_completions(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                call = {"model": MODEL, "prompt": f"Once {stream}", "stream": stream}
                self.assertTrue(self.twice(self.openai.completions, **call))

    def test_parallel_tools(self):
        c = self.openai.with_options(base_url=f"{PROXY}/origin/v1")
        for options in ({}, {"stream": True}, {"stream": True, **USAGE}):
            with self.subTest(options):
                # another question for each, so that none is made from another
                got = self.twice(c.chat.completions, **distinct(len(str(options)), tools=[TOOL], **options))
                self.assertIn("call_2", str(got))

    def test_bytes_below_the_sdk(self):
        """What is read as it comes, and not as lines."""
        got = []
        for said in ("miss", "hit"):
            with self.openai.chat.completions.with_streaming_response.create(
                **chat(stream=True), **simulate("tokens=200")
            ) as answer:
                got.append(b"".join(answer.iter_bytes()))
                self.assertEqual(word(answer.headers), said)
                self.note(said)
        self.assertEqual(*got)
        self.assertTrue(got[0].endswith(b"data: [DONE]\n\n"))

    def test_what_failed_is_asked_again(self):
        for status, kind in ((429, openai.RateLimitError), (500, openai.InternalServerError), (400, openai.BadRequestError)):
            with self.subTest(status), self.upstream(2):
                for _ in range(2):
                    with self.assertRaises(kind) as caught:
                        self.openai.chat.completions.create(**chat(), **simulate(f"fault={status}"))
                    self.assertEqual(word(caught.exception.response.headers), "miss")
                    self.note("miss")

    def test_a_stream_that_was_cut_is_asked_again(self):
        for fault in ("reset-mid=5", "truncated", "error-event=3"):
            with self.subTest(fault), self.upstream(2):
                for _ in range(2):
                    try:
                        raw = self.openai.chat.completions.with_raw_response.create(
                            **distinct(fault, stream=True), **simulate(f"fault={fault}; gap=2ms")
                        )
                        self.note("miss")
                        list(raw.parse())
                        self.assertEqual(fault, "truncated")
                    except Exception as error:
                        self.assertNotIsInstance(error, AssertionError)
                        self.assertNotEqual(fault, "truncated")


def settled(final):
    """What a stream amounts to, without what the SDK's own helpers add."""
    data = plain(final)
    for choice in data["choices"]:
        choice["message"].pop("parsed", None)
        for call in choice["message"].get("tool_calls") or []:
            call["function"].pop("parsed_arguments", None)
            # the place in the list, which only streams tell
            call.pop("index", None)
        if not choice["message"].get("tool_calls"):
            choice["message"]["tool_calls"] = None
    return data


class Forms(Cached):
    """One entry answers a question in both forms."""

    def stream(self, c, said, **call):
        """What the SDK's helper makes of a stream in the end."""
        with c.chat.completions.stream(**call, **USAGE) as stream:
            final = stream.get_final_completion()
            headers = stream._response.headers
        self.assertEqual(word(headers), said)
        self.is_told(headers, said)
        self.note(said, final.usage.total_tokens if said == "hit" else 0)
        return settled(final)

    def test_plain_after_stream(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            if name.startswith("nothing"):
                continue  # the helper raises where the bound was reached
            with self.subTest(name), self.upstream(1):
                first = self.stream(self.openai, "miss", **distinct(number, **shape))
                second = self.ask(self.openai.chat.completions, "hit", **distinct(number, **shape))
                self.assertEqual(settled_plain(second.data), first)

    def test_stream_after_plain(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            if name.startswith("nothing"):
                continue
            with self.subTest(name), self.upstream(1):
                first = self.ask(self.openai.chat.completions, "miss", **distinct(number, **shape))
                second = self.stream(self.openai, "hit", **distinct(number, **shape))
                self.assertEqual(second, settled_plain(first.data))

    def test_of_parallel_tools(self):
        """The plain form is known here: the backend's own, byte for byte but for blanks."""
        c = self.openai.with_options(base_url=f"{PROXY}/origin/v1")
        plain_form = plain(ChatCompletion.model_validate(origin.whole({"tools": [TOOL]})))
        with self.upstream(1):
            self.stream(c, "miss", **distinct(1, tools=[TOOL]))
            got = self.ask(c.chat.completions, "hit", **distinct(1, tools=[TOOL]))
            self.assertEqual(got.data, plain_form)
        with self.upstream(1):
            self.ask(c.chat.completions, "miss", **distinct(2, tools=[TOOL]))
            self.assertEqual(self.stream(c, "hit", **distinct(2, tools=[TOOL])), settled_plain(plain_form))

    def test_of_probabilities(self):
        c = self.openai.with_options(base_url=f"{PROXY}/origin/v1")
        plain_form = plain(ChatCompletion.model_validate(origin.whole({"logprobs": True})))
        self.assertEqual(len(plain_form["choices"][0]["logprobs"]["content"]), 9)
        with self.upstream(1):
            self.stream(c, "miss", **distinct(1, logprobs=True))
            got = self.ask(c.chat.completions, "hit", **distinct(1, logprobs=True))
            self.assertEqual(got.data, plain_form)

    def test_with_and_without_usage(self):
        with self.upstream(1):
            full = self.ask(self.openai.chat.completions, "miss", **chat(stream=True, **USAGE))
            bare = self.ask(self.openai.chat.completions, "hit", **chat(stream=True))
        # what was saved is known all the same
        self.saved += tokens(full.data)
        self.assertEqual(bare.data, full.data[:-1])

    def test_a_stream_without_usage_has_no_plain_form(self):
        """No limit counts its tokens, so nobody asked for them."""
        with self.upstream(2):
            self.ask(self.openai.chat.completions, "miss", **chat(stream=True))
            got = self.ask(self.openai.chat.completions, "miss", **chat())
        self.assertTrue(got.data["usage"])

    def test_responses(self):
        for number, script in enumerate(("tokens=9", "tokens=4; reasoning=3", "tool=1", "tool=1; reasoning=2")):
            call = {"model": MODEL, "tools": [FLAT_TOOL], **simulate(script)}
            with self.subTest(script), self.upstream(2):
                streamed = self.ask(self.openai.responses, "miss", **call, input=f"a {number}", stream=True)
                whole = self.ask(self.openai.responses, "hit", **call, input=f"a {number}")
                self.assertEqual(whole.data, streamed.data[-1]["response"])
                whole = self.ask(self.openai.responses, "miss", **call, input=f"b {number}")
                streamed = self.ask(self.openai.responses, "hit", **call, input=f"b {number}", stream=True)
                self.assertEqual(streamed.data[-1]["response"], whole.data)
                numbers = [event["sequence_number"] for event in streamed.data]
                self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
                call["input"] = f"b {number}"
                with self.openai.responses.stream(**call) as stream:
                    final = stream.get_final_response()
                self.note("hit", final.usage.total_tokens)
                self.assertEqual(final.id, whole.data["id"])
                self.assertEqual(final.output_text, text_of(whole.data))


class HiddenUsage(Cached):
    """Where limits count tokens, streams are asked for their usage, which their client is not shown."""

    kind = "counted"

    def test_stream_twice(self):
        with self.upstream(1):
            first = self.ask(self.openai.chat.completions, "miss", **chat(stream=True), **simulate("tokens=30"))
            second = self.openai.chat.completions.with_raw_response.create(**chat(stream=True), **simulate("tokens=30"))
            second = Got(list(second.parse()), second.headers)
        self.assertEqual(second.word, "hit")
        self.assertEqual(first.data, second.data)
        self.assertFalse(any(chunk["usage"] for chunk in second.data))
        # what it would have cost is known to the log alone
        told = self.direct.chat.completions.create(**chat(stream=True, **USAGE), **simulate("tokens=30"))
        self.note("hit", tokens(plain(list(told))))


def settled_plain(data):
    if not data["choices"][0]["message"].get("tool_calls"):
        data["choices"][0]["message"]["tool_calls"] = None
    return data


def text_of(response):
    return "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    )


class Control(Cached):
    def test_no_cache_gets_a_fresh_answer(self):
        """The script is no part of the question: with another seed only a fresh answer differs."""
        other = {"extra_headers": {"x-simulate": "seed=2", "Cache-Control": "no-cache"}}
        with self.upstream(2):
            first = self.ask(self.openai.chat.completions, "miss", **chat(), **simulate("seed=1"))
            kept = self.ask(self.openai.chat.completions, "hit", **chat(), **simulate("seed=2"))
            fresh = self.ask(self.openai.chat.completions, "miss", **chat(), **other)
            after = self.ask(self.openai.chat.completions, "hit", **chat(), **simulate("seed=1"))
        self.assertEqual(first.data, kept.data)
        self.assertNotEqual(fresh.data, first.data)
        self.assertEqual(after.data, fresh.data)

    def test_no_store_and_only_if_cached(self):
        nothing = {"extra_headers": {"Cache-Control": "no-store"}}
        only = {"extra_headers": {"Cache-Control": "only-if-cached"}}
        with self.upstream(2):
            got = self.openai.chat.completions.with_raw_response.create(**chat(), **nothing)
            self.assertEqual(got.headers["cache-status"], "tidegate; fwd=request")
            self.note("bypass")
            with self.assertRaises(openai.APIStatusError) as caught:
                self.openai.chat.completions.create(**chat(), **only)
            self.assertEqual(caught.exception.status_code, 504)
            self.note("miss")
            self.twice(self.openai.chat.completions, **chat())
            self.ask(self.openai.chat.completions, "hit", **chat(), **only)


class Pace(Cached):
    """The pauses of a stream, and the same call under the policy that does not keep them."""

    def took(self, model):
        call = {**chat(stream=True), "model": model, **simulate("tokens=20; gap=25ms")}
        times = []
        for said in ("miss", "hit"):
            begun = time.monotonic()
            got = self.ask(self.openai.chat.completions, said, **call)
            times.append(time.monotonic() - begun)
        self.assertEqual(len(got.data), 22)
        return times

    def test_recorded(self):
        first, second = self.took("paced-sim")
        self.assertGreater(second, 0.4)
        self.assertLess(second, first + 1)

    def test_at_once(self):
        first, second = self.took(MODEL)
        self.assertGreater(first, 0.4)
        self.assertLess(second, 0.3)


class Alike(Cached):
    def test_manners_do_not_make_another_question(self):
        c = self.openai.chat.completions
        said = ["What is the capital of Iceland?", "what's the capital of iceland", "Please, what is the capital of Iceland?!"]
        calls = [{"model": MODEL, "messages": [{"role": "user", "content": text}]} for text in said]
        with self.upstream(1):
            first = self.ask(c, "miss", **calls[0])
            for call in calls[1:]:
                self.assertEqual(self.ask(c, "canonical", **call).data, first.data)

    def test_a_stream_of_the_same_in_other_words(self):
        c = self.openai.chat.completions
        said = ["How do I reset my password?", "How can I reset my password?"]
        calls = [{"model": "alike-sim", "messages": [{"role": "user", "content": text}], "stream": True, **USAGE} for text in said]
        with self.upstream(1):
            first = self.ask(c, "miss", **calls[0])
            second = self.ask(c, "semantic", **calls[1])
        self.assertEqual(first.data, second.data)
        self.assertGreater(float(second.headers["x-tidegate-cache-similarity"]), 0.9)

    def test_the_opposite_is_asked(self):
        c = self.openai.chat.completions
        for text in ("How do I turn the heating on?", "How do I turn the heating off?"):
            with self.upstream(1):
                self.ask(c, "miss", model="alike-sim", messages=[{"role": "user", "content": text}])
