"""Twenty clients of three SDKs under a limit of one request a second: they wait in line, and none of
them ever sees a refusal."""

import asyncio
import re
import time
import unittest

import anthropic
import openai
from langchain_openai import ChatOpenAI
from limits import KEYS, LIMITS, PROMPT, OpenAI

CLIENTS = 20
BURST = 5
MESSAGES = [{"role": "user", "content": PROMPT}]


async def with_openai(key):
    async with openai.AsyncOpenAI(base_url=f"{LIMITS}/v1", api_key=key, max_retries=0) as c:
        yield
        raw = await c.chat.completions.with_raw_response.create(model="gpt-sim", messages=MESSAGES)
        yield raw.parse().choices[0].message.content, raw.headers


async def with_anthropic(key):
    async with anthropic.AsyncAnthropic(base_url=LIMITS, api_key=key, max_retries=0) as c:
        yield
        raw = await c.messages.with_raw_response.create(model="claude-sim", max_tokens=64, messages=MESSAGES)
        yield (await raw.parse()).content[0].text, raw.headers


async def with_langchain(key):
    c = ChatOpenAI(
        model="gpt-sim", base_url=f"{LIMITS}/v1", api_key=key, max_retries=0, include_response_headers=True
    )
    yield
    message = await c.ainvoke(PROMPT)
    yield message.content, message.response_metadata["headers"]


async def crowd():
    """How long each stood in line, as it was told and as it took, and what it got."""
    kinds = [with_openai, with_anthropic, with_openai, with_anthropic, with_langchain]
    clients = [kinds[n % len(kinds)](KEYS[f"crowd-{n % 4}"]) for n in range(CLIENTS)]
    for client in clients:
        # it is made, and does not call yet: that takes an SDK some tenths of a second
        await anext(client)

    async def call(client):
        begun = time.monotonic()
        text, headers = await anext(client)
        took = time.monotonic() - begun
        await client.aclose()
        waited = re.search(r"\bqueue;dur=([\d.]+)", headers["server-timing"])
        return float(waited.group(1)) / 1000, took, text

    return await asyncio.gather(*map(call, clients))


class Queue(unittest.TestCase):
    def test_all_wait_and_none_is_refused(self):
        for agent in range(4):
            expected = OpenAI("crowd", key=KEYS[f"crowd-{agent}"])
            expected.agent = f"crowd-{agent}"
            expected.expect(*[200] * (CLIENTS // 4))
        # without retries: a refusal would raise
        answers = sorted(asyncio.run(crowd()))
        for place, (waited, took, text) in enumerate(answers):
            with self.subTest(place):
                self.assertTrue(text)
                # one more each second; what the clients need to start is less than half of one
                self.assertAlmostEqual(waited, max(0, place + 1 - BURST), delta=0.5)
                # the header tells nearly all of what the client has waited
                self.assertTrue(waited <= took < waited + 1.5, took)
