#!/usr/bin/env python3
"""More than a thousand calls of every kind, and everybody who counts them: they must agree to the token and
to the billionth of a dollar, with each other and with the backend's own books.

    TIDEGATE_BIN=target/release/tidegate tests/observe/agree.py

The backend (ledger.py) decides what each answer used and writes it down; of calls that it did not tell all of,
for they failed, were left or were cut, it writes down what they are to be charged by the rule in the docs.
Against its books are held (sources.py): the access log, the usage records, /metrics, the page's stream /live, and
what was sent over OTLP, to a receiver of our own on the messages of opentelemetry-proto, since no collector can
be installed from the registries.

It takes a quarter of a minute. Exit codes: 0 all agree, 1 somebody does not, 2 it could not start, 78 all agree but
there was no opentelemetry-proto for the last.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import check
from ledger import CLASSES, Ledger, cost, used_by
from plan import TASKS, THINGS, Client, Plan, asked
from scrape import BINARY, free_ports, wait_for
from sources import Collector, Sums, of_access_log, of_metrics, of_page, of_usage

# billionths of a dollar for a token
PRICES = {
    "small": {"input": 150, "cached_input": 75, "cache_write": 150, "output": 600},
    "large": {"input": 3001, "cached_input": 307, "cache_write": 3757, "output": 15013},
    "broken": {"input": 707, "cached_input": 707, "cache_write": 707, "output": 7001},
}
POLICY = """
listen: 127.0.0.1:{proxy}
admin: 127.0.0.1:{admin}
server: {{ drain: {{ delay: 0s, timeout: 5s }} }}
state: {here}/state
tasks: {{ attempts: 1 }}
telemetry:
  access_log: {here}/access.log
  usage: {here}/usage.log
{otlp}
upstreams:
  chat: {{ url: "http://127.0.0.1:{backend}", dialect: openai, breaker: off, pacing: off, concurrency: 64, retry: {{ attempts: 1 }} }}
  talk: {{ url: "http://127.0.0.1:{backend}", dialect: anthropic, breaker: off, pacing: off, retry: {{ attempts: 1 }} }}
  gemini: {{ url: "http://127.0.0.1:{backend}", dialect: gemini, breaker: off, pacing: off, retry: {{ attempts: 1 }} }}
  ollama: {{ url: "http://127.0.0.1:{backend}", dialect: ollama, breaker: off, pacing: off, retry: {{ attempts: 1 }} }}
  slow-chat: {{ url: "http://127.0.0.1:{backend}", dialect: openai, breaker: off, pacing: off, retry: {{ attempts: 1 }}, timeouts: {{ first_byte: 1s }} }}
  slow-talk: {{ url: "http://127.0.0.1:{backend}", dialect: anthropic, breaker: off, pacing: off, retry: {{ attempts: 1 }}, timeouts: {{ idle: 1s }} }}
routes:
  - {{ path: /slow/anthropic, to: slow-talk, name: slow-talk }}
  - {{ path: /slow, to: slow-chat, name: slow-chat }}
  - {{ path: /gemini, to: gemini, name: gemini }}
  - {{ path: /ollama, to: ollama, name: ollama }}
  - {{ path: /anthropic, to: talk, name: talk }}
  - {{ path: /v1, to: chat, name: chat }}
prices:
  small: {{ input: 0.15, cached_input: 0.075, cache_write: 0.15, output: 0.6 }}
  large: {{ input: 3.001, cached_input: 0.307, cache_write: 3.757, output: 15.013 }}
  broken: {{ input: 0.707, cached_input: 0.707, cache_write: 0.707, output: 7.001 }}
policies:
  - {{ name: all, per: agent, limits: {{ spend: $100000/day, tokens: 1000M/day calendar }} }}
  - {{ name: few, match: {{ agent: limited }}, per: agent, limits: {{ requests: 5/day calendar hard }} }}
  - {{ name: kept, match: {{ agent: asker }}, cache: {{ ttl: 1h }} }}
  - {{ name: alike, match: {{ agent: helped }}, cache: {{ ttl: 1h, semantic: {{ mode: on, explore: 0.1% }} }} }}
"""
OTLP = "  otlp: {{ endpoint: 'http://127.0.0.1:{port}', protocol: http, interval: 1s, sample: 100% }}"


def of_backend(ledger: Ledger, plan: Plan) -> Sums:
    sums = Sums("the backend")
    for agent, tokens in ledger.tokens.items():
        sums.add(agent, spend=ledger.nano[agent], **tokens)
    for (agent, *_), twin in plan.spared(ledger.seen):
        used = used_by(asked(twin), "chat")
        sums.add(agent, saved=cost(used, PRICES[twin[2]["model"]]), spared=used.input + used.output)
    return sums


def told(text: str) -> dict:
    """Calls by what the cache made of them."""
    kinds = collections.Counter()
    for line in text.splitlines():
        if line.startswith("tidegate_cache_requests_total{"):
            kinds[line.split('result="')[1].split('"')[0]] += int(float(line.split()[-1]))
    return kinds


# --- holding them together ------------------------------------------------------------------------


EVERYTHING = (*CLASSES, "spend", "saved", "spared")
SEEN = ("input", "output", "spend", "saved", "spared")
# what a source knows of all calls together, and of each agent
KNOWS = {
    "the page": (("spend", "saved"), SEEN),
    "the page's charts": (SEEN, ()),
    "/metrics": (EVERYTHING, (*CLASSES, "spend", "saved")),
    "the collector": (EVERYTHING, (*CLASSES, "spend", "saved")),
    "the access log": (EVERYTHING, EVERYTHING),
    "the usage records": (EVERYTHING, EVERYTHING),
}


def faults_of(books: Sums, said: Sums) -> list:
    whole, each = KNOWS[said.name]
    faults = [("all", amount, said.whole[amount], books.whole[amount]) for amount in whole]
    for agent, ours in books.agents.items():
        faults += [(agent, amount, said.agents[agent][amount], ours[amount]) for amount in each]
    text = "{}: {} of {}: {}, and the backend's books say {}"
    return [text.format(said.name, amount, who, theirs, ours) for who, amount, theirs, ours in faults if theirs != ours]


def main() -> int:
    if not BINARY:
        print(__doc__)
        return 2
    ledger = Ledger(PRICES)
    try:
        collector = Collector()
    except ImportError:
        collector = None
    with tempfile.TemporaryDirectory() as here:
        proxy, admin = free_ports(2)
        otlp = OTLP.format(port=collector.port) if collector else ""
        policy = pathlib.Path(here, "policy.yaml")
        policy.write_text(POLICY.format(proxy=proxy, admin=admin, here=here, backend=ledger.port, otlp=otlp))
        errors = pathlib.Path(here, "stderr").open("w")
        process = subprocess.Popen([BINARY, "run", "-c", policy, "--workers", "2"], stdout=errors, stderr=errors)
        try:
            wait_for(f"http://127.0.0.1:{admin}/readyz")
            plan, client, statuses = Plan(), Client(proxy), collections.Counter()
            statuses.update(map(client.ask, plan.first))
            with ThreadPoolExecutor(16) as pool:
                statuses.update(pool.map(client.each, plan.calls))
                statuses.update(pool.map(client.ask, plan.repeated))
                for call in plan.pairs:
                    statuses.update(pool.map(client.ask, [call, call]))
            statuses.update(map(client.ask, plan.refused))
            print(f"{statuses.total()} calls: {dict(statuses)}")
            settle(admin)
            text = check.read(f"http://127.0.0.1:{admin}/metrics")
            said = [of_metrics(text), *of_page(admin)]
            if collector:
                said.append(collector.sums())
            process.terminate()
            assert process.wait(30) == 0, "it ends well"
        except BaseException:
            process.kill()
            print(pathlib.Path(here, "stderr").read_text()[-4000:])
            raise
        said += [of_access_log(pathlib.Path(here, "access.log")), of_usage(pathlib.Path(here, "usage.log"))]
    books, faults, kinds = of_backend(ledger, plan), [], told(text)
    if +said[-1].estimated != ledger.untold:
        faults.append(f"the usage records estimate {dict(said[-1].estimated)}, the backend left open {dict(ledger.untold)}")
    if kinds["joined"] != len(plan.pairs) or kinds["hit"] != 120 or kinds["semantic"] < len(THINGS) // 2:
        faults.append(f"the cache did not answer in all of its ways: {dict(kinds)}")
    for source in said:
        faults += faults_of(books, source)
        print(f"{source.name + ':':20}" + ", ".join(f"{amount} {source.whole[amount]}" for amount in KNOWS[source.name][0]))
    answered = 3 + 350 + 200 + 100 + 180 + 10 + 10 + 30 + 120 + 2 * len(THINGS) + 20 + 5
    if statuses != {200: answered, 202: TASKS, 400: 25, 500: 25, 504: 10, 402: 45}:
        faults.append(f"other answers than were asked for: {dict(statuses)}, {answered} of 200")
    for fault in faults:
        print(fault)
    without = "" if collector else "\nNOT TESTED: what is sent over OTLP, for opentelemetry-proto is not installed"
    print(f"agree: {'all of them' if not faults else f'{len(faults)} faults, see above'}{without}")
    return 1 if faults else 0 if collector else check.PART


def settle(admin: int) -> None:
    """Until the tasks are over and nothing is in flight."""
    end = time.monotonic() + 60
    while True:
        state = json.loads(check.read(f"http://127.0.0.1:{admin}/state"))
        ended = sum(state["tasks"]["ended"].values())
        if ended == TASKS and not state["calls"]:
            return
        assert time.monotonic() < end, f"{ended} tasks have ended; {state['tasks']}"
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
