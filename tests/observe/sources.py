"""Everybody who counts what calls have used and cost: each is read on its own, into the same sums."""

import collections
import http.server
import json
import pathlib
import threading
import time
import urllib.request
from decimal import Decimal

from ledger import CLASSES


class Sums:
    """What one source says, all together and by agent where it knows them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.whole = collections.Counter()
        self.agents = collections.defaultdict(collections.Counter)
        # calls of which the backend did not tell all
        self.estimated = collections.Counter()

    def add(self, agent: str, **amounts: int) -> None:
        self.whole.update(amounts)
        if agent:
            self.agents[agent].update(amounts)


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
        sums.estimated[line.get("agent")] += line["estimated"]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "numbers without a gap"
    return sums


def nano(dollars: float) -> int:
    return round(dollars * 1e9)


def of_metrics(text: str) -> Sums:
    sums = Sums("/metrics")
    for name, labels, value in samples(text):
        book(sums, name, labels, value)
    return sums


def book(sums: Sums, name: str, labels: dict, value: float) -> None:
    """A sample of /metrics, or of a collector, in the same names."""
    agent = labels.get("agent")
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
        line = line.partition(" # ")[0]  # an exemplar
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
        sums.agents[agent["agent"]].update(
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
