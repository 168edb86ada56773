#!/usr/bin/env python3
"""A thousand calls of every kind, and everybody who counts them: they must agree to the token and to
the billionth of a dollar, with each other and with the backend's own books.

    TIDEGATE_BIN=target/release/tidegate tests/observe/agree.py

The backend (ledger.py) decides what each answer used and writes it down. Against its books are held:
the access log, the usage records, /metrics, the page's stream /live, and what an OTLP collector was
sent. It takes a quarter of a minute, and needs the Python package opentelemetry-proto for the last.
Exit codes: 0 all agree, 1 somebody does not, 2 it could not start.
"""

import collections
import http.client
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import check
from ledger import CLASSES, Ledger, used_by
from scrape import BINARY, free_ports, wait_for

# billionths of a dollar for a token
PRICES = {
    "small": {"input": 150, "cached_input": 75, "cache_write": 150, "output": 600},
    "large": {"input": 3001, "cached_input": 307, "cache_write": 3757, "output": 15013},
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
routes:
  - {{ path: /anthropic, to: talk, name: talk }}
  - {{ path: /v1, to: chat, name: chat }}
prices:
  small: {{ input: 0.15, cached_input: 0.075, cache_write: 0.15, output: 0.6 }}
  large: {{ input: 3.001, cached_input: 0.307, cache_write: 3.757, output: 15.013 }}
policies:
  - {{ name: all, per: agent, limits: {{ spend: $100000/day, tokens: 1000M/day calendar }} }}
  - {{ name: few, match: {{ agent: limited }}, per: agent, limits: {{ requests: 5/day calendar hard }} }}
  - {{ name: kept, match: {{ agent: asker }}, cache: {{ ttl: 1h }} }}
"""
OTLP = "  otlp: {{ endpoint: 'http://127.0.0.1:{port}', protocol: http, interval: 1s, sample: 100% }}"


class Sums:
    """What one source says, all together and by agent where it knows them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.whole = collections.Counter()
        self.agents = collections.defaultdict(collections.Counter)
        self.estimated = collections.Counter()

    def add(self, agent: str, **amounts: int) -> None:
        self.whole.update(amounts)
        if agent:
            self.agents[agent].update(amounts)


# --- what is asked --------------------------------------------------------------------------------


def plan() -> list:
    """A thousand calls: agent, path, body, headers; those that are answered from the cache and those that
    a limit refuses come behind the others."""
    calls, repeated = [], []

    def one(agent: str, path: str, text: str, **headers: str) -> tuple:
        n = len(calls) + len(repeated)
        model = "large" if n % 3 == 0 else "small"
        body = {"model": model, "stream": n % 2 == 0}
        if path == "/v1/embeddings":
            body = {"model": model, "input": text}
        else:
            body["messages"] = [{"role": "user", "content": text}]
        if path.endswith("/messages"):
            body["max_tokens"] = 1000
        return agent, path, body, headers

    chat = "/v1/chat/completions"
    for n in range(350):
        calls.append(one(f"agent-{n % 4}", chat, f"question {n}"))
    for n in range(200):
        calls.append(one(f"agent-{n % 4}", "/anthropic/v1/messages", f"word {n}"))
    for n in range(100):
        calls.append(one(f"agent-{n % 3}", "/v1/embeddings", f"text {n}"))
    for n in range(100):
        calls.append(one("later", chat, f"task {n}", prefer="respond-async"))
    for n in range(25):
        calls.append(one("unlucky", chat, f"fail {n}"))
        calls.append(one("wrong", chat, f"refuse {n}"))
    for n in range(30):
        calls.append(one("asker", chat, f"same {n}"))
    first = calls[-30:]
    repeated += [call for call in first for _ in range(4)]
    refused = [one("limited", chat, f"few {n}") for n in range(50)]
    return calls, repeated, refused


class Client:
    """A connection for each thread."""

    def __init__(self, port: int) -> None:
        self.port, self.own = port, threading.local()

    def ask(self, call: tuple) -> int:
        agent, path, body, more = call
        link = getattr(self.own, "link", None)
        if link is None:
            link = self.own.link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"content-type": "application/json", "x-agent-id": agent, "authorization": "Bearer k"} | more
        link.request("POST", path, json.dumps(body), headers)
        answer = link.getresponse()
        answer.read()
        return answer.status


# --- what is said ---------------------------------------------------------------------------------


def of_backend(ledger: Ledger, repeated: list) -> Sums:
    sums = Sums("the backend")
    for agent, tokens in ledger.tokens.items():
        sums.add(agent, spend=ledger.nano[agent], **tokens)
    for agent, path, body, _ in repeated:
        used, price = used_by(json.dumps(body["messages"]), "chat"), PRICES[body["model"]]
        plain = used.input - used.cached_input
        saved = plain * price["input"] + used.cached_input * price["cached_input"] + used.output * price["output"]
        sums.add(agent, saved=saved, spared=used.input + used.output)
    return sums


def of_access_log(file: pathlib.Path) -> Sums:
    sums = Sums("the access log")
    for line in file.read_text().splitlines():
        line = json.loads(line, parse_float=Decimal)
        nano = {"spend": line.get("spend_dollars", 0), "saved": line.get("saved_dollars", 0)}
        nano = {name: int(Decimal(dollars) * 10**9) for name, dollars in nano.items()}
        tokens = {name: line.get(f"{name}_tokens", 0) for name in CLASSES}
        sums.add(line.get("agent"), lines=1, spared=line.get("saved_tokens", 0), **tokens, **nano)
    return sums


def of_usage(file: pathlib.Path) -> Sums:
    sums, numbers = Sums("the usage records"), []
    for line in map(json.loads, file.read_text().splitlines()):
        if line["log"] == "usage_end":
            assert line["records"] == len(numbers), f"{line} but {len(numbers)} records"
            continue
        numbers.append(line["seq"])
        assert int(Decimal(line["spend_dollars"]) * 10**9) == line["spend_nano"], line
        # an attempt that failed is charged by an estimate; what a backend has told stands beside it
        told = {name: line.get(f"reported_{name}_tokens", line[f"{name}_tokens"]) for name in CLASSES}
        tokens = {name: line[f"{name}_tokens"] for name in CLASSES} if not line["estimated"] else told
        sums.add(line.get("agent"), spend=line["spend_nano"], saved=line["saved_nano"], spared=line["saved_tokens"], **tokens)
        # no backend told what a call used that it failed: it is charged what it may have used
        sums.estimated[line.get("agent")] += line["spend_nano"] if line["estimated"] else 0
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "numbers without a gap"
    return sums


def nano(dollars: float) -> int:
    return round(dollars * 1e9)


def named(agent: str) -> str:
    """Whom no backend ever answered has no label of its own; here it is one alone that costs."""
    return "unlucky" if agent == "other" else agent


def of_metrics(text: str) -> Sums:
    sums = Sums("/metrics")
    for name, labels, value in samples(text):
        book(sums, name, labels, value)
    return sums


def book(sums: Sums, name: str, labels: dict, value: float) -> None:
    """A sample of /metrics, or of a collector, in the same names."""
    agent = named(labels.get("agent"))
    if name == "tidegate_tokens_total":
        sums.whole[labels["type"]] += int(value)
    elif name == "tidegate_agent_tokens_total":
        sums.agents[agent][labels["type"]] += int(value)
    elif name == "tidegate_spend_dollars_total":
        sums.whole["spend"] += nano(value)
    elif name == "tidegate_agent_spend_dollars_total":
        sums.agents[agent]["spend"] += nano(value)
    elif name == "tidegate_cache_saved_dollars_total":
        sums.whole["saved"] += nano(value)
    elif name == "tidegate_agent_saved_dollars_total":
        sums.agents[agent]["saved"] += nano(value)
    elif name == "tidegate_cache_saved_tokens_total":
        sums.whole["spared"] += int(value)


def samples(text: str):
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
        labels, _, value = rest.rpartition("} ") if "{" in line else ("", "", rest)
        pairs = (pair.split("=", 1) for pair in labels.split('",') if pair)
        yield name, {key.strip(): word.strip('"') for key, word in pairs}, float(value.split()[0])


def of_page(port: int) -> Sums:
    """The totals that the page shows, and the points behind its charts."""
    sums, points = Sums("the page"), Sums("the page's charts")
    end = time.monotonic() + 20
    history, wanted = None, None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=10) as stream:
        kind = ""
        for line in stream:
            assert time.monotonic() < end, "the last point never came"
            line = line.decode().rstrip("\n")
            if line.startswith("event:"):
                kind = line[6:].strip()
            if not line.startswith("data:"):
                continue
            data = json.loads(line[5:])
            if kind == "history":
                history = data
            elif kind == "now":
                wanted = wanted or data["at_ms"]
                point = data["point"]
                if point and point["n"] > history["last"]:
                    history["last"] = point["n"]
                    for name, column in history["points"].items():
                        column.append(point[name])
                # a whole point must have passed since it was first asked
                if point and point["end_ms"] > wanted:
                    break
    now = data
    sums.whole.update(spend=now["totals"]["spend_nano"], saved=now["totals"]["saved_nano"], calls=now["totals"]["calls"])
    for agent in now["agents"]:
        sums.agents[named(agent["agent"])].update(
            input=agent["input_tokens"], output=agent["output_tokens"], spend=agent["spend_nano"],
            saved=agent["saved_nano"], spared=agent["saved_tokens"],
        )  # fmt: skip
    column = {name: sum(values) for name, values in history["points"].items() if not isinstance(values[0], (list, type(None)))}
    points.whole.update(input=column["input_tokens"], output=column["output_tokens"], spend=column["spend_nano"], saved=column["saved_nano"], spared=column["saved_tokens"])
    return sums, points


class Collector:
    """Takes OTLP over HTTP, and keeps the newest metrics."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        self.newest, self.came = {}, 0
        collector = self

        class Take(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802, the library's name
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/metrics":
                    collector.take(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Take)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request) -> None:
        self.came += 1
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.sum.data_points:
                        labels = tuple(sorted((one.key, one.value.string_value) for one in point.attributes))
                        value = point.as_int if point.HasField("as_int") else point.as_double
                        self.newest[(metric.name, labels)] = value

    def sums(self) -> Sums:
        """Once two more have come."""
        came, end = self.came, time.monotonic() + 30
        while self.came < came + 2:
            assert time.monotonic() < end, "no metrics came to the collector"
            time.sleep(0.1)
        sums = Sums("the collector")
        for (name, labels), value in self.newest.items():
            name = name.replace(".", "_")
            book(sums, name if name.endswith("_total") else name + "_total", dict(labels), value)
        return sums


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
    ledger = Ledger()
    ledger.prices = PRICES
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
            calls, repeated, refused = plan()
            client, statuses = Client(proxy), collections.Counter()
            with ThreadPoolExecutor(16) as pool:
                statuses.update(pool.map(client.ask, calls))
                statuses.update(pool.map(client.ask, repeated))
            statuses.update(map(client.ask, refused))
            print(f"{statuses.total()} calls: {dict(statuses)}")
            settle(admin)
            said = [of_metrics(check.read(f"http://127.0.0.1:{admin}/metrics")), *of_page(admin)]
            if collector:
                said.append(collector.sums())
            process.terminate()
            assert process.wait(30) == 0, "it ends well"
        except BaseException:
            process.kill()
            print(pathlib.Path(here, "stderr").read_text()[-4000:])
            raise
        said += [of_access_log(pathlib.Path(here, "access.log")), of_usage(pathlib.Path(here, "usage.log"))]
    books = of_backend(ledger, repeated)
    estimated = said[-1].estimated
    assert set(+estimated) == {"unlucky"}, f"estimates: {estimated}"
    books.add("unlucky", spend=estimated["unlucky"])
    faults = []
    for source in said:
        faults += faults_of(books, source)
        print(f"{source.name + ':':20}" + ", ".join(f"{amount} {source.whole[amount]}" for amount in KNOWS[source.name][0]))
    if statuses != {200: 350 + 200 + 100 + 5 + 30 + 120, 202: 100, 400: 25, 500: 25, 402: 45}:
        faults.append(f"other answers than were asked for: {dict(statuses)}")
    for fault in faults:
        print(fault)
    without = "" if collector else "; no collector: opentelemetry-proto is not installed"
    print(f"agree: {'all of them' if not faults else f'{len(faults)} faults, see above'}{without}")
    return 1 if faults else 0


def settle(admin: int) -> None:
    """Until the tasks are over and nothing is in flight."""
    end = time.monotonic() + 60
    while True:
        state = json.loads(check.read(f"http://127.0.0.1:{admin}/state"))
        ended = sum(state["tasks"]["ended"].values())
        if ended == 100 and not state["calls"]:
            return
        assert time.monotonic() < end, f"{ended} tasks have ended; {state['tasks']}"
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
