#!/usr/bin/env python3
"""Holds the dashboard and the alert rules to what /metrics really says, both ways.

    tests/observe/check.py http://127.0.0.1:8081/metrics
    tests/observe/check.py FILE

1. Every metric and label that a panel, a variable, a rule or a text names is in that exposition,
   or among those that come with their first event (SOMETIMES, with their labels).
2. Every metric of the exposition, and every name of src/telemetry/metrics/names.rs, is in a panel
   or a rule, or among those left out on purpose (LEFT_OUT, with the reason).
3. Words that labels are compared with are words of the source code.

It reads PromQL as tokens, not as a grammar: `promtool check rules` and a real Prometheus do the
rest. Exit codes: 0 all is well, 1 something does not fit (each fault is a line), 2 it could not look.
"""

import json
import pathlib
import re
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "packaging/grafana/tidegate.json"
ALERTS = ROOT / "packaging/prometheus/alerts.yaml"
NAMES = ROOT / "src/telemetry/metrics/names.rs"
PART = 78  # the code of a test that left a part of itself out

# Families without a series until something happens or is set up, with their labels.
SOMETIMES = {
    # a call came to it
    "tidegate_requests": "route upstream code outcome",
    "tidegate_requests_in_flight": "route upstream",
    "tidegate_request_duration_seconds": "route upstream",
    "tidegate_time_to_first_byte_seconds": "route upstream",
    "tidegate_time_to_first_token_seconds": "route upstream",
    "tidegate_overhead_seconds": "route upstream",
    "tidegate_queue_wait_seconds": "route upstream",
    "tidegate_settle_drift_tokens": "route upstream",
    "tidegate_request_bytes": "route upstream",
    "tidegate_response_bytes": "route upstream",
    "tidegate_stream_events": "route upstream",
    "tidegate_tokens": "upstream model type",
    "tidegate_spend_dollars": "route upstream model",
    "tidegate_unpriced_calls": "model",
    "gen_ai_client_operation_duration_seconds": "gen_ai_provider_name gen_ai_operation_name gen_ai_request_model error_type",
    "gen_ai_client_token_usage": "gen_ai_provider_name gen_ai_operation_name gen_ai_request_model gen_ai_token_type",
    "gen_ai_server_time_to_first_token_seconds": "gen_ai_provider_name gen_ai_operation_name gen_ai_request_model",
    "gen_ai_server_time_per_output_token_seconds": "gen_ai_provider_name gen_ai_operation_name gen_ai_request_model",
    "tidegate_agent_requests": "agent team outcome",
    "tidegate_agent_tokens": "agent team type",
    "tidegate_agent_spend_dollars": "agent team",
    "tidegate_agent_saved_dollars": "agent team",
    "tidegate_agent_wait_seconds": "agent team",
    # a policy has a limit, a cache or a guard
    "tidegate_limit_refusals": "policy measure mode",
    "tidegate_limit_used_ratio": "policy measure mode",
    "tidegate_cache_requests": "route upstream result",
    "tidegate_cache_saved_tokens": "route upstream",
    "tidegate_cache_saved_dollars": "route upstream",
    "tidegate_cache_entries": "policy tier",
    "tidegate_cache_bytes": "policy tier",
    "tidegate_cache_budget_bytes": "policy tier",
    "tidegate_cache_stores": "policy tier",
    "tidegate_cache_evictions": "policy",
    "tidegate_cache_expired": "policy",
    "tidegate_cache_disk_reads": "policy",
    "tidegate_cache_disk_dropped": "policy",
    "tidegate_cache_disk_faults": "policy kind",
    "tidegate_cache_disk_healthy": "policy",
    "tidegate_cache_questions": "policy",
    "tidegate_cache_alike_looks": "policy",
    "tidegate_cache_alike_hits": "policy kind",
    "tidegate_cache_alike_served": "policy",
    "tidegate_cache_alike_trials": "policy verdict",
    "tidegate_cache_alike_forgone_dollars": "policy",
    "tidegate_cache_alike_precision_ratio": "policy bound",
    "tidegate_cache_alike_threshold": "policy",
    "tidegate_cache_alike_quarantined": "policy",
    # sessions have ended, a second request was sent, places are bounded
    "tidegate_agent_run_seconds": "agent team",
    "tidegate_hedges": "upstream result",
    "tidegate_upstream_attempts": "upstream verdict",
    "tidegate_upstream_slots": "upstream",
    # there is a collector
    "tidegate_telemetry_sent": "signal",
    "tidegate_telemetry_dropped": "signal",
    # there is a state directory
    "tidegate_store_healthy": "",
    "tidegate_store_commits": "",
    "tidegate_store_operations": "",
    "tidegate_store_refused": "",
    "tidegate_state_free_bytes": "",
    # a route has a lane
    "tidegate_lane_running": "route",
    "tidegate_lane_waiting": "route",
    "tidegate_lane_slots": "route",
    # there are tasks, webhooks
    "tidegate_tasks": "state",
    "tidegate_tasks_submitted": "",
    "tidegate_tasks_ended": "state",
    "tidegate_task_retries": "reason",
    "tidegate_tasks_refused": "reason",
    "tidegate_task_submit_seconds": "",
    "tidegate_task_queue_wait_seconds": "",
    "tidegate_task_oldest_queued_seconds": "",
    "tidegate_task_kept_bytes": "kind",
    "tidegate_webhooks_sent": "",
    "tidegate_webhooks_failed": "",
    "tidegate_webhooks_given_up": "",
    "tidegate_webhooks_waiting": "",
    # something went wrong
    "tidegate_agent_refusals": "agent team reason",
    "tidegate_refusals": "source reason",
    "tidegate_gate_refusals": "reason",
    "tidegate_connections_refused": "reason",
    "tidegate_runaway": "action",
    "tidegate_overload_refused": "level",
    "tidegate_pool_dial_failures": "upstream reason",
    "tidegate_pool_retired": "upstream reason",
    "tidegate_upstream_breaker_opened": "upstream why",
    "tidegate_upstream_ejections": "upstream why",
    "tidegate_upstream_deadlines": "upstream kind",
    # a listener has TLS
    "tidegate_tls_certificate_not_after_timestamp_seconds": "listener",
    # the kernel sets a bound, and the sandbox shows it
    "process_cpu_seconds": "",
    "process_resident_memory_bytes": "",
    "process_virtual_memory_bytes": "",
    "process_threads": "",
    "process_open_fds": "",
    "process_max_fds": "",
}

# Neither in a panel nor in a rule.
LEFT_OUT = {
    "process_virtual_memory_bytes": "address space that is reserved says nothing of memory that is used",
}

# What a scrape adds to every series, and what Prometheus makes itself.
SCRAPED = {"job", "instance", "namespace", "pod", "service", "container", "endpoint"}
BUILT_IN = {"up": set(), "ALERTS": {"alertname", "alertstate"}}

WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "inf", "nan"}
LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<range>\[[^\]]*\])|(?P<name>[a-zA-Z_:$][a-zA-Z0-9_:]*)"""
    r"""|(?P<number>[0-9.]+[a-z]*)|(?P<op>=~|!~|!=|==|<=|>=|[-+*/%^=<>(){},])|(?P<space>\s+)|(?P<odd>.)"""
)


class Cannot(Exception):
    """It could not look; the text says why."""


# --- what there is ----------------------------------------------------------------------------


def read(what: str) -> str:
    if "://" not in what:
        return pathlib.Path(what).read_text()
    with urllib.request.urlopen(what, timeout=10) as answer:
        return answer.read().decode()


def exposition(text: str) -> dict:
    """Names of families and their labels; those of samples are made by `series`."""
    kinds, families = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            kinds[name] = kind
            families[name] = set()
        elif line and not line.startswith("#"):
            # an exemplar may follow, with labels of its own
            found = re.match(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ", line.partition(" # {")[0])
            if not found:
                raise Cannot(f"no sample: {line[:80]}")
            sample, labels = found.groups()
            family = next((sample.removesuffix(end) for end in SUFFIXES if sample.removesuffix(end) in kinds), None)
            if family is None:
                raise Cannot(f"a sample without a type: {line[:80]}")
            families[family] |= set(re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="', labels or "")) - {"le"}
    if not families:
        raise Cannot("it has no metric: is that /metrics of the admin listener?")
    return {name: (kinds[name], labels) for name, labels in families.items()}


SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_info")


def named_in_source() -> dict:
    """Every name of names.rs with its kind."""
    rows = re.findall(r'= (Counter|Gauge|Histogram|Info) "([a-z_]+)"', NAMES.read_text())
    if not rows:
        raise Cannot(f"{NAMES}: no name is found, has its form changed?")
    return {name: kind.lower() for kind, name in rows}


def series(family: str, kind: str) -> list:
    """What its samples are called."""
    return {
        "counter": [f"{family}_total"],
        "info": [f"{family}_info"],
        "histogram": [f"{family}_bucket", f"{family}_sum", f"{family}_count"],
    }.get(kind, [family])


# --- what is asked for ------------------------------------------------------------------------


def tokens(expr: str) -> list:
    out = []
    for found in TOKEN.finditer(expr):
        kind = found.lastgroup
        if kind == "odd":
            raise Cannot(f"`{found.group()}` is not known in: {expr}")
        if kind not in ("space", "range"):
            out.append((kind, found.group()))
    return out


def asked(expr: str) -> tuple:
    """Metrics with the (label, operator, word) they are matched by; labels that are grouped by."""
    metrics, grouped = [], set()
    stream = tokens(expr)
    at = 0
    while at < len(stream):
        kind, text = stream[at]
        after = stream[at + 1][1] if at + 1 < len(stream) else ""
        at += 1
        if kind != "name":
            continue
        if text in LISTS:
            if after == "(":
                end = stream.index(("op", ")"), at)
                grouped |= {word for kind, word in stream[at:end] if kind == "name"}
                at = end + 1
        elif text.lower() in WORDS or text.startswith("$") or after == "(" or stream[at - 2 : at - 1] == [("name", "offset")]:
            continue
        elif after == "{":
            end = stream.index(("op", "}"), at)
            matchers = [part for part in stream[at + 1 : end] if part != ("op", ",")]
            triples = [matchers[i : i + 3] for i in range(0, len(matchers), 3)]
            metrics.append((text, [(name[1], op[1], word[1][1:-1]) for name, op, word in triples]))
            at = end + 1
        elif after in LISTS or text not in AGGREGATES:
            if text not in AGGREGATES:
                metrics.append((text, []))
    return metrics, grouped


AGGREGATES = {"sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev", "group"}


def of_dashboard() -> list:
    """(where, expression, labels of its legend)."""
    board = json.loads(DASHBOARD.read_text())
    out = []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            legend = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
            out.append((f"panel \"{panel['title']}\"", target["expr"], legend))
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            if not found:
                raise Cannot(f"variable {variable['name']}: no label_values(…)")
            out.append((f"variable {variable['name']}", found[1], {found[2]}))
    return out


def of_alerts() -> list:
    """The same of the rules. Reads the form that alerts.yaml is written in, which is less than YAML."""
    out, name, lines = [], None, ALERTS.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if found := re.match(r"      - (?:alert|record): (\S+)", line):
            name = found[1]
        elif found := re.match(r"        expr: (.*)", line):
            expr = found[1]
            if expr == ">-":
                expr = ""
                while at < len(lines) and lines[at].startswith("          "):
                    expr += " " + lines[at].strip()
                    at += 1
            out.append([f"rule {name}", expr, set()])
        elif out and (found := re.findall(r"\$labels\.(\w+)", line)):
            out[-1][2] |= set(found)
    if not out:
        raise Cannot(f"{ALERTS}: no rule is found")
    return [tuple(one) for one in out]


def recorded() -> dict:
    """Names that rules make, with the labels that they group by."""
    text = ALERTS.read_text()
    rows = re.findall(r"- record: (\S+)\n\s+expr: (.*)", text)
    return {name: asked(expr)[1] for name, expr in rows}


def source_words() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.rs")))


# --- the comparison ---------------------------------------------------------------------------


def known(families: dict, kinds: dict) -> dict:
    """Series and their labels, from the exposition first, then from SOMETIMES."""
    out = dict(BUILT_IN) | recorded()
    for family, labels in SOMETIMES.items():
        for name in series(family, kinds.get(family, "")):
            out[name] = set(labels.split())
    for family, (kind, labels) in families.items():
        for name in series(family, kind):
            out[name] = set(labels) | ({"le"} if name.endswith("_bucket") else set())
    for name in out:
        if name.endswith("_bucket"):
            out[name] = out[name] | {"le"}
    return out


def faults_of_queries(queries: list, there: dict, words: str) -> list:
    faults = []
    for where, expr, shown in queries:
        metrics, grouped = asked(expr)
        if not metrics:
            faults.append(f"{where}: names no metric: {expr}")
        labels = set(SCRAPED)
        for name, matchers in metrics:
            if name not in there:
                faults.append(f"{where}: there is no metric {name}")
                labels |= {label for label, _, _ in matchers}
                continue
            labels |= there[name]
            for label, _, word in matchers:
                if label not in there[name] | SCRAPED:
                    faults.append(f"{where}: {name} has no label {label}; it has {sorted(there[name])}")
                elif label not in SCRAPED and not word.startswith("$"):
                    faults += [
                        f"{where}: {label} of {name} is never \"{one}\", no file under src says it"
                        for one in word.split("|")
                        if one and f'"{one}"' not in words
                    ]
        for label in sorted((grouped | shown) - labels):
            faults.append(f"{where}: no metric in it has the label {label}")
        rest = shown - SCRAPED - grouped
        if grouped and rest and re.match(r"\s*(sum|max|min|avg|histogram_quantile)", expr) and " without " not in expr:
            faults += [f"{where}: the text shows {label}, which is summed away" for label in sorted(rest)]
    return faults


def faults_of_coverage(queries: list, families: dict, kinds: dict) -> list:
    used = {name for _, expr, _ in queries for name, _ in asked(expr)[0]}
    faults = []
    for family, kind in sorted((kinds | {name: kind for name, (kind, _) in families.items()}).items()):
        seen = any(name in used for name in series(family, kind))
        if not seen and family not in LEFT_OUT:
            faults.append(f"{family} is in no panel and in no rule: show it, or say why not in LEFT_OUT of {pathlib.Path(__file__).name}")
        if seen and family in LEFT_OUT:
            faults.append(f"{family} is shown, so it must not stand in LEFT_OUT")
        if family in families and family in SOMETIMES:
            real, said = families[family][1], set(SOMETIMES[family].split())
            if real and real != said:
                faults.append(f"{family} has the labels {sorted(real)}, SOMETIMES says {sorted(said)}")
    for family in sorted((SOMETIMES.keys() | LEFT_OUT.keys()) - kinds.keys()):
        faults.append(f"{family} stands in SOMETIMES or LEFT_OUT, and names.rs does not know it")
    for family in sorted(families.keys() - kinds.keys()):
        faults.append(f"{family} is in the exposition, and names.rs does not know it")
    return faults


def main(arguments: list) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    try:
        families, kinds = exposition(read(arguments[0])), named_in_source()
        queries = of_dashboard() + of_alerts()
        there = known(families, kinds)
        faults = faults_of_queries(queries, there, source_words()) + faults_of_coverage(queries, families, kinds)
    except (OSError, Cannot, ValueError) as why:
        print(f"cannot look: {why}")
        return 2
    for fault in faults:
        print(fault)
    absent = sorted(kinds.keys() - families.keys())
    print(
        f"{len(queries)} queries over {len(families)} metrics of this exposition, {len(absent)} more by name:",
        "all fit" if not faults else f"{len(faults)} faults",
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
