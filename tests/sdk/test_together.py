"""Many SDK clients that ask the same at once share one call at the backend."""

import asyncio
import collections
import threading

import anthropic
import openai
from cached import PROXY, Cached, tokens, word
from harness import KEY, plain, simulate

MODEL = "gpt-sim"
SLOW = "tokens=50; gap=8ms; ttft=300ms"
USAGE = {"stream_options": {"include_usage": True}}


def question(number, script=SLOW, **options):
    messages = [{"role": "user", "content": f"question {number}"}]
    return {"model": MODEL, "messages": messages, **simulate(script), **options}


class Together(Cached):
    def at_once(self, *tasks):
        """Runs tasks of one asynchronous client."""

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=f"{PROXY}/v1", api_key=KEY, **self.options) as c:
                return await asyncio.gather(*(task(c) for task in tasks), return_exceptions=True)

        return asyncio.run(all_of_them())

    def streaming(self, **call):
        async def task(c):
            raw = await c.chat.completions.with_raw_response.create(stream=True, **call)
            return word(raw.headers), [plain(chunk) async for chunk in raw.parse()]

        return task

    def own(self, call):
        """The backend's own answer."""
        return plain(list(self.direct.chat.completions.create(stream=True, **call, **USAGE)))

    def count(self, said, saved):
        """One of them has asked; the others joined it, or came later."""
        said = collections.Counter(said)
        self.assertEqual(said["miss"], 1, said)
        self.assertEqual(set(said) - {"miss", "joined", "hit"}, set())
        self.words.update(said)
        self.saved += saved * (said["joined"] + said["hit"])
        return said

    def test_fifty_streams(self):
        with self.upstream(1):
            got = self.at_once(*[self.streaming(**question(1), **USAGE)] * 50)
        expected = self.own(question(1, "tokens=50"))
        for _, chunks in got:
            self.assertEqual(chunks, expected)
        said = self.count([said for said, _ in got], tokens(expected))
        self.assertGreater(said["joined"], 40)

    def test_a_burst_at_a_web_service(self):
        """Two hundred tasks with twenty questions: twenty calls."""
        with self.upstream(20):
            got = self.at_once(*[self.streaming(**question(n % 20), **USAGE) for n in range(200)])
        for number in range(20):
            answers = got[number::20]
            own = self.own(question(number, "tokens=50"))
            for _, chunks in answers:
                self.assertEqual(chunks, own)
            self.count([said for said, _ in answers], tokens(own))

    def test_plain_calls(self):
        async def task(c):
            raw = await c.chat.completions.with_raw_response.create(**question(1, "ttft=500ms"))
            return word(raw.headers), plain(raw.parse())

        with self.upstream(1):
            got = self.at_once(*[task] * 30)
        for _, answer in got:
            self.assertEqual(answer, got[0][1])
        self.count([said for said, _ in got], tokens(got[0][1]))

    def test_members_that_leave(self):
        """Whoever began it leaves, and some of those who joined; the others read on."""
        begun = threading.Event()
        with self.upstream(1):
            leader = self.openai.chat.completions.with_raw_response.create(
                stream=True, **question(1, "tokens=100; gap=10ms"), **USAGE
            )
            self.assertEqual(word(leader.headers), "miss")
            leader = leader.parse()
            next(leader)

            async def leaving(c):
                stream = await c.chat.completions.create(stream=True, **question(1), **USAGE)
                async for _ in stream:
                    begun.set()
                    break
                await stream.close()

            async def the_first(_):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(leader.close)

            reading = self.streaming(**question(1), **USAGE)
            got = self.at_once(the_first, *[leaving] * 5, *[reading] * 10)
        self.assertTrue(begun.is_set())
        expected = self.own(question(1, "tokens=100"))
        self.assertEqual([error for error in got if isinstance(error, Exception)], [])
        for said, chunks in got[6:]:
            self.assertEqual((said, chunks), ("joined", expected))
        # who leaves has saved nothing
        self.words.update({"miss": 1, "joined": 15})
        self.saved += 10 * tokens(expected)

    def test_an_error_reaches_all(self):
        kinds = {429: openai.RateLimitError, 500: openai.InternalServerError, 400: openai.BadRequestError}
        for status, kind in kinds.items():
            call = question(status, f"ttft=400ms; fault={status}; retry=ms")
            with self.subTest(status), self.upstream(1):
                got = self.at_once(*[self.streaming(**call)] * 10)
            with self.assertRaises(kind) as caught:
                self.direct.chat.completions.create(stream=True, **call)
            said = []
            for error in got:
                self.assertIsInstance(error, kind)
                self.assertEqual((error.status_code, error.body), (status, caught.exception.body))
                said.append(word(error.response.headers))
            self.count(said, 0)

    def test_an_error_is_got_over_by_the_sdks_own_retries(self):
        """All come back when they were told to, and share the second try as well."""
        self.options["max_retries"] = 2
        call = question(1, "ttft=400ms; fault=429; times=1; retry=ms; retry-after=0")
        with self.upstream(2):
            got = self.at_once(*[self.streaming(**call, **USAGE)] * 20)
        for answer in got:
            self.assertEqual(answer[1], got[0][1])
        self.assertGreater(len(got[0][1]), 30)
        # the twenty that failed, and the twenty that followed
        self.count(["miss"] + ["joined"] * 19, 0)
        self.count([said for said, _ in got], tokens(got[0][1]))

    def test_a_stream_that_dies_dies_for_all(self):
        with self.upstream(1):
            got = self.at_once(*[self.streaming(**question(1, "ttft=400ms; fault=reset-mid=5; gap=5ms"))] * 10)
        for error in got:
            self.assertIsInstance(error, Exception)
        self.words.update({"miss": 1, "joined": 9})


class AnthropicTogether(Cached):
    def test_fifty_streams(self):
        messages = [{"role": "user", "content": "tides"}]
        call = {"model": "claude-sim", "max_tokens": 64, "messages": messages, "stream": True, **simulate(SLOW + "; reasoning=5")}

        async def one(c):
            raw = await c.messages.with_raw_response.create(**call)
            return word(raw.headers), [plain(event) async for event in await raw.parse()]

        async def all_of_them():
            async with anthropic.AsyncAnthropic(base_url=PROXY, api_key=KEY, **self.options) as c:
                return await asyncio.gather(*(one(c) for _ in range(50)))

        with self.upstream(1):
            got = asyncio.run(all_of_them())
        for _, events in got:
            self.assertEqual(events, got[0][1])
        self.assertEqual(got[0][1][-1]["type"], "message_stop")
        said = collections.Counter(said for said, _ in got)
        self.assertEqual((said["miss"], said["joined"] + said["hit"]), (1, 49))
        self.words.update(said)
        self.saved += 49 * tokens(got[0][1])
