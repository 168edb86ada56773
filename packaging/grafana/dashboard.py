#!/usr/bin/env python3
"""Writes tidegate.json, the dashboard for Grafana 11 and newer.

    packaging/grafana/dashboard.py            writes it
    packaging/grafana/dashboard.py --check    fails if the file is not what this writes

The file is for people to import, this is for people to change: a panel is a line here and eighty
there. Metric names come from src/telemetry/metrics/names.rs; tests/observe/check.py holds both
together. Rates are per second, but money, which is per hour.
"""

import json
import pathlib
import sys

FILE = pathlib.Path(__file__).with_name("tidegate.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# What the variables above the dashboard leave of a family, by the labels that it has.
ALL = '{job=~"$job", instance=~"$instance"}'
ROUTE = '{job=~"$job", instance=~"$instance", route=~"$route"}'
UPSTREAM = '{job=~"$job", instance=~"$instance", upstream=~"$upstream"}'
BOTH = '{job=~"$job", instance=~"$instance", route=~"$route", upstream=~"$upstream"}'
AGENT = '{job=~"$job", instance=~"$instance", agent=~"$agent"}'

FAILED = "truncated|upstream_error|upstream_broken|deadline_connect|deadline_first_byte|deadline_first_content|deadline_idle|deadline_between_tokens|deadline_total"


def narrow(where: str, more: str) -> str:
    """A selector with one more condition."""
    return where.removesuffix("}") + ", " + more + "}"


def rate(name: str, where: str, by: str = "") -> str:
    of = f" by ({by})" if by else ""
    return f"sum{of} (rate({name}{where}[$__rate_interval]))"


def grown(name: str, where: str, by: str) -> str:
    """Over the time that is shown."""
    return f"sum by ({by}) (increase({name}{where}[$__range]))"


def now(name: str, where: str, by: str = "") -> str:
    of = f" by ({by})" if by else ""
    return f"sum{of} ({name}{where})"


def quantile(share: float, name: str, where: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({name}_bucket{where}[$__rate_interval])))"


def quantiles(name: str, where: str, shares=(0.5, 0.95, 0.99)) -> list:
    return [(quantile(share, name, where), f"p{share * 100:g}") for share in shares]


def targets(lines: list, instant: bool = False) -> list:
    return [
        {
            "datasource": SOURCE,
            "refId": chr(ord("A") + at),
            "expr": expr,
            "legendFormat": legend,
            "editorMode": "code",
            **({"instant": True, "range": False, "format": "table"} if instant else {"range": True}),
        }
        for at, (expr, legend) in enumerate(lines)
    ]


class Board:
    """Panels from left to right and from top to bottom, 24 columns wide."""

    def __init__(self) -> None:
        self.panels: list = []
        self.x = self.y = self.height = 0

    def add(self, width: int, height: int, panel: dict) -> None:
        if self.x + width > 24:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        place = {"h": height, "w": width, "x": self.x, "y": self.y}
        self.panels.append({"id": len(self.panels) + 1, "gridPos": place, **panel})
        self.x, self.height = self.x + width, max(self.height, height)

    def row(self, title: str) -> None:
        self.x, self.y, self.height = 0, self.y + self.height, 0
        self.add(24, 1, {"type": "row", "title": title, "collapsed": False, "panels": []})
        self.x, self.y, self.height = 0, self.y + 1, 0

    def stat(self, title: str, unit: str, expr: str, help: str, steps=(), decimals=None) -> None:
        colours = [{"color": "text", "value": None}, *({"color": c, "value": v} for v, c in steps)]
        defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": colours}, "noValue": "–"}
        if decimals is not None:
            defaults["decimals"] = decimals
        self.add(3, 4, {
            "type": "stat", "title": title, "description": help, "datasource": SOURCE,
            "targets": targets([(expr, "")]),
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "value", "graphMode": "area", "textMode": "value", "justifyMode": "auto",
                "orientation": "auto", "wideLayout": True,
            },
        })

    def graph(self, title: str, unit: str, lines: list, help: str = "", width: int = 8, stack: bool = False,
              top=None, dashed: str = "") -> None:
        """Lines over time. `dashed`: a pattern of names that are bounds and not what is measured."""
        custom = {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if stack else 8, "showPoints": "never",
            "spanNulls": False, "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        }
        defaults = {"unit": unit, "min": 0, "custom": custom, "color": {"mode": "palette-classic"}}
        if top is not None:
            defaults["max"] = top
        overrides = []
        if dashed:
            overrides = [{
                "matcher": {"id": "byRegexp", "options": dashed},
                "properties": [
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                    {"id": "custom.fillOpacity", "value": 0},
                ],
            }]
        self.add(width, 8, {
            "type": "timeseries", "title": title, "description": help, "datasource": SOURCE,
            "targets": targets(lines),
            "fieldConfig": {"defaults": defaults, "overrides": overrides},
            "options": {
                "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
        })

    def states(self, title: str, lines: list, words: list, help: str, width: int = 8) -> None:
        """A number that stands for a word, over time. `words`: word and colour, from 0 up."""
        mapping = {str(at): {"text": word, "color": colour, "index": at} for at, (word, colour) in enumerate(words)}
        self.add(width, 8, {
            "type": "state-timeline", "title": title, "description": help, "datasource": SOURCE,
            "targets": targets(lines),
            "fieldConfig": {
                "defaults": {
                    "mappings": [{"type": "value", "options": mapping}],
                    "custom": {"lineWidth": 0, "fillOpacity": 80},
                    "color": {"mode": "thresholds"},
                    "thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}]},
                },
                "overrides": [],
            },
            "options": {
                "mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
                "tooltip": {"mode": "single", "sort": "none"},
            },
        })

    def table(self, title: str, keys: list, columns: list, help: str, width: int = 24) -> None:
        """One line for each value of `keys`; columns are name, unit and expression."""
        letters = [chr(ord("A") + at) for at in range(len(columns))]
        names = {f"Value #{letter}": name for letter, (name, _, _) in zip(letters, columns)}
        self.add(width, 9, {
            "type": "table", "title": title, "description": help, "datasource": SOURCE,
            "targets": targets([(expr, "") for _, _, expr in columns], instant=True),
            "transformations": [
                {"id": "merge", "options": {}},
                {"id": "organize", "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: at for at, name in enumerate([*keys, *names])},
                    "renameByName": names,
                }},
            ],
            "fieldConfig": {
                "defaults": {"custom": {"align": "auto", "filterable": True}, "noValue": "–"},
                "overrides": [
                    {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
                    for name, unit, _ in columns
                ],
            },
            "options": {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": columns[0][0], "desc": True}]},
        })


def overview(board: Board) -> None:
    board.row("Overview")
    calls = rate("tidegate_requests_total", BOTH)
    failed = rate("tidegate_requests_total", narrow(BOTH, f'outcome=~"{FAILED}"'))
    board.stat("Calls", "reqps", calls, "Calls that ended, however they did.")
    board.stat("Failed", "percentunit", f"({failed} or vector(0)) / ({calls} > 0)", "Share of calls that a backend failed or a deadline ended. Refusals by policy and clients that left are not in it.", [(0.01, "orange"), (0.05, "red")], 2)
    board.stat("In flight", "short", now("tidegate_requests_in_flight", BOTH), "Calls begun and not ended.", decimals=0)
    board.stat("First token, p95", "s", quantile(0.95, "tidegate_time_to_first_token_seconds", BOTH), "From the first byte of the request to the first content of a stream.", [(10, "orange"), (30, "red")])
    board.stat("Overhead, p99", "s", quantile(0.99, "tidegate_overhead_seconds", BOTH), "What Tidegate itself adds to a call.", [(0.002, "orange"), (0.01, "red")])
    board.stat("Spent", "currencyUSD", rate("tidegate_spend_dollars_total", BOTH) + " * 3600", "Dollars per hour, by the prices that are known.", decimals=2)
    board.stat("Saved", "currencyUSD", rate("tidegate_cache_saved_dollars_total", BOTH) + " * 3600", "Dollars per hour that calls did not cost because their answers were there already.", decimals=2)
    board.stat("Waiting", "short", now("tidegate_queue_depth", UPSTREAM), "Calls in the fair queue.", [(1, "orange")], 0)
    board.graph("Calls by outcome", "reqps", [(rate("tidegate_requests_total", BOTH, "outcome"), "{{outcome}}")], "How calls ended. `refused` is by policy.", stack=True)
    board.graph("First token", "s", quantiles("tidegate_time_to_first_token_seconds", BOTH), "Streams only. Waiting for a place is in it.")
    board.graph("Overhead", "s", quantiles("tidegate_overhead_seconds", BOTH), "Tidegate's own work, without waiting for a backend, a client or a queue.")
    board.graph("Money per hour", "currencyUSD", [
        (rate("tidegate_spend_dollars_total", BOTH) + " * 3600", "spent"),
        (rate("tidegate_cache_saved_dollars_total", BOTH) + " * 3600", "saved"),
    ])
    board.graph("Money per hour by model", "currencyUSD", [(rate("tidegate_spend_dollars_total", BOTH, "model") + " * 3600", "{{model}}")], stack=True)
    board.graph("Tokens", "short", [(rate("tidegate_tokens_total", UPSTREAM, "type"), "{{type}}")], "Per second, as backends reported them. Input includes cached input and cache writes, output includes reasoning: do not add them up.")
    board.graph("In flight by upstream", "short", [(now("tidegate_requests_in_flight", BOTH, "upstream"), "{{upstream}}")], stack=True)
    board.graph("Duration of calls", "s", quantiles("tidegate_request_duration_seconds", BOTH), "To the last byte of the answer.")
    board.graph("Calls by status", "reqps", [(rate("tidegate_requests_total", BOTH, "code"), "{{code}}")], "What clients were told; 499 for those that left.", stack=True)


def agents(board: Board) -> None:
    board.row("Agents")
    board.table("Who used what", ["agent", "team"], [
        ("calls", "short", grown("tidegate_agent_requests_total", AGENT, "agent, team")),
        ("tokens in", "short", grown("tidegate_agent_tokens_total", narrow(AGENT, 'type="input"'), "agent, team")),
        ("tokens out", "short", grown("tidegate_agent_tokens_total", narrow(AGENT, 'type="output"'), "agent, team")),
        ("spent", "currencyUSD", grown("tidegate_agent_spend_dollars_total", AGENT, "agent, team")),
        ("saved", "currencyUSD", grown("tidegate_agent_saved_dollars_total", AGENT, "agent, team")),
        ("waited", "s", grown("tidegate_agent_wait_seconds_total", AGENT, "agent, team")),
        ("refused", "short", grown("tidegate_agent_refusals_total", AGENT, "agent, team")),
    ], "Over the time that is shown.")
    board.graph("Calls by agent", "reqps", [(rate("tidegate_agent_requests_total", AGENT, "agent"), "{{agent}}")], stack=True)
    board.graph("Money per hour by agent", "currencyUSD", [(rate("tidegate_agent_spend_dollars_total", AGENT, "agent") + " * 3600", "{{agent}}")], stack=True)
    board.graph("Waiting by agent", "short", [(rate("tidegate_agent_wait_seconds_total", AGENT, "agent"), "{{agent}}")], "Seconds waited per second: how many calls wait at once, on average.", stack=True)
    board.graph("Refused, by agent", "reqps", [(rate("tidegate_agent_refusals_total", AGENT, "agent, reason"), "{{agent}}: {{reason}}")])
    board.graph("Output tokens by agent", "short", [(rate("tidegate_agent_tokens_total", narrow(AGENT, 'type="output"'), "agent"), "{{agent}}")], "Per second.", stack=True)
    board.graph("Runs of agents", "s", [(quantile(0.5, "tidegate_agent_run_seconds", AGENT, "agent"), "{{agent}}")], "Half of an agent's sessions took so long, from their first call to their last. Told ten minutes after that.")
    board.graph("Runs that go on", "short", [(now("tidegate_agent_runs", ALL, "instance"), "{{instance}}")], "Sessions with a call in the last ten minutes.")
    board.graph("Names with labels of their own", "short", [
        (now("tidegate_agent_labels", ALL, "instance"), "agents, {{instance}}"),
        (now("tidegate_model_labels", ALL, "instance"), "models, {{instance}}"),
    ], "Past a thousand, new agents and new models count as `other`.")


def limits(board: Board) -> None:
    board.row("Limits and queues")
    board.graph("Wait for a place", "s", quantiles("tidegate_queue_wait_seconds", BOTH), "Calls that did not wait are in it, with 0.")
    board.graph("Fair queue", "short", [(now("tidegate_queue_depth", UPSTREAM, "upstream, class"), "{{upstream}}, {{class}}")], "Calls that wait, by class.", stack=True)
    board.graph("Waiting for an upstream", "short", [(now("tidegate_upstream_waiting", UPSTREAM, "upstream"), "{{upstream}}")], "Calls that wait for a place under `concurrency`.")
    board.graph("Fullest bucket of each limit", "percentunit", [(f"max by (policy, measure, mode) (tidegate_limit_used_ratio{ALL})", "{{policy}}: {{measure}}, {{mode}}")], "At 100 % its calls wait or are refused; above it is debt of answers that were longer than expected.")
    board.graph("Limits that refused", "reqps", [(rate("tidegate_limit_refusals_total", ALL, "policy, measure, mode"), "{{policy}}: {{measure}}, {{mode}}")], "With mode observe, would have refused.")
    board.graph("Refusals by reason", "reqps", [(rate("tidegate_refusals_total", ALL, "source, reason"), "{{source}}: {{reason}}")], "Answers that no backend gave, and whose fault it was.")
    board.graph("Turned away at the gate", "reqps", [(rate("tidegate_gate_refusals_total", ALL, "reason"), "{{reason}}")], "Requests that are malformed or too large.")
    board.graph("Lanes of routes", "short", [
        (now("tidegate_lane_running", ROUTE, "route"), "{{route}}: running"),
        (now("tidegate_lane_waiting", ROUTE, "route"), "{{route}}: waiting"),
        (now("tidegate_lane_slots", ROUTE, "route"), "{{route}}: places"),
    ], "Routes with a `concurrency` of their own.", dashed=".*: places")
    board.graph("Guard against loops", "ops", [(rate("tidegate_runaway_total", ALL, "action"), "{{action}}")])
    board.graph("Prediction of tokens", "short", quantiles("tidegate_settle_drift_tokens", BOTH, (0.5, 0.95)), "How far the tokens expected of a call were from the real ones, either way.")
    board.graph("Calls without a known price", "reqps", [(rate("tidegate_unpriced_calls_total", ALL, "model"), "{{model}}")], "Charged by a stand-in: put the model into `prices`.")


def upstreams(board: Board) -> None:
    board.row("Upstreams")
    board.states("Breakers", [(f"max by (upstream) (tidegate_upstream_breaker_state{UPSTREAM})", "{{upstream}}")], [("closed", "green"), ("half open", "yellow"), ("open", "red")], "The worst of all instances. An open one gets no calls.")
    board.graph("Sent and not finished", "short", [(now("tidegate_upstream_in_flight", UPSTREAM, "upstream"), "{{upstream}}")], "Calls at each backend.")
    board.graph("First byte, p95", "s", [(quantile(0.95, "tidegate_time_to_first_byte_seconds", BOTH, "upstream"), "{{upstream}}")])
    board.graph("Connections", "short", [
        (now("tidegate_pool_connections_open", UPSTREAM, "upstream"), "{{upstream}}: open"),
        (now("tidegate_pool_connections_idle", UPSTREAM, "upstream"), "{{upstream}}: idle"),
    ], "Open includes idle.")
    board.graph("New and used again", "ops", [
        (rate("tidegate_pool_dialled_total", UPSTREAM), "made"),
        (rate("tidegate_pool_reused_total", UPSTREAM), "used again"),
        (rate("tidegate_pool_retired_total", UPSTREAM, "reason"), "closed: {{reason}}"),
    ], "Connections per second.")
    board.graph("Connections that failed", "ops", [(rate("tidegate_pool_dial_failures_total", UPSTREAM, "upstream, reason"), "{{upstream}}: {{reason}}")])
    board.graph("Attempts", "ops", [(rate("tidegate_upstream_attempts_total", UPSTREAM, "upstream, verdict"), "{{upstream}}: {{verdict}}")], "Times that calls were sent, by what came of it.")
    board.graph("Places", "short", [
        (now("tidegate_upstream_in_flight", UPSTREAM, "upstream"), "{{upstream}}"),
        (now("tidegate_upstream_slots", UPSTREAM, "upstream"), "{{upstream}}: most"),
    ], "Where `concurrency` bounds them.", dashed=".*: most")
    board.graph("Second requests", "ops", [(rate("tidegate_hedges_total", UPSTREAM, "upstream, result"), "{{upstream}}: {{result}}")], "Hedges that were sent: won, lost to the first, or both failed.")
    board.graph("Sent again", "ops", [(rate("tidegate_upstream_retries_total", UPSTREAM, "upstream, why"), "{{upstream}}: {{why}}")], "Attempts beyond a call's first, by what came of the one before; hedges are among them.")
    board.graph("Pacing", "short", [
        (rate("tidegate_upstream_rate_limited_total", UPSTREAM, "upstream"), "{{upstream}}: 429 per second"),
        (now("tidegate_pace_paused", UPSTREAM, "upstream"), "{{upstream}}: held back"),
    ], "Answers that said 429, and credentials and models that wait until the backend lets them go on.")
    board.graph("Deadlines that ran out", "ops", [(rate("tidegate_upstream_deadlines_total", UPSTREAM, "upstream, kind"), "{{upstream}}: {{kind}}")], "By what was waited for.")
    board.graph("Addresses and keys out of use", "short", [
        (now("tidegate_upstream_ejected_addresses", UPSTREAM, "upstream"), "{{upstream}}: addresses"),
        (now("tidegate_upstream_keys_aside", UPSTREAM, "upstream"), "{{upstream}}: keys"),
    ])
    board.graph("Health", "ops", [
        (rate("tidegate_upstream_breaker_opened_total", UPSTREAM, "upstream, why"), "{{upstream}} opened: {{why}}"),
        (rate("tidegate_upstream_ejections_total", UPSTREAM, "upstream, why"), "{{upstream}} address out: {{why}}"),
        (rate("tidegate_upstream_health_check_failures_total", UPSTREAM, "upstream"), "{{upstream}} check failed"),
    ])
    board.graph("Bytes", "Bps", [
        (rate("tidegate_request_bytes_total", BOTH), "requests"),
        (rate("tidegate_response_bytes_total", BOTH), "answers"),
    ], "Bodies only.")
    model = "gen_ai_request_model"
    board.graph("Duration by model, p95", "s", [(quantile(0.95, "gen_ai_client_operation_duration_seconds", narrow(ALL, 'error_type=""'), model), "{{gen_ai_request_model}}")], "Inferences that succeeded.")
    board.graph("First token by model, p95", "s", [(quantile(0.95, "gen_ai_server_time_to_first_token_seconds", ALL, model), "{{gen_ai_request_model}}")])
    board.graph("Time per output token by model, p50", "s", [(quantile(0.5, "gen_ai_server_time_per_output_token_seconds", ALL, model), "{{gen_ai_request_model}}")], "After the first, of complete streams with known usage.")
    board.graph("Failed inferences by model", "reqps", [(rate("gen_ai_client_operation_duration_seconds_count", narrow(ALL, 'error_type!=""'), f"{model}, error_type"), "{{gen_ai_request_model}}: {{error_type}}")])
    board.graph("Tokens of a call by model, p95", "short", [(quantile(0.95, "gen_ai_client_token_usage", ALL, f"{model}, gen_ai_token_type"), "{{gen_ai_request_model}}: {{gen_ai_token_type}}")])
    board.graph("Events of streams", "ops", [(rate("tidegate_stream_events_total", BOTH, "upstream"), "{{upstream}}")], "Events with content, about one a token.", stack=True)


def cache(board: Board) -> None:
    board.row("Cache")
    found = rate("tidegate_cache_requests_total", narrow(BOTH, 'result=~"hit|canonical|semantic|joined"'))
    board.graph("What the cache made of calls", "reqps", [(rate("tidegate_cache_requests_total", BOTH, "result"), "{{result}}")], "Calls that no policy caches are not in it.", stack=True)
    board.graph("Share of calls that cost nothing", "percentunit", [(f'({found} or vector(0)) / ({rate("tidegate_cache_requests_total", BOTH)} > 0)', "found")], "Hits of all kinds, and calls that joined another.", top=1)
    board.graph("Tokens saved", "short", [(rate("tidegate_cache_saved_tokens_total", BOTH, "route"), "{{route}}")], "Per second.", stack=True)
    board.graph("Money saved per hour", "currencyUSD", [(rate("tidegate_cache_saved_dollars_total", BOTH, "route") + " * 3600", "{{route}}")], stack=True)
    board.graph("Money saved per hour by agent", "currencyUSD", [(rate("tidegate_agent_saved_dollars_total", AGENT, "agent") + " * 3600", "{{agent}}")], stack=True)
    board.graph("Calls that others may join", "short", [(now("tidegate_cache_in_flight", ALL, "instance"), "{{instance}}")])
    board.graph("Weight", "bytes", [
        (now("tidegate_cache_bytes", ALL, "policy, tier"), "{{policy}}, {{tier}}"),
        (now("tidegate_cache_budget_bytes", ALL, "policy, tier"), "{{policy}}, {{tier}}: most"),
    ], dashed=".*: most")
    board.graph("Answers kept", "short", [
        (now("tidegate_cache_entries", ALL, "policy, tier"), "{{policy}}, {{tier}}"),
        (now("tidegate_cache_questions", ALL, "policy"), "{{policy}}: questions in other words"),
    ])
    board.graph("In and out", "ops", [
        (rate("tidegate_cache_stores_total", ALL, "policy, tier"), "{{policy}}: kept in {{tier}}"),
        (rate("tidegate_cache_evictions_total", ALL, "policy"), "{{policy}}: made room"),
        (rate("tidegate_cache_expired_total", ALL, "policy"), "{{policy}}: past its time"),
    ])
    board.graph("Disk", "ops", [
        (rate("tidegate_cache_disk_reads_total", ALL, "policy"), "{{policy}}: read"),
        (rate("tidegate_cache_disk_dropped_total", ALL, "policy"), "{{policy}}: not written"),
        (rate("tidegate_cache_disk_faults_total", ALL, "policy, kind"), "{{policy}}: {{kind}}"),
    ])
    board.states("Disk can be written", [(f"min by (policy) (tidegate_cache_disk_healthy{ALL})", "{{policy}}")], [("no", "red"), ("yes", "green")], "The worst of all instances.")
    board.graph("In other words: looked up", "ops", [
        (rate("tidegate_cache_alike_looks_total", ALL, "policy"), "{{policy}}: looked up"),
        (rate("tidegate_cache_alike_hits_total", ALL, "policy, kind"), "{{policy}}: found, {{kind}}"),
        (rate("tidegate_cache_alike_served_total", ALL, "policy"), "{{policy}}: given by likeness"),
    ])
    board.graph("In other words: right?", "percentunit", [
        (f"avg by (policy, bound) (tidegate_cache_alike_precision_ratio{ALL})", "{{policy}}: {{bound}}"),
        (f"avg by (policy) (tidegate_cache_alike_threshold{ALL})", "{{policy}}: threshold"),
    ], "Share of hits by likeness that are right, with its interval, and the least cosine that is served.", top=1, dashed=".*: (low|high)")
    board.graph("In other words: compared", "ops", [
        (rate("tidegate_cache_alike_trials_total", ALL, "policy, verdict"), "{{policy}}: {{verdict}}"),
        (rate("tidegate_cache_alike_quarantined_total", ALL, "policy"), "{{policy}}: no longer given"),
    ], "Hits that were compared with what the backend answered.")
    board.graph("In other words: money forgone per hour", "currencyUSD", [(rate("tidegate_cache_alike_forgone_dollars_total", ALL, "policy") + " * 3600", "{{policy}}")], "What hits cost that were only compared: what mode `on` would save.")


def tasks(board: Board) -> None:
    board.row("Tasks, webhooks and streams")
    board.graph("Tasks by state", "short", [(now("tidegate_tasks", ALL, "state"), "{{state}}")], stack=True)
    board.graph("Taken on and ended", "ops", [
        (rate("tidegate_tasks_submitted_total", ALL), "taken on"),
        (rate("tidegate_tasks_ended_total", ALL, "state"), "{{state}}"),
    ])
    board.graph("Tried again and refused", "ops", [
        (rate("tidegate_task_retries_total", ALL, "reason"), "tried again: {{reason}}"),
        (rate("tidegate_tasks_refused_total", ALL, "reason"), "refused: {{reason}}"),
    ])
    board.graph("Oldest in the queue", "s", [(f"max by (instance) (tidegate_task_oldest_queued_seconds{ALL})", "{{instance}}")])
    board.graph("Wait of tasks", "s", quantiles("tidegate_task_queue_wait_seconds", ALL, (0.5, 0.95)), "From a task's making to its first attempt.")
    board.graph("Until 202", "s", quantiles("tidegate_task_submit_seconds", ALL, (0.5, 0.99)), "Until a task is on the disk.")
    board.graph("Kept of tasks", "bytes", [(now("tidegate_task_kept_bytes", ALL, "kind"), "{{kind}}")], "Requests of those that are not over, answers of those that are.", stack=True)
    board.graph("Webhooks", "short", [
        (rate("tidegate_webhooks_sent_total", ALL), "taken per second"),
        (rate("tidegate_webhooks_failed_total", ALL), "failed per second"),
        (rate("tidegate_webhooks_given_up_total", ALL), "given up per second"),
        (now("tidegate_webhooks_waiting", ALL), "waiting"),
    ])
    board.graph("Streams to take up again", "short", [
        (now("tidegate_streams_kept", ALL), "kept"),
        (rate("tidegate_streams_resumed_total", ALL), "taken up per second"),
    ])


def process(board: Board) -> None:
    board.row("Process")
    board.table("Instances", ["instance", "version"], [
        ("up for", "s", f"sum by (instance, version) (tidegate_build_info{ALL} * on (job, instance) group_left () (time() - process_start_time_seconds{ALL}))"),
        ("policy loaded", "dateTimeAsIso", f"sum by (instance, version) (tidegate_build_info{ALL} * on (job, instance) group_left () (tidegate_config_last_reload_success_timestamp_seconds{ALL} * 1000))"),
        ("last reload good", "bool_yes_no", f"sum by (instance, version) (tidegate_build_info{ALL} * on (job, instance) group_left () tidegate_config_last_reload_successful{ALL})"),
    ], "What runs, since when, and whether its policy is the newest.", width=12)
    board.states("Pressure", [(f"max by (instance) (tidegate_pressure_level{ALL})", "{{instance}}")], [("calm", "green"), ("no sharing", "yellow"), ("no extras", "orange"), ("urgent", "red"), ("full", "dark-red")], "What is given up for want of memory.", width=6)
    board.states("Drain", [(f"max by (instance) (tidegate_drain_stage{ALL})", "{{instance}}")], [("serving", "green"), ("leaving", "yellow"), ("draining", "orange"), ("ending", "red")], "How far the end of the process is.", width=6)
    board.graph("Memory of calls", "bytes", [
        (now("tidegate_memory_held_bytes", ALL, "instance"), "{{instance}}"),
        (now("tidegate_memory_budget_bytes", ALL, "instance"), "{{instance}}: most"),
    ], "Bodies, answers, and what else calls hold, against `server.memory`.", dashed=".*: most")
    board.graph("Memory of the process", "bytes", [
        (now("process_resident_memory_bytes", ALL, "instance"), "{{instance}}: resident"),
    ], "The cache in memory is in it.")
    board.graph("Calls given up for want of memory", "ops", [
        (rate("tidegate_overload_refused_total", ALL, "level"), "refused, {{level}}"),
        (rate("tidegate_overload_cut_total", ALL), "cut"),
    ])
    board.graph("Processor time", "percentunit", [(rate("process_cpu_seconds_total", ALL, "instance"), "{{instance}}")], "100 % is one core.")
    board.graph("File descriptors", "short", [
        (now("process_open_fds", ALL, "instance"), "{{instance}}"),
        (now("process_max_fds", ALL, "instance"), "{{instance}}: most"),
    ], dashed=".*: most")
    board.graph("Threads", "short", [(now("process_threads", ALL, "instance"), "{{instance}}")])
    board.graph("Connections of clients", "short", [
        (now("tidegate_connections_open", ALL), "open"),
        (rate("tidegate_connections_accepted_total", ALL), "accepted per second"),
        (rate("tidegate_connections_refused_total", ALL, "reason"), "refused per second: {{reason}}"),
    ])
    board.graph("Connections not accepted", "ops", [(rate("tidegate_accept_errors_total", ALL, "reason"), "{{reason}}")], "Gone before it was their turn, or no descriptor was left.")
    board.states("Database", [(f"min by (instance) (tidegate_store_healthy{ALL})", "{{instance}}")], [("failed", "red"), ("well", "green")], "What is written to it is kept.", width=6)
    board.graph("Database writes", "ops", [
        (rate("tidegate_store_operations_total", ALL), "asked for"),
        (rate("tidegate_store_commits_total", ALL), "commits, each synced"),
        (rate("tidegate_store_refused_total", ALL), "refused"),
    ])
    board.graph("Free for the database", "bytes", [(now("tidegate_state_free_bytes", ALL, "instance"), "{{instance}}")], "On the disk of `state`.")
    board.graph("Log lines", "ops", [
        (rate("tidegate_log_lines_total", ALL, "log"), "{{log}}"),
        (rate("tidegate_log_dropped_lines_total", ALL, "log"), "{{log}}: lost"),
    ])
    board.graph("OpenTelemetry", "ops", [
        (rate("tidegate_telemetry_sent_total", ALL, "signal"), "{{signal}}: taken"),
        (rate("tidegate_telemetry_dropped_total", ALL, "signal"), "{{signal}}: lost"),
    ], "Spans, and data points of metrics, that the collector has taken or not.")
    board.graph("Usage records", "ops", [
        (rate("tidegate_usage_records_total", ALL), "written"),
        (rate("tidegate_usage_dropped_records_total", ALL), "lost"),
    ], "A lost record is a gap in `seq`.")
    board.graph("Reloads", "short", [(f"sum by (result) (increase(tidegate_config_reloads_total{ALL}[$__rate_interval]))", "{{result}}")])
    board.graph("Certificates end in", "s", [(f"tidegate_tls_certificate_not_after_timestamp_seconds{ALL} - time()", "{{instance}}: {{listener}}")])


def variable(name: str, label: str, metric: str, of: str, where: str = "") -> dict:
    query = f"label_values({metric}{where}, {of})"
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE,
        "definition": query, "query": {"query": query, "refId": f"variable-{name}", "qryType": 1},
        "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "options": [], "regex": "", "hide": 0,
    }


def dashboard() -> dict:
    board = Board()
    for part in (overview, agents, limits, upstreams, cache, tasks, process):
        part(board)
    return {
        "uid": "tidegate", "title": "Tidegate", "tags": ["tidegate", "llm"],
        "description": "Agents, limits, backends, cache and tasks of Tidegate.",
        "schemaVersion": 39, "version": 1, "editable": True, "graphTooltip": 1, "id": None,
        "time": {"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "browser",
        "timepicker": {}, "weekStart": "", "fiscalYearStartMonth": 0, "liveNow": False,
        "links": [], "annotations": {"list": []},
        "templating": {"list": [
            {
                "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
                "refresh": 1, "current": {}, "options": [], "regex": "", "hide": 0, "multi": False, "includeAll": False,
            },
            variable("job", "Job", "tidegate_build_info", "job"),
            variable("instance", "Instance", "tidegate_build_info", "instance", '{job=~"$job"}'),
            variable("route", "Route", "tidegate_requests_total", "route", ALL),
            variable("upstream", "Upstream", "tidegate_upstream_in_flight", "upstream", ALL),
            variable("agent", "Agent", "tidegate_agent_requests_total", "agent", ALL),
        ]},
        "panels": board.panels,
    }


def main() -> int:
    text = json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv[1:]:
        FILE.write_text(text)
        return 0
    if FILE.read_text() != text:
        print(f"{FILE.name} is not what {sys.argv[0]} writes: run it")
        return 1
    print(f"{FILE.name}: as it is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
