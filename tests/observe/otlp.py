#!/usr/bin/env python3
"""Traces and metrics as a collector gets them: Tidegate in front of a backend, and a receiver that reads
OTLP with the messages of opentelemetry-proto and, for gRPC, with grpcio.

    TIDEGATE_BIN=target/release/tidegate VENV/bin/python tests/observe/otlp.py

VENV holds tests/observe/requirements.txt (tests/observe/run makes it). Exit codes: 0 all is well,
1 something does not fit, 77 the packages are not there.
"""

import collections
import concurrent.futures
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

try:
    import grpc
    import openai
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
    from opentelemetry.proto.trace.v1 import trace_pb2
except ImportError as missing:
    print(f"OTLP NOT TESTED: {missing}")
    sys.exit(77)

from scrape import free_ports, wait_for

BINARY = os.environ.get("TIDEGATE_BIN", "")
CANARY = os.environ.get("TIDEGATE_CANARY", "canary-2f6d9c51a7")
PROMPT = "the-words-of-a-prompt"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT, INTERNAL = (getattr(trace_pb2.Span, f"SPAN_KIND_{kind}") for kind in ("SERVER", "CLIENT", "INTERNAL"))
ERROR = trace_pb2.Status.STATUS_CODE_ERROR

POLICY = """
listen: 127.0.0.1:{proxy}
admin: 127.0.0.1:{admin}
server: {{ drain: {{ delay: 0s, timeout: 1s }} }}
state: {here}/state-{proxy}
upstreams:
  backend: {{ dialect: openai, url: "http://127.0.0.1:{backend}", key: {canary}, pool: {{ connect_timeout: 2s }} }}
  gone: {{ dialect: openai, url: "http://127.0.0.1:{nobody}", breaker: off }}
routes:
  - {{ path: /lost, to: gone, name: lost }}
  - {{ path: /twice, to: gone, fallback: [backend], name: twice }}
  - {{ path: /lane, to: backend, name: lane, concurrency: 1 }}
  - {{ path: /v1, to: backend, name: main }}
prices: {{ "*": {{ input: 2, output: 8 }} }}
policies:
  - {{ name: all, match: {{}}, limits: {{ requests: 1M/min }}, queue: {{ wait: 10s }} }}
  - {{ name: once, match: {{ agent: asker }}, cache: {{ ttl: 1h }} }}
telemetry:
  access_log: off
  {otlp}
"""


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, body, kind, **headers):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Backend:
    """Answers chat completions, and keeps the headers that it was asked with."""

    def __init__(self):
        seen = self.seen = []
        usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "prompt_tokens_details": {"cached_tokens": 4}}

        class Answers(Handler):
            def do_POST(self):
                asked = json.loads(self.body())
                seen.append(dict(self.headers.items()))
                time.sleep(float(self.headers.get("x-pause", 0)))
                if not asked.get("stream"):
                    message = {"role": "assistant", "content": "hello there"}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    said = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
                    return self.answer(200, json.dumps(said).encode(), "application/json")
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for word in ["hello", " there", None]:
                    delta = {"content": word} if word else {}
                    choice = {"index": 0, "delta": delta, "finish_reason": None if word else "stop"}
                    self.event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
                    time.sleep(0.02)
                self.event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def event(self, data):
                self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
                self.wfile.flush()

        self.server = Quiet(("127.0.0.1", 0), Answers)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Receiver:
    """A collector. `script` holds what it does before it is well: a status, `hang` or `partial`."""

    def __init__(self, script=()):
        self.script, self.lock = list(script), threading.Lock()
        self.requests, self.reports, self.headers, self.raw = [], [], [], []
        self.asked = 0

    def next(self):
        with self.lock:
            self.asked += 1
            return self.script.pop(0) if self.script else "ok"

    def take(self, message, headers):
        with self.lock:
            self.raw.append(message.SerializeToString())
            self.headers.append({name.lower(): value for name, value in headers})
            (self.requests if isinstance(message, trace_pb.ExportTraceServiceRequest) else self.reports).append(message)

    def spans(self, trace=None):
        """Of a trace, or all, once and in the order of their beginnings."""
        with self.lock:
            requests = list(self.requests)
        all_spans = [span for one in requests for of in one.resource_spans for scope in of.scope_spans for span in scope.spans]
        chosen = [span for span in all_spans if trace in (None, span.trace_id.hex())]
        return sorted(chosen, key=lambda span: span.start_time_unix_nano)

    def points(self):
        """The last report: (metric, its attributes) to its data point; and the metrics by name."""
        with self.lock:
            reports = list(self.reports)
        if not reports:
            return {}, {}
        scopes = [scope for of in reports[-1].resource_metrics for scope in of.scope_metrics]
        found, by_name = {}, {}
        for metric in (metric for scope in scopes for metric in scope.metrics):
            by_name[metric.name] = metric
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                found[metric.name, frozenset(attributes(point).items())] = point
        return found, by_name


class OverHttp(Receiver):
    kind = "http"

    def __init__(self, script=(), port=0):
        super().__init__(script)
        receiver = self

        class Takes(Handler):
            def do_POST(self):
                body, does = self.body(), "ok"
                traces = self.path == "/base/v1/traces"
                assert traces or self.path == "/base/v1/metrics", self.path
                assert self.headers["content-type"] == "application/x-protobuf"
                if traces:
                    does = receiver.next()
                if does == "hang":
                    time.sleep(60)
                elif isinstance(does, int):
                    return self.answer(does, b"", "text/plain", retry_after="1")
                message = (trace_pb.ExportTraceServiceRequest if traces else metrics_pb.ExportMetricsServiceRequest).FromString(body)
                receiver.take(message, self.headers.items())
                said = trace_pb.ExportTraceServiceResponse()
                if does == "partial":
                    said.partial_success.rejected_spans = 1
                    said.partial_success.error_message = "one too many"
                self.answer(200, said.SerializeToString(), "application/x-protobuf")

        self.server = Quiet(("127.0.0.1", port), Takes)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()


class OverGrpc(Receiver, trace_grpc.TraceServiceServicer):
    kind = "grpc"

    def __init__(self, script=()):
        super().__init__(script)
        receiver = self

        class Reports(metrics_grpc.MetricsServiceServicer):
            def Export(self, request, context):
                receiver.take(request, context.invocation_metadata())
                return metrics_pb.ExportMetricsServiceResponse()

        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        trace_grpc.add_TraceServiceServicer_to_server(self, self.server)
        metrics_grpc.add_MetricsServiceServicer_to_server(Reports(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Export(self, request, context):
        does = self.next()
        if does == "hang":
            time.sleep(60)
        elif isinstance(does, grpc.StatusCode):
            context.abort(does, "as the script says")
        self.take(request, context.invocation_metadata())
        said = trace_pb.ExportTraceServiceResponse()
        if does == "partial":
            said.partial_success.rejected_spans = 1
        return said

    def end(self):
        self.server.stop(None)


def attributes(of):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


def until(condition, what, within=20):
    end = time.monotonic() + within
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.05)
    return found


class Sidecar:
    def __init__(self, here, backend, otlp, **env):
        self.proxy, self.admin, nobody = free_ports(3)
        policy = pathlib.Path(here, f"policy-{self.proxy}.yaml")
        names = dict(proxy=self.proxy, admin=self.admin, nobody=nobody, backend=backend.port, here=here)
        policy.write_text(POLICY.format(**names, canary=CANARY, otlp=otlp))
        self.log = pathlib.Path(here, f"log-{self.proxy}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        with self.log.open("w") as log:
            command = [BINARY, "run", "-c", policy, "--workers", "1"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=clean | env)
        wait_for(f"http://127.0.0.1:{self.admin}/readyz")

    def end(self):
        """How long it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - begun

    def ask(self, path="/v1", body=None, agent="tester", **headers):
        say = {"model": "gpt-test", "messages": [{"role": "user", "content": PROMPT}]} | (body or {})
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"content-type": "application/json", "x-agent-id": agent, "authorization": f"Bearer {CANARY}-of-caller"}
        url = f"http://127.0.0.1:{self.proxy}{path}/chat/completions?secret={CANARY}-of-query"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(say).encode(), headers), timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def count(self, name, signal_name="traces"):
        found = re.search(rf'^{name}{{signal="{signal_name}"}} (\d+)$', self.metrics(), re.M)
        return int(found[1]) if found else 0


def samples(text):
    """Counters and gauges of ours in a scrape: (name, labels) to value."""
    kinds, found = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            kinds[name + ("_total" if kind == "counter" else "")] = (name, kind)
        elif read := re.match(r"(tidegate_\w+)(?:{(.*)})? (\S+)$", line):
            name, kind = kinds.get(read[1], ("", ""))
            if kind in ("counter", "gauge"):
                labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', read[2] or "")
                found[name, frozenset(labels)] = float(read[3])
    return found


def context(trace=TRACE, flag="01"):
    return f"00-{trace}-{SPAN}-{flag}"


class Case(unittest.TestCase):
    maxDiff = None
    protocol = OverHttp

    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.backend = Backend()

    @classmethod
    def tearDownClass(cls):
        cls.place.cleanup()

    def sidecar(self, receiver, more="", **env):
        said = f'otlp: {{ endpoint: "http://127.0.0.1:{receiver.port}/base", {more} }}' if more else ""
        sidecar = Sidecar(self.place.name, self.backend, said, **env)
        self.addCleanup(receiver.end)
        self.addCleanup(lambda: sidecar.process.poll() is None and sidecar.end())
        return sidecar

    def tree(self, receiver, trace, count):
        """The spans of a trace: its root, and the others by name in their order."""
        spans = until(lambda: len(found := receiver.spans(trace)) >= count and found, f"{count} spans of {trace}")
        self.assertEqual(len(spans), count, [span.name for span in spans])
        (root,) = [span for span in spans if span.kind == SERVER]
        others = collections.defaultdict(list)
        for span in spans:
            self.assertLessEqual(span.start_time_unix_nano, span.end_time_unix_nano)
            self.assertLess(abs(span.end_time_unix_nano / 1e9 - time.time()), 60)
            if span is not root:
                self.assertEqual(span.parent_span_id, root.span_id)
                self.assertGreaterEqual(span.start_time_unix_nano, root.start_time_unix_nano)
                self.assertLessEqual(span.end_time_unix_nano, root.end_time_unix_nano)
                others[span.name].append(span)
        return root, others


class Traces(Case):
    more = "protocol: http, sample: 0%, interval: 1s, headers: { x-token: s3 }, service: edge"

    def setUp(self):
        self.receiver = self.protocol()
        self.tidegate = self.sidecar(self.receiver, self.more.replace("http", self.protocol.kind))

    def test_the_tree_of_a_call_that_went_to_a_second_backend(self):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.tidegate.proxy}/twice", api_key=CANARY + "-of-caller", max_retries=0)
        headers = {"traceparent": context(), "tracestate": "vendor=1", "x-agent-id": "writer", "x-session-id": "talk-1"}
        said = [{"role": "user", "content": PROMPT}]
        stream = client.chat.completions.create(model="gpt-test", messages=said, stream=True, extra_headers=headers)
        self.assertIn("hello", [part.choices[0].delta.content for part in stream if part.choices])
        root, others = self.tree(self.receiver, TRACE, 3)
        self.assertEqual((root.name, root.parent_span_id.hex()), ("POST twice", SPAN))
        self.assertEqual((root.trace_state, root.flags), ("vendor=1", 0x301))
        self.assertEqual(root.status.code, trace_pb2.Status.STATUS_CODE_UNSET)
        told = attributes(root)
        for name, value in {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "url.path": "/twice/chat/completions",
            "client.address": "127.0.0.1",
            "tidegate.route": "twice",
            "tidegate.upstream": "backend",
            "tidegate.agent": "writer",
            "gen_ai.conversation.id": "talk-1",
            "gen_ai.request.model": "gpt-test",
            "tidegate.attempts": 2,
            "tidegate.outcome": "complete",
        }.items():
            self.assertEqual(told.get(name), value, name)
        self.assertNotIn("error.type", told)
        first, second = others["chat gpt-test"]
        self.assertEqual((first.kind, second.kind), (CLIENT, CLIENT))
        failed = attributes(first)
        self.assertEqual((failed["tidegate.upstream"], failed["error.type"], first.status.code), ("gone", "unreachable", ERROR))
        self.assertNotIn("gen_ai.usage.input_tokens", failed)
        self.assertLessEqual(first.end_time_unix_nano, second.start_time_unix_nano)
        told = attributes(second)
        first_chunk = told.pop("gen_ai.response.time_to_first_chunk")
        self.assertTrue(0 < first_chunk < 10)
        want = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "backend",
            "gen_ai.request.model": "gpt-test",
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "m",
            "gen_ai.conversation.id": "talk-1",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "server.address": "127.0.0.1",
            "server.port": self.backend.port,
            "http.response.status_code": 200,
            "tidegate.upstream": "backend",
        }
        self.assertEqual(told, want)
        (event,) = second.events
        self.assertEqual(event.name, "first_token")
        self.assertAlmostEqual(event.time_unix_nano / 1e9, second.start_time_unix_nano / 1e9 + first_chunk, 3)
        # the backend is told of the attempt that it had
        seen = {name.lower(): value for name, value in self.backend.seen[-1].items()}
        self.assertEqual(seen["traceparent"], f"00-{TRACE}-{second.span_id.hex()}-01")
        self.assertEqual(seen["tracestate"], "vendor=1")
        resource = attributes(self.receiver.requests[0].resource_spans[0].resource)
        self.assertEqual(resource["service.name"], "edge")
        self.assertIn("service.instance.id", resource)
        self.assertEqual(self.receiver.headers[0]["x-token"], "s3")

    def test_a_call_that_its_caller_does_not_sample_passes_untouched(self):
        for value in [context("1" * 32, "00"), "no-context", None]:
            status, _ = self.tidegate.ask(**({"traceparent": value} if value else {}))
            self.assertEqual(status, 200)
            seen = {name.lower(): held for name, held in self.backend.seen[-1].items()}
            self.assertEqual(seen.get("traceparent"), value)
        self.tidegate.ask(traceparent=context("2" * 32))
        self.tree(self.receiver, "2" * 32, 2)
        self.assertEqual(len(self.receiver.spans()), 2)

    def test_the_cache_the_queue_and_tasks(self):
        ids = [f"{number:032x}" for number in range(1, 7)]
        for trace in ids[:2]:
            self.assertEqual(self.tidegate.ask(agent="asker", traceparent=context(trace))[0], 200)
        _, others = self.tree(self.receiver, ids[0], 3)
        (looked,) = others["tidegate.cache"]
        self.assertEqual((looked.kind, attributes(looked)["tidegate.cache.result"]), (INTERNAL, "miss"))
        root, others = self.tree(self.receiver, ids[1], 2)
        (looked,) = others["tidegate.cache"]
        self.assertEqual(attributes(looked)["tidegate.cache.result"], "hit")
        self.assertEqual(attributes(root)["tidegate.saved_tokens"], 17)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(self.tidegate.ask, "/lane", traceparent=context(trace), x_pause="0.4") for trace in ids[2:4]]
            self.assertEqual([one.result()[0] for one in asked], [200, 200])
        until(lambda: len(self.receiver.spans(ids[2]) + self.receiver.spans(ids[3])) >= 5, "both")
        waits = [span for trace in ids[2:4] for span in self.receiver.spans(trace) if span.name == "tidegate.queue"]
        (wait,) = waits
        self.assertGreater(wait.end_time_unix_nano - wait.start_time_unix_nano, 0.2e9)
        self.assertEqual(self.tidegate.ask(traceparent=context(ids[4]), prefer="respond-async")[0], 202)
        root, _ = self.tree(self.receiver, ids[4], 1)
        task = attributes(root)["tidegate.task"]
        made = until(lambda: [span for span in self.receiver.spans() if span.links], "the call of the task")[0]
        self.assertEqual(attributes(made)["tidegate.task"], task)
        self.assertNotEqual(made.trace_id, root.trace_id)
        (link,) = made.links
        self.assertEqual((link.trace_id, link.span_id), (root.trace_id, root.span_id))
        self.tree(self.receiver, made.trace_id.hex(), 2)

    def test_a_call_that_fails_is_kept(self):
        self.assertGreaterEqual(self.tidegate.ask("/lost")[0], 500)
        (span,) = until(self.receiver.spans, "the failure")
        told = attributes(span)
        self.assertTrue(told["tidegate.kept_because_failed"])
        self.assertEqual((span.name, span.status.code), ("POST lost", ERROR))
        self.tidegate.ask("/lost", traceparent=context("3" * 32, "00"))
        time.sleep(1.5)
        self.assertEqual(len(self.receiver.spans()), 1, "nobody wanted the other")

    def test_metrics_are_those_of_a_scrape(self):
        for number in range(40):
            self.tidegate.ask(agent=f"agent-{number % 3}", body={"stream": number % 2 == 0})
        self.tidegate.ask(traceparent=context())
        self.tidegate.ask("/lost")
        moving = ("telemetry_sent", "log_lines", "connections_", "pool_", "memory_held", "agent_run")

        def both():
            before = samples(self.tidegate.metrics())
            reports = len(self.receiver.reports)
            until(lambda: len(self.receiver.reports) > reports, "another report")
            found, by_name = self.receiver.points()
            return before, samples(self.tidegate.metrics()), found, by_name

        for _ in range(10):
            before, after, found, by_name = both()
            scraped = {key: value for key, value in before.items() if after.get(key) == value and not any(word in key[0] for word in moving)}
            if scraped and all(key in found for key in scraped):
                break
        self.assertGreater(len(scraped), 40)
        for (name, labels), value in scraped.items():
            point = found[name, labels]
            got = point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
            self.assertEqual(got, value, (name, labels))
        tokens = {dict(labels)["type"]: point.as_int for (name, labels), point in found.items() if name == "tidegate_tokens"}
        self.assertEqual(tokens, {"input": 41 * 12, "output": 41 * 5, "cached_input": 41 * 4})
        kind = by_name["tidegate_tokens"].sum
        self.assertTrue(kind.is_monotonic and kind.aggregation_temporality == 2)
        spent = sum(point.as_double for (name, _), point in found.items() if name == "tidegate_spend_dollars")
        scraped_spend = sum(value for (name, _), value in before.items() if name == "tidegate_spend_dollars")
        self.assertAlmostEqual(spent, scraped_spend, 9)
        self.assertGreater(spent, 0)
        for name, unit in {
            "gen_ai.client.operation.duration": "s",
            "gen_ai.client.token.usage": "{token}",
            "gen_ai.server.time_to_first_token": "s",
            "gen_ai.server.time_per_output_token": "s",
        }.items():
            self.assertEqual(by_name[name].unit, unit)
        usage = {dict(labels)["gen_ai.token.type"]: point for (name, labels), point in found.items() if name == "gen_ai.client.token.usage"}
        self.assertEqual((usage["input"].count, usage["input"].sum, usage["output"].sum), (41, 41 * 12, 41 * 5))
        self.assertEqual(sum(usage["input"].bucket_counts), 41)
        self.assertEqual(list(usage["input"].explicit_bounds), [4.0**power for power in range(14)])
        durations = [point for (name, _), point in found.items() if name == "tidegate_request_duration_seconds"]
        (exemplar,) = [one for point in durations for one in point.exemplars if one.trace_id.hex() == TRACE]
        line = next(line for line in self.tidegate.metrics().splitlines() if TRACE in line)
        shown = re.fullmatch(r'tidegate_request_duration_seconds_bucket{.*} \d+ # {trace_id="(\w+)",span_id="(\w+)"} (\S+) (\S+)', line)
        self.assertEqual((shown[1], shown[2]), (TRACE, exemplar.span_id.hex()))
        self.assertAlmostEqual(float(shown[3]), exemplar.as_double, 9)

    def tearDown(self):
        """No credential, no query and no prompt in any of it, nor in the log."""
        self.tidegate.end()
        for held in [*self.receiver.raw, self.tidegate.log.read_bytes()]:
            self.assertNotIn(CANARY.encode(), held)
            self.assertNotIn(PROMPT.encode(), held)


class TracesOverGrpc(Traces):
    protocol = OverGrpc


class Switches(Case):
    def test_content_is_shown_where_it_is_switched_on(self):
        receiver = OverGrpc()
        tidegate = self.sidecar(receiver, "protocol: grpc, sample: 100%, content: on, metrics: off")
        tidegate.ask()
        (client,) = until(lambda: [span for span in receiver.spans() if span.kind == CLIENT], "the call")
        said = json.loads(attributes(client)["gen_ai.input.messages"])
        self.assertEqual(said, [{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}])
        self.assertEqual(receiver.reports, [])

    def test_the_environment_is_enough(self):
        receiver = OverHttp()
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}/base",
            "OTEL_SERVICE_NAME": "named",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        tidegate = self.sidecar(receiver, **env)
        tidegate.ask()
        self.assertLess(tidegate.end(), 10)
        self.assertEqual(len(receiver.spans()), 2, "sent at the end, if not before")
        resource = attributes(receiver.requests[0].resource_spans[0].resource)
        self.assertEqual((resource["service.name"], resource["deployment.environment"]), ("named", "test"))
        self.assertTrue(receiver.reports, "and so are metrics")
        disabled = self.sidecar(OverHttp(), **env, OTEL_SDK_DISABLED="true")
        self.assertNotIn("tidegate_telemetry", disabled.metrics())


class Trouble(Case):
    """A collector that does not do its part: calls go on, and every span is counted once."""

    def spent(self, tidegate, calls):
        begun = time.monotonic()
        for _ in range(calls):
            self.assertEqual(tidegate.ask()[0], 200)
        return time.monotonic() - begun

    def settled(self, tidegate, spans):
        return lambda: tidegate.count("tidegate_telemetry_sent_total") + tidegate.count("tidegate_telemetry_dropped_total") >= spans

    def test_one_that_is_down(self):
        receiver = OverHttp()
        tidegate = self.sidecar(receiver, "sample: 100%, metrics: off")
        receiver.end()
        receiver.end = lambda: None
        self.assertLess(self.spent(tidegate, 100), 20)
        self.assertLess(tidegate.end(), 9, "what cannot be sent is not waited for long")

    def test_one_that_hangs(self):
        for protocol in (OverHttp, OverGrpc):
            with self.subTest(protocol.kind):
                receiver = protocol(["hang"] * 50)
                tidegate = self.sidecar(receiver, f"protocol: {protocol.kind}, sample: 100%, metrics: off")
                self.assertLess(self.spent(tidegate, 300), 30)
                until(lambda: receiver.asked, "it is asked")
                self.assertLess(tidegate.end(), 9)

    def test_one_that_is_not_ready_gets_all_of_it_once(self):
        later = grpc.StatusCode.UNAVAILABLE
        for protocol, script in ((OverHttp, [503, 429]), (OverGrpc, [later, later])):
            with self.subTest(protocol.kind):
                receiver = protocol(script)
                tidegate = self.sidecar(receiver, f"protocol: {protocol.kind}, sample: 100%, metrics: off")
                self.spent(tidegate, 20)
                until(self.settled(tidegate, 40), "all of it")
                self.assertEqual(tidegate.count("tidegate_telemetry_sent_total"), 40)
                ids = [span.span_id for span in receiver.spans()]
                self.assertEqual((len(ids), len(set(ids))), (40, 40))

    def test_what_it_rejects_is_counted(self):
        never = grpc.StatusCode.INVALID_ARGUMENT
        for protocol, refusal in ((OverHttp, 400), (OverGrpc, never)):
            for does, dropped in (("partial", 1), (refusal, 2)):
                with self.subTest(f"{protocol.kind} {does}"):
                    receiver = protocol([does])
                    tidegate = self.sidecar(receiver, f"protocol: {protocol.kind}, sample: 100%, metrics: off")
                    tidegate.ask()
                    until(self.settled(tidegate, 2), "both spans")
                    self.assertEqual(tidegate.count("tidegate_telemetry_dropped_total"), dropped)
                    self.assertEqual(tidegate.count("tidegate_telemetry_sent_total"), 2 - dropped)


if __name__ == "__main__":
    if not BINARY:
        print(__doc__)
        sys.exit(2)
    unittest.main(verbosity=1)
