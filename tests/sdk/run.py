"""Runs the SDK tests: a simulator, the sidecar in front of it, the Python and the Node tests, the
command line tools; then the sidecar's pages and logs are kept for the search for the canary.
Limits are tested with a second sidecar (limits.yaml), whose agents have tidegate keys; the backend's
key, which only that sidecar has, is the canary. The cache is tested with a third one (cache.yaml),
with a backend of its own whose calls are counted; it is restarted once. Tasks are tested with a fourth
one (tasks.yaml), and with the example app that is served beside it.

    tests/run sdk                                        as part of the suite
    TIDEGATE_BIN=... tests/sdk/run.py [test_openai ...]  some of it, with the venv's Python
    TIDEGATE_BIN=... tests/sdk/run.py limits             all of limits, Node and the queue too
    TIDEGATE_BIN=... tests/sdk/run.py cache              all of the cache, Node and the restart too
    TIDEGATE_BIN=... tests/sdk/run.py tasks              background mode, Node too, and the example app
"""

import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import origin

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.setdefault("TIDEGATE_BIN", str(TARGET / "release/tidegate"))
CANARY = os.environ.setdefault("TIDEGATE_CANARY", "canary-" + os.urandom(12).hex())
LOGS = pathlib.Path(os.environ.setdefault("TIDEGATE_TEST_LOGS", str(TARGET / "test-logs"))) / "sdk"

# what the cache keeps on disk is searched for the canary like all that is written
STATE = LOGS / "cache-state"
# and so is what tasks keep
TASKS_STATE = LOGS / "tasks-state"

POLICY = """\
listen: 127.0.0.1:{proxy}
admin: 127.0.0.1:{admin}
server:
  head_timeout: 2s      # short, for the slow clients
  body_timeout: 2s
  write_timeout: 5s
  drain: {{ delay: 100ms, timeout: 5s }}
upstreams:
  # what a test makes the backend say of its limits is not to slow down the next one
  openai: {{ url: "http://127.0.0.1:{backend}", pacing: off }}
  anthropic: {{ url: "http://127.0.0.1:{backend}", pacing: off }}
telemetry: {{ level: debug, form: json }}
"""
# for each kind of agent in limits.yaml, and each SDK
KINDS = (
    "quick slow budget unpriced small bound bound-more line narrow "
    "counted-key counted-headers counted-stream counted-usage"
).split()
# what the cache may have made of a call that needed no backend
SPARED = ("hit", "joined", "canonical", "semantic")
SDKS = ("openai", "anthropic", "langchain", "node")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def get(url, headers=None):
    """Status and body; an error status is an answer too."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Servers:
    """The processes; ended by their own ids, and their output kept."""

    def __init__(self):
        ports = free_ports(12)
        self.proxy, self.admin, self.backend, self.limits, self.limits_admin, self.origin = (
            f"http://127.0.0.1:{port}" for port in ports[:6]
        )
        self.cache, self.cache_admin, self.cache_backend, self.tasks, self.tasks_admin, self.app = (
            f"http://127.0.0.1:{port}" for port in ports[6:]
        )
        proxy, admin, backend, limits, limits_admin, beside, *cache = ports[:9]
        policy = LOGS / "config.yaml"
        policy.write_text(POLICY.format(proxy=proxy, admin=admin, backend=backend))
        self.running = {}
        self.start("simulator", "simulate", "--listen", f"127.0.0.1:{backend}")
        self.start("tidegate", "run", "-c", str(policy))
        origin.serve(beside)
        self.keys, agents = make_keys()
        policy = LOGS / "limits.yaml"
        policy.write_text((HERE / "limits.yaml").read_text() + agents)
        values = {"LIMITS_PROXY": limits, "LIMITS_ADMIN": limits_admin, "BACKEND": backend, "ORIGIN": beside}
        environment = {name: str(value) for name, value in values.items()} | {"UPSTREAM_KEY": CANARY}
        self.start("limits", "run", "-c", str(policy), **environment)
        self.start("cache-simulator", "simulate", "--listen", f"127.0.0.1:{cache[2]}")
        values = {"CACHE_PROXY": cache[0], "CACHE_ADMIN": cache[1], "CACHE_BACKEND": cache[2], "ORIGIN": beside}
        self.of_cache = {name: str(value) for name, value in values.items()} | {"CACHE_STATE": str(STATE)}
        self.start_cache("cache")
        values = {"TASKS_PROXY": ports[9], "TASKS_ADMIN": ports[10], "BACKEND": backend}
        environment = {name: str(value) for name, value in values.items()} | {"TASKS_STATE": str(TASKS_STATE)}
        self.start("tasks", "run", "-c", str(HERE / "tasks.yaml"), **environment)
        self.wait(f"{self.tasks_admin}/readyz")
        self.wait(f"{self.backend}/simulate/seen")
        self.wait(f"{self.cache_backend}/simulate/seen")
        self.wait(f"{self.admin}/readyz")
        self.wait(f"{self.limits_admin}/readyz")

    def start(self, name, *arguments, **environment):
        with open(LOGS / f"{name}.stdout", "wb") as out, open(LOGS / f"{name}.stderr", "wb") as err:
            # nothing of this shell's environment but the path: no key, no proxy, no TIDEGATE_*
            environment["PATH"] = os.environ["PATH"]
            self.running[name] = subprocess.Popen([BINARY, *arguments], stdout=out, stderr=err, env=environment)

    def start_cache(self, name):
        self.start(name, "run", "-c", str(HERE / "cache.yaml"), **self.of_cache)
        self.wait(f"{self.cache_admin}/readyz")

    def wait(self, url):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                if get(url)[0] == 200:
                    return
            except OSError:
                pass
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise SystemExit(f"{name} ended with {process.returncode}:\n" + (LOGS / f"{name}.stderr").read_text())
            time.sleep(0.02)
        raise SystemExit(f"no answer from {url}")

    def stop(self):
        """True if each ended by itself, in time, with code 0."""
        return all([self.end(name) for name in reversed(list(self.running))])

    def end(self, name):
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            code = "killed after 15 s"
        if code != 0:
            print(f"{name} did not end cleanly on SIGTERM: {code}")
        return code == 0


def make_keys():
    """Agents and their keys, and the section that lets them in, as `tidegate keys new` prints it."""
    agents = [f"{kind}-{sdk}" for kind in KINDS for sdk in SDKS] + [f"crowd-{n}" for n in range(4)]
    keys, lines = {}, []
    for agent in agents:
        only = ["--model", "other-*"] if agent.startswith("narrow-") else []
        made = subprocess.run(
            [BINARY, "keys", "new", "--agent", agent, *only], capture_output=True, text=True, check=True, env={}
        )
        keys[agent] = made.stdout.strip()
        lines += [line for line in made.stderr.splitlines() if line.lstrip().startswith("- {")]
    return keys, "\n".join(["agents:", "  keys:", *lines, ""])


def access_log(name):
    return [json.loads(line) for line in (LOGS / f"{name}.stdout").read_text().splitlines()]


def requests_counted(metrics):
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("tidegate_requests_total{")
    )


def one_line_a_request(name, admin):
    """As many lines in the access log as requests in the metrics; what is turned away before it has
    a route, as for a wrong key, is counted apart."""
    time.sleep(1)
    counted = requests_counted(get(f"{admin}/metrics")[1].decode())
    lines = [line for line in access_log(name) if "route" in line]
    print(f"{name}: requests in the metrics: {counted:.0f}, lines in the access log: {len(lines)}")
    return counted == len(lines) and counted > 0


def each_call_is_expected():
    """An agent's calls in the access log are those that its test expects, and no other: an SDK that
    tries again where it should not is found here, too."""
    expected, logged = collections.defaultdict(list), collections.defaultdict(list)
    for line in (LOGS / "expected-calls.jsonl").read_text().splitlines():
        entry = json.loads(line)
        expected[entry["agent"]] += map(tuple, entry["calls"])
    for line in access_log("limits"):
        logged[line.get("agent")].append((line["status"], line.get("error")))
    # lines of several workers may change places
    ok = True
    for agent in sorted(expected.keys() | logged.keys(), key=str):
        want, got = (sorted(calls[agent], key=str) for calls in (expected, logged))
        if want != got:
            print(f"calls of {agent}: expected {want}, in the access log {got}")
            ok = False
    print(f"calls in the access log, as expected: {sum(map(len, logged.values()))} of {len(logged)} agents")
    return ok and len(logged) > 1


def keys_are_written_nowhere(keys):
    """No tidegate key in what the processes wrote, nor the middle of one."""
    files = [path for path in LOGS.iterdir() if path.is_file()]
    found = {
        path.name
        for path in files
        for key in keys.values()
        for part in (key, key[12:28])
        if part.encode() in path.read_bytes()
    }
    if found:
        print(f"a tidegate key was written where it must not be: {sorted(found)}")
    return not found and len(keys) > 0


def carry_the_canary(servers):
    """The key does reach the backend, and the number of requests that carried it is kept."""
    status, body = get(f"{servers.proxy}/openai/simulate/echo", {"authorization": f"Bearer {CANARY}"})
    if status != 200 or CANARY.encode() not in body:
        print("the caller's key did not reach the backend")
        return False
    seen = json.loads(get(f"{servers.backend}/simulate/seen")[1])
    (LOGS / "canary-carried").write_text(f"{seen['requests']}\n")
    return True


def keep_pages(servers):
    for page in ("metrics", "state", "readyz?verbose", "healthz", "livez", "no-such-page"):
        name = page.split("?")[0]
        (LOGS / f"admin-{name}.txt").write_bytes(get(f"{servers.admin}/{page}")[1])
        (LOGS / f"limits-admin-{name}.txt").write_bytes(get(f"{servers.limits_admin}/{page}")[1])
    for path in ("v1/no-such-path", "%2e%2e/", "v1/chat/completions"):
        name = path.replace("/", "_").replace("%", "")
        (LOGS / f"answer-{name}.txt").write_bytes(get(f"{servers.proxy}/{path}", {"x-api-key": CANARY})[1])


def run(name, *command):
    print(f"-- {name}", flush=True)
    return subprocess.run(command, cwd=HERE, check=False).returncode == 0


def run_together(*all_of_them):
    """Several at once, for they mostly wait; what each says is shown when it has ended."""
    running = []
    for name, *command in all_of_them:
        out = tempfile.TemporaryFile()
        running.append((name, out, subprocess.Popen(command, cwd=HERE, stdout=out, stderr=subprocess.STDOUT)))
    ok = True
    for name, out, process in running:
        code = process.wait()
        out.seek(0)
        print(f"-- {name}\n{out.read().decode(errors='replace')}", flush=True)
        ok = ok and code == 0
    return ok


def node_test(name, file):
    """The command, or none where there is no Node."""
    modules = TARGET / "sdk/node"
    if shutil.which("node") is None or not (modules / "node_modules/openai").is_dir():
        print(f"-- {name}: skipped, no Node or no SDK")
        return []
    # beside its node_modules, where Node looks for what is imported
    return [(name, "node", "--test", "--test-reporter=spec", shutil.copy(HERE / file, modules))]


def test_limits(servers, python):
    """With limits: three suites beside each other, then what the access log says of them all."""
    return all([
        run_together(
            ("limits", *python, "test_limits"),
            ("queue", *python, "test_queue"),
            *node_test("limits, node", "limits.test.mjs"),
        ),
        one_line_a_request("limits", servers.limits_admin),
        each_call_is_expected(),
    ])


def test_cache(servers, python):
    """Answers given a second time, by memory and, after a restart, by the disk."""
    servers.chats_before = 0
    servers.chats_before = calls_of_cache(servers)
    ok = [
        run("cache", *python, "test_cache", "test_embeddings", "test_together", "test_cache_others"),
        all(run(*command) for command in node_test("cache, node", "cache.test.mjs")),
        run("replays", *python, "test_replay.Recorded"),
        one_line_a_request("cache", servers.cache_admin),
        the_cache_adds_up(servers, "cache", calls_of_cache(servers)),
        servers.end("cache"),
    ]
    before = calls_of_cache(servers)
    servers.start_cache("cache-again")
    ok += [
        run("replays, after a restart", *python, "test_replay.AfterRestart"),
        one_line_a_request("cache-again", servers.cache_admin),
        the_cache_adds_up(servers, "cache-again", calls_of_cache(servers) - before),
        what_the_tests_expect_of_the_cache(),
        the_canary_names_no_file(),
    ]
    return all(ok)


def test_tasks(servers, python):
    """Answers that are made in the background. No file of theirs holds the callers' credential."""
    ok = [
        run("background", *python, "test_background"),
        all(run(*command) for command in node_test("background, node", "background.test.mjs")),
        run("example", *python, "test_fastapi"),
    ]
    files = [path for path in TASKS_STATE.rglob("*") if path.is_file()]
    found = [path.name for path in files if CANARY.removeprefix("canary-").encode() in path.read_bytes()]
    print(f"files of tasks: {len(files)}, with the canary in them: {found}")
    return all(ok) and not found and sum(path.stat().st_size for path in files) > 10_000


def calls_of_cache(servers):
    """Calls that reached the cache's backends, without those that asked for their number."""
    looks = LOGS / "cache-looks"
    with looks.open("ab") as file:
        file.write(b".")
    requests = json.loads(get(f"{servers.cache_backend}/simulate/seen")[1])["requests"]
    chats = json.loads(get(f"{servers.origin}/seen")[1])["chats"]
    return requests - looks.stat().st_size + chats - servers.chats_before


def the_cache_adds_up(servers, name, calls):
    """Log, metrics and the page of the cache tell the same of calls, hits and what they saved; and the
    log's attempts are the calls that the backends have seen."""
    lines = [line for line in access_log(name) if "route" in line]
    words = collections.Counter(line["cache"] for line in lines if "cache" in line)
    saved = sum(line.get("saved_tokens", 0) for line in lines)
    counted, tokens = collections.Counter(), 0
    for line in get(f"{servers.cache_admin}/metrics")[1].decode().splitlines():
        if line.startswith("tidegate_cache_requests_total{"):
            counted[re.search('result="([a-z]+)"', line)[1]] += int(float(line.rsplit(" ", 1)[1]))
        if line.startswith("tidegate_cache_saved_tokens_total{"):
            tokens += int(float(line.rsplit(" ", 1)[1]))
    page = json.loads(get(f"{servers.cache_admin}/cache")[1])
    attempts = sum(line["attempts"] for line in lines)
    same = {
        "words": words == counted == collections.Counter(page["calls"]),
        "saved tokens": saved == tokens == page["saved_tokens"] > 0,
        "calls": attempts == calls,
        "spared calls": all(line["attempts"] == 0 for line in lines if line.get("cache") in SPARED),
    }
    print(f"{name}: {dict(words)}, {saved} tokens saved, {attempts} attempts, {calls} calls at the backends")
    for what, right in same.items():
        if not right:
            print(f"{name}: {what} do not add up: metrics {dict(counted)}, {tokens} tokens; page {page['calls']}, {page['saved_tokens']} tokens")
    return all(same.values())


def what_the_tests_expect_of_the_cache():
    """For each test's agent: how often the cache made what of a call, and the tokens that it saved."""
    told = collections.defaultdict(lambda: [collections.Counter(), 0])
    for line in access_log("cache"):
        if "cache" in line:
            told[line["agent"]][0][line["cache"]] += 1
            told[line["agent"]][1] += line.get("saved_tokens", 0)
    ok = True
    rows = [json.loads(line) for line in (LOGS / "expected-cache.jsonl").read_text().splitlines()]
    for row in rows:
        want = [+collections.Counter(row["words"]), row["saved"]]
        if told[row["agent"]] != want:
            print(f"cache of {row['agent']}: expected {want}, in the access log {told[row['agent']]}")
            ok = False
    print(f"what the cache made of calls, and saved, as expected of {len(rows)} tests")
    return ok and len(rows) > 1


def the_canary_names_no_file():
    names = [str(path.relative_to(STATE)) for path in STATE.rglob("*")]
    found = [name for name in names if CANARY in name or CANARY.removeprefix("canary-") in name]
    print(f"files of the cache: {len(names)}, with the canary in their names: {len(found)}")
    return not found and any(path.is_file() and path.stat().st_size > 10_000 for path in STATE.rglob("*"))


def main():
    only = sys.argv[1:]
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    servers = Servers()
    os.environ["TIDEGATE_TEST_DIRECT"], os.environ["TIDEGATE_TEST_PROXY"] = servers.backend, servers.proxy
    os.environ["TIDEGATE_TEST_ADMIN"] = servers.admin
    os.environ["TIDEGATE_TEST_LIMITS"], os.environ["TIDEGATE_TEST_ORIGIN"] = servers.limits, servers.origin
    os.environ["TIDEGATE_TEST_CACHE"], os.environ["TIDEGATE_TEST_CACHE_BACKEND"] = servers.cache, servers.cache_backend
    os.environ["TIDEGATE_TEST_TASKS"], os.environ["TIDEGATE_TEST_APP"] = servers.tasks, servers.app
    os.environ["TIDEGATE_TEST_KEYS"] = json.dumps(servers.keys)
    python = [sys.executable, "-m", "unittest", "--durations", "3"] if sys.version_info >= (3, 12) else [sys.executable, "-m", "unittest"]
    try:
        if only == ["limits"]:
            ok = [test_limits(servers, python)]
        elif only == ["cache"]:
            ok = [test_cache(servers, python)]
        elif only == ["tasks"]:
            ok = [test_tasks(servers, python)]
        elif only:
            ok = [run("python", *python, "-v", *only)]
        else:
            ok = [
                run("python", *python, "test_openai", "test_anthropic", "test_langchain"),
                all(run(*command) for command in node_test("node", "openai.test.mjs")),
                one_line_a_request("tidegate", servers.admin),
                test_limits(servers, python),
                test_cache(servers, python),
                test_tasks(servers, python),
                run("tools", *python, "test_tools", "test_frames"),
                run("realtime", *python, "test_realtime"),
                carry_the_canary(servers),
            ]
            keep_pages(servers)
        ok.append(keys_are_written_nowhere(servers.keys))
    finally:
        clean = servers.stop()
    return 0 if all(ok) and clean else 1


if __name__ == "__main__":
    sys.exit(main())
