#!/usr/bin/env python3
"""The dashboard and the alert rules against the real thing: Tidegate under calls of every kind, and
a Prometheus that scrapes it.

    TIDEGATE_BIN=target/release/tidegate tests/observe/scrape.py

1. A sidecar on loopback, with a simulated backend, one that is not there, limits, a cache, tasks and
   a webhook, is called until nearly every metric has a series; tests/observe/check.py reads them.
2. A Prometheus ($PROMETHEUS, or on the PATH) loads packaging/prometheus/scrape.yaml with its rules,
   and is asked every query of the dashboard: it must be understood, and must find something where the
   exposition has all that it names. It must have kept the traces of calls as exemplars. Without one this part is left out, and the last line says so.

It takes half a minute. Exit codes: 0 all is well, 1 something does not fit, 2 it could not start, 78 all is well
but there was no Prometheus to ask.
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import check
from sources import samples

BINARY = os.environ.get("TIDEGATE_BIN")
PROMETHEUS = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
BOOK = check.ROOT / "docs/operations.md"
SCRAPES = 12  # one a second: `rate` wants some, and a rule wants its first turn
PATIENCE = 20  # turns until everything must have been seen
# 65,536 runs of agents are remembered; where more come, those end first that were quiet for longest, so that
# none of them has to be waited for.
RUNNERS, CROWD, SESSIONS = 100, 100, 800
PASSING = b"GET /nowhere HTTP/1.1\r\nhost: a\r\nx-agent-id: crowd-%d\r\nx-session-id: s%d\r\n\r\n"
TRACES = 5

# What this scene does not bring about.
UNSEEN = {
    "tidegate_hedges": "a first token would have to be late; shown by the tests of hedging",
    "tidegate_overload_refused": "memory would have to run short",
}

POLICY = """
listen:
  - 127.0.0.1:{proxy}
  - {{ at: "127.0.0.1:{tls}", tls: {{ cert: {here}/cert.pem, key: {here}/key.pem }} }}
admin: 127.0.0.1:{admin}
server: {{ drain: {{ delay: 0s, timeout: 1s }} }}
state: {here}/state
telemetry: {{ access_log: off, otlp: {{ endpoint: "http://127.0.0.1:{otlp}", sample: 0.1% }} }}
tasks:
  attempts: 2
  webhooks: {{ ops: {{ url: "http://127.0.0.1:{hook}/", secret: "whsec_{secret}", private: true }} }}
upstreams:
  simulator: {{ builtin: simulator, dialect: openai, concurrency: 8, breaker: off, timeouts: {{ first_byte: 300ms }} }}
  gone:
    dialect: openai
    urls: ["http://127.0.0.1:{nobody}", "http://127.0.0.1:{nobody2}"]
    breaker: {{ failures: 2 }}
    health: {{ path: /health, every: 1s, timeout: 1s, failures: 1 }}
routes:
  - {{ path: /gone, to: gone, name: gone }}
  - {{ path: /lane, to: simulator, name: lane, concurrency: 2 }}
  - {{ path: /v1, to: simulator, fallback: [gone], name: main }}
policies:
  - {{ name: few, match: {{ agent: limited }}, limits: {{ requests: 1/min }} }}
  - {{ name: guard, match: {{ agent: looper }}, runaway: {{ repeats: 2, action: stop }} }}
  - {{ name: once, match: {{ agent: asker }}, cache: {{ ttl: 1h, canonical: true, semantic: shadow }} }}
  - {{ name: resumed, match: {{ agent: asker }}, resume: 30s }}
"""


def free_ports(count: int) -> list:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def wait_for(url: str, within: float = 20) -> None:
    end = time.monotonic() + within
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError as why:
            if time.monotonic() > end:
                print(f"{url} does not answer: {why}")
                sys.exit(2)
            time.sleep(0.1)


def taker() -> int:
    """The port of one who takes all telemetry, unread: calls are traced where somebody wants it."""

    class Take(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802, the library's name
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Scene:
    """A sidecar, and what is asked of it."""

    def __init__(self, here: str) -> None:
        ports = free_ports(6)
        self.proxy, self.tls, self.admin, hook, nobody, nobody2 = ports
        self.here = pathlib.Path(here)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
             "-subj", "/CN=localhost", "-keyout", self.here / "key.pem", "-out", self.here / "cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        secret = "c2VjcmV0LW9mLWEtdGVzdC1vbmx5LW5vdC1hLWtleQ=="
        text = POLICY.format(proxy=self.proxy, tls=self.tls, admin=self.admin, hook=hook, otlp=taker(), nobody=nobody, nobody2=nobody2, here=here, secret=secret)
        (self.here / "policy.yaml").write_text(text)
        self.log = (self.here / "log").open("w")
        command = [BINARY, "run", "-c", self.here / "policy.yaml", "--workers", "1"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        wait_for(f"http://127.0.0.1:{self.admin}/readyz")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.admin}/metrics"

    def ask(self, agent: str = "asker", path: str = "/v1", body: dict = None, **headers: str) -> int:
        """The status; 0 where the connection ended instead."""
        say = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is high water?"}]} | (body or {})
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"content-type": "application/json", "x-agent-id": agent, "authorization": f"Bearer of-{agent}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.proxy}{path}/chat/completions", json.dumps(say).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as refused:
            refused.read()
            return refused.code
        except OSError:
            return 0

    def raw(self, text: str) -> None:
        with socket.create_connection(("127.0.0.1", self.proxy), 5) as door:
            door.sendall(text.encode())
            door.recv(1024)

    def stir(self, turn: int) -> None:
        """One call of each kind, all of which end within a moment."""
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        question = f"What is high water number {turn}?"
        assert self.ask() == 200
        assert self.ask(body={"messages": [{"role": "user", "content": f"please, {question}"}]}) == 200
        assert self.ask(body={"messages": [{"role": "user", "content": question}]}) == 200
        assert self.ask(body=stream, agent="reader", x_simulate="gap=1ms") == 200
        assert self.ask(body={"model": "of-nobody"}, agent="reader") == 200
        assert self.ask(path="/lane/v1", agent="reader") == 200
        assert self.ask(path="/gone/v1", agent="reader") >= 500
        self.ask(agent="limited")
        assert self.ask(agent="limited") == 429
        self.ask(agent="reader", x_simulate="fault=500")
        self.ask(agent="reader", x_simulate="fault=429")
        self.ask(agent="reader", x_simulate="ttft=2s")
        self.ask(agent="reader", x_simulate="fault=silent-close")
        for rounds in range(1, 5):
            self.ask(agent="looper", body=self.loop(rounds), x_session_id=f"loop-{turn}")
        assert self.ask(agent="later", prefer="respond-async", x_tidegate_webhook="ops") == 202
        assert self.ask(agent="later", prefer="respond-async", x_simulate="fault=500") == 202
        assert self.ask(agent="later", prefer="respond-async", idempotency_key=f"k{turn}") == 202
        assert self.ask(agent="later", prefer="respond-async", idempotency_key=f"k{turn}", body={"model": "gpt-4o"}) == 422
        self.raw("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.tls), 5) as door:
            door.sendall(b"no TLS at all\r\n\r\n")
            door.recv(1024)
        with socket.create_connection(("127.0.0.1", self.tls), 5) as door:
            context = ssl._create_unverified_context()
            context.wrap_socket(door, server_hostname="localhost").close()

    @staticmethod
    def loop(rounds: int) -> dict:
        """A conversation in which the same tool was called so often with the same arguments."""
        use = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}
        told = {"role": "tool", "tool_call_id": "a", "content": "nothing"}
        return {"messages": [{"role": "user", "content": "look"}, *([use, told] * rounds)]}


    def runs(self) -> list:
        """Sessions that end, for so many others come: each counts as a run, and none is lost. What is wrong."""
        for n in range(RUNNERS):
            assert self.ask(agent="runner", x_session_id=f"run-{n}") == 200
        for agent in range(CROWD):
            # a connection is good for a thousand calls, and as many sessions have names
            with socket.create_connection(("127.0.0.1", self.proxy), 20) as door:
                answers = door.makefile("rb")
                for first in range(0, SESSIONS, 16):
                    door.sendall(b"".join(PASSING % (agent, n) for n in range(first, first + 16)))
                    for _ in range(16):
                        length = 0
                        while line := answers.readline().strip():
                            length = int(line.split()[1]) if line.lower().startswith(b"content-length:") else length
                        answers.read(length)
        told = list(samples(check.read(self.metrics)))
        ended = {labels["agent"]: int(value) for name, labels, value in told if name == "tidegate_agent_run_seconds_count"}
        on = sum(int(value) for name, _, value in told if name == "tidegate_agent_runs")
        of_runner = ended.get("runner", 0)
        all_of_them, made = sum(ended.values()) + on, RUNNERS + CROWD * SESSIONS
        print(f"{made} runs: {of_runner} of {RUNNERS} told of their agent, {sum(ended.values())} ended, {all_of_them} known")
        return [] if (of_runner, all_of_them) == (RUNNERS, made) else [f"{made} runs were made, {RUNNERS} of them of `runner`: {ended}, and {on} go on"]

    def traced(self) -> set:
        """Calls whose trace their caller has begun, and wants to be kept."""
        traces = {f"{n:032x}" for n in range(0x7AB1E, 0x7AB1E + TRACES)}
        for trace in traces:
            assert self.ask(agent="reader", traceparent=f"00-{trace}-00f067aa0ba902b7-01") == 200
            time.sleep(1.2)  # an exemplar is of the last call in its bucket, and is scraped once a second
        return traces


def faults_of_book(families: dict) -> list:
    """The tables of docs/operations.md have the labels that were seen; the rest of them is held by a test in Rust."""
    row = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \| .* \|$", re.M)
    told = {name: set(labels.replace(",", " ").split()) for name, _, labels in row.findall(BOOK.read_text())}
    ends = {"counter": "_total", "info": "_info"}
    seen = {name + ends.get(kind, ""): labels for name, (kind, labels) in families.items()}
    faults = [f"{name}: {told.get(name, 'nothing')} in docs/operations.md, {labels} in /metrics" for name, labels in seen.items() if told.get(name) != labels]
    print(f"{len(seen)} families have the labels that the book says" if not faults else f"{len(faults)} faults of the book")
    return faults


class Watcher:
    """A Prometheus that scrapes the scene each second."""

    def __init__(self, here: str, admin: int) -> None:
        (port,) = free_ports(1)
        self.at = f"http://127.0.0.1:{port}"
        place = pathlib.Path(here)
        text = (check.ROOT / "packaging/prometheus/scrape.yaml").read_text()
        text = text.replace("127.0.0.1:8081", f"127.0.0.1:{admin}").replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
        text = text.replace("scrape_timeout: 10s", "scrape_timeout: 1s").replace("- alerts.yaml", f"- {check.ALERTS}")
        (place / "prometheus.yml").write_text(text)
        log = (place / "prometheus.log").open("w")
        command = [PROMETHEUS, f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data", f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
        self.process = subprocess.Popen(["nice", "-n", "10", *command], stdout=log, stderr=log)
        wait_for(f"{self.at}/-/ready", 60)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def get(self, path: str, **query: str) -> dict:
        try:
            with urllib.request.urlopen(f"{self.at}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            return json.load(refused)


def filled(expr: str) -> str:
    """A query of the dashboard as Grafana sends it, with everything chosen."""
    expr = re.sub(r"\$(job|instance|route|upstream|agent)", ".*", expr)
    return expr.replace("$__rate_interval", "10s").replace("$__range", "10s")


def faults_of_panels(watcher: Watcher, families: dict) -> list:
    there = {name for family, (kind, _) in families.items() for name in check.series(family, kind)}
    faults, asked, found = [], 0, 0
    for where, expr, _ in check.of_dashboard():
        if where.startswith("variable"):
            continue
        answer = watcher.get("query", query=filled(expr))
        asked += 1
        if answer["status"] != "success":
            faults.append(f"{where}: {answer['error']}: {expr}")
            continue
        found += bool(answer["data"]["result"])
        if not answer["data"]["result"] and all(name in there for name, _ in check.asked(expr)[0]):
            faults.append(f"{where}: finds nothing: {filled(expr)}")
    print(f"{asked} queries of the dashboard asked, {found} found something")
    return faults


def faults_of_rules(watcher: Watcher) -> list:
    groups = watcher.get("rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    faults = [f"rule {one['name']}: {one['health']}: {one.get('lastError', '')}" for one in rules if one["health"] != "ok"]
    expected = sum(line.lstrip().startswith(("- alert:", "- record:")) for line in check.ALERTS.read_text().splitlines())
    if len(rules) != expected:
        faults.append(f"{len(rules)} rules were loaded, alerts.yaml has {expected}")
    active = sorted({one["name"] for one in rules if one.get("alerts")})
    print(f"{len(rules)} rules evaluated; pending or firing in the scene: {', '.join(active)}")
    return faults


def faults_of_exemplars(watcher: Watcher, traces: set) -> list:
    """Prometheus has the traces of calls beside their durations: of some of them, for a bucket keeps its last."""
    span = {"start": f"{time.time() - 600:.0f}", "end": f"{time.time() + 60:.0f}"}
    answer = watcher.get("query_exemplars", query="tidegate_request_duration_seconds_bucket", **span)
    if answer["status"] != "success":
        return [f"exemplars: {answer['error']}"]
    kept = [one for series in answer["data"] for one in series["exemplars"]]
    found = {one["labels"].get("trace_id") for one in kept} & traces
    wrong = [one for one in kept if len(one["labels"].get("trace_id", "")) != 32 or len(one["labels"].get("span_id", "")) != 16 or not float(one["value"]) > 0]
    print(f"{len(kept)} exemplars of durations, {len(found)} of the {len(traces)} traces that were begun here")
    return [f"exemplars: {len(found)} of {sorted(traces)}, {wrong}"] if not found or wrong else []


def main() -> int:
    if not BINARY:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as here:
        scene, watcher, faults = Scene(here), None, []
        try:
            watcher = Watcher(here, scene.admin) if PROMETHEUS else None
            exposition = pathlib.Path(here, "metrics")
            faults += scene.runs()
            traces = scene.traced() if watcher else set()
            for turn in range(PATIENCE):
                scene.stir(turn)
                exposition.write_text(check.read(scene.metrics))
                families = check.exposition(exposition.read_text())
                unseen = check.named_in_source().keys() - families.keys()
                if unseen <= UNSEEN.keys() and (turn >= SCRAPES or not watcher):
                    break
                time.sleep(1)
            if keep := os.environ.get("TIDEGATE_TEST_LOGS"):
                shutil.copy(exposition, keep + "/observe-metrics.txt")
            fits = check.main([str(exposition)])
            faults += faults_of_book(families)
            faults += [f"{name} was not seen: bring it about, or say why not in UNSEEN" for name in sorted(unseen - UNSEEN.keys())]
            faults += [f"{name} was seen, so it must not stand in UNSEEN" for name in sorted(UNSEEN.keys() - unseen)]
            if watcher:
                faults += faults_of_panels(watcher, families) + faults_of_rules(watcher) + faults_of_exemplars(watcher, traces)
        except AssertionError:
            print((scene.here / "log").read_text()[-4000:])
            raise
        finally:
            scene.end()
            if watcher:
                watcher.end()
    for fault in faults:
        print(fault)
    done = "asked of a Prometheus" if PROMETHEUS else "not asked of a Prometheus: there is none here"
    print(f"observe: {'all fits' if not faults and not fits else 'faults, see above'}; {done}")
    return 1 if faults or fits else 0 if PROMETHEUS else check.PART


if __name__ == "__main__":
    sys.exit(main())
