"""OpenAI's background mode by the official SDK, on a backend that has none: the simulator is only ever
asked in the foreground, and once for each response."""

import asyncio
import json
import os
import time
import unittest
import urllib.request

import openai
from harness import DIRECT, KEY, simulate, wait_for

TASKS = os.environ["TIDEGATE_TEST_TASKS"]
MODEL = "gpt-sim"


def client(base=TASKS, kind=openai.OpenAI, **options):
    return kind(base_url=f"{base}/v1", api_key=KEY, max_retries=0, **options)


def seen():
    with urllib.request.urlopen(f"{DIRECT}/simulate/seen", timeout=5) as answer:
        return json.load(answer)


def calls():
    """Requests at the simulator so far, but for those that ask for their number."""
    calls.looks = getattr(calls, "looks", 0) + 1
    return seen()["requests"] - calls.looks


def until_over(c, response, within=20):
    end = time.monotonic() + within
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < end, response
        time.sleep(0.05)
        response = c.responses.retrieve(response.id)
    return response


def text(events):
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


class Background(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.before = calls()

    def once(self, times=1):
        self.assertEqual(calls() - self.before, times, "calls of the backend")

    def test_create_and_poll(self):
        ask = {"model": MODEL, "input": "When is high water? (polled)", **simulate("ttft=300ms; tokens=20")}
        begun = time.monotonic()
        first = self.client.responses.create(**ask, background=True)
        self.assertLess(time.monotonic() - begun, 0.3, "it does not wait for the answer")
        self.assertIn(first.status, ("queued", "in_progress"))
        self.assertTrue(first.id.startswith("resp_") and first.background)
        self.assertEqual(first.output, [])
        done = until_over(self.client, first)
        self.assertEqual((done.id, done.status), (first.id, "completed"))
        self.once()
        # what the backend is asked says so: not in the background
        whole = client(DIRECT).responses.create(**ask, background=False)
        self.assertEqual((done.output_text, done.usage), (whole.output_text, whole.usage))
        # the same ever after
        self.assertEqual(self.client.responses.retrieve(first.id), done)

    def test_poll_without_blocking(self):
        async def one(c, number):
            response = await c.responses.create(model=MODEL, input=f"async {number}", background=True)
            while response.status in ("queued", "in_progress"):
                await asyncio.sleep(0.05)
                response = await c.responses.retrieve(response.id)
            return response.id, response.status

        async def all_of_them():
            async with client(kind=openai.AsyncOpenAI) as c:
                return await asyncio.gather(*(one(c, number) for number in range(20)))

        got = asyncio.run(all_of_them())
        self.assertEqual({status for _, status in got}, {"completed"})
        self.assertEqual(len({name for name, _ in got}), 20)
        self.once(20)

    def test_a_stream_is_dropped_and_taken_up_again(self):
        for had in (1, 5, 17):
            with self.subTest(had):
                self.before = calls()
                ask = {"model": MODEL, "input": f"Tell me of tides. ({had})", **simulate("tokens=40; gap=15ms")}
                got, name = [], None
                with self.client.responses.create(**ask, background=True, stream=True) as stream:
                    for event in stream:
                        got.append(event)
                        name = name or event.response.id
                        if len(got) == had:
                            break
                # the connection is gone; the answer goes on
                rest = self.client.responses.retrieve(name, stream=True, starting_after=got[-1].sequence_number)
                got += list(rest)
                self.assertEqual([event.sequence_number for event in got], list(range(len(got))))
                self.assertEqual(got[-1].type, "response.completed")
                self.assertEqual(text(got), got[-1].response.output_text)
                self.once()
                # and again, when all is over
                after = list(self.client.responses.retrieve(name, stream=True, starting_after=3))
                self.assertEqual(after, got[4:])
                self.assertEqual(self.client.responses.retrieve(name).output_text, text(got))
                self.once()

    def test_cancel(self):
        ask = {"model": MODEL, "input": "Talk without end.", **simulate("tokens=2000; gap=20ms")}
        cut = seen()["cancelled"]
        with self.client.responses.create(**ask, background=True, stream=True) as stream:
            response = next(iter(stream)).response
        self.assertEqual(self.client.responses.retrieve(response.id).status, "in_progress")
        self.client.responses.cancel(response.id)
        wait_for(lambda: seen()["cancelled"] > cut, 5, "the backend's call is ended")
        wait_for(lambda: self.client.responses.retrieve(response.id).status == "cancelled", 5, "it is cancelled")
        # once more changes nothing
        self.assertEqual(self.client.responses.cancel(response.id).status, "cancelled")

    def test_a_failure_is_a_failed_response(self):
        response = self.client.responses.create(model=MODEL, input="no", background=True, **simulate("fault=400"))
        over = until_over(self.client, response)
        self.assertEqual(over.status, "failed")
        self.assertTrue(over.error.message)

    def test_delete_and_unknown(self):
        response = until_over(
            self.client, self.client.responses.create(model=MODEL, input="to be deleted", background=True)
        )
        self.client.responses.delete(response.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(response.id)

    def test_another_caller_does_not_see_it(self):
        response = until_over(self.client, self.client.responses.create(model=MODEL, input="mine", background=True))
        other = openai.OpenAI(base_url=f"{TASKS}/v1", api_key="another-key", max_retries=0)
        with self.assertRaises(openai.NotFoundError):
            other.responses.retrieve(response.id)


class AnyCall(unittest.TestCase):
    def test_a_chat_by_a_header(self):
        """`Prefer: respond-async` with the SDK; the answer is what a direct call gets, to the byte."""
        c, ask = client(), {"model": MODEL, "messages": [{"role": "user", "content": "Later, please."}]}
        script = {"x-simulate": "ttft=200ms; tokens=12"}
        headers = {**script, "prefer": "respond-async", "idempotency-key": "later-please"}
        raw = [c.chat.completions.with_raw_response.create(**ask, extra_headers=headers) for _ in range(2)]
        places = [answer.headers["location"] for answer in raw]
        self.assertEqual((raw[0].status_code, places[0]), (202, places[1]))

        def get(path):
            request = urllib.request.Request(TASKS + path, headers={"authorization": f"Bearer {KEY}"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read()

        task = json.loads(get(places[0] + "?wait=10"))
        while task["state"] not in ("succeeded", "failed"):
            task = json.loads(get(places[0] + "?wait=10"))
        self.assertEqual(task["state"], "succeeded")
        whole = client(DIRECT).chat.completions.with_raw_response.create(**ask, extra_headers=script)
        self.assertEqual(get(task["links"]["result"]), whole.content)
