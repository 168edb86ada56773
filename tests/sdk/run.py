"""Runs the SDK tests: a simulator, the sidecar in front of it, the Python and the Node tests, the
command line tools; then the sidecar's pages and logs are kept for the search for the canary.

    tests/run sdk                                        as part of the suite
    TIDEGATE_BIN=... tests/sdk/run.py [test_openai ...]  some of it, with the venv's Python
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("TIDEGATE_BIN", str(TARGET / "release/tidegate"))
CANARY = os.environ.setdefault("TIDEGATE_CANARY", "canary-" + os.urandom(12).hex())
LOGS = pathlib.Path(os.environ.setdefault("TIDEGATE_TEST_LOGS", str(TARGET / "test-logs"))) / "sdk"

POLICY = """\
listen: 127.0.0.1:{proxy}
admin: 127.0.0.1:{admin}
server:
  head_timeout: 2s      # short, for the slow clients
  body_timeout: 2s
  write_timeout: 5s
  drain: {{ delay: 100ms, timeout: 5s }}
upstreams:
  openai: {{ url: "http://127.0.0.1:{backend}" }}
  anthropic: {{ url: "http://127.0.0.1:{backend}" }}
telemetry: {{ level: debug, form: json }}
"""


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
    """The two processes; ended by their own ids, and their output kept."""

    def __init__(self):
        proxy, admin, backend = free_ports(3)
        self.proxy, self.admin, self.backend = (f"http://127.0.0.1:{port}" for port in (proxy, admin, backend))
        policy = LOGS / "config.yaml"
        policy.write_text(POLICY.format(proxy=proxy, admin=admin, backend=backend))
        self.running = {}
        self.start("simulator", "simulate", "--listen", f"127.0.0.1:{backend}")
        self.start("tidegate", "run", "-c", str(policy))
        self.wait(f"{self.backend}/simulate/seen")
        self.wait(f"{self.admin}/readyz")

    def start(self, name, *arguments):
        with open(LOGS / f"{name}.stdout", "wb") as out, open(LOGS / f"{name}.stderr", "wb") as err:
            # nothing of this shell's environment but the path: no key, no proxy, no TIDEGATE_*
            environment = {"PATH": os.environ["PATH"]}
            self.running[name] = subprocess.Popen([BINARY, *arguments], stdout=out, stderr=err, env=environment)

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
        clean = True
        for name, process in reversed(self.running.items()):
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                code = "killed after 15 s"
            if code != 0:
                print(f"{name} did not end cleanly on SIGTERM: {code}")
                clean = False
        return clean


def requests_counted(metrics):
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("tidegate_requests_total{")
    )


def one_line_a_request(servers):
    """As many lines in the access log as requests in the metrics."""
    time.sleep(1)
    counted = requests_counted(get(f"{servers.admin}/metrics")[1].decode())
    lines = [json.loads(line) for line in (LOGS / "tidegate.stdout").read_text().splitlines()]
    print(f"requests in the metrics: {counted:.0f}, lines in the access log: {len(lines)}")
    return counted == len(lines) and counted > 0


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
        (LOGS / f"admin-{page.split('?')[0]}.txt").write_bytes(get(f"{servers.admin}/{page}")[1])
    for path in ("v1/no-such-path", "%2e%2e/", "v1/chat/completions"):
        name = path.replace("/", "_").replace("%", "")
        (LOGS / f"answer-{name}.txt").write_bytes(get(f"{servers.proxy}/{path}", {"x-api-key": CANARY})[1])


def run(name, *command):
    print(f"-- {name}", flush=True)
    return subprocess.run(command, cwd=HERE, check=False).returncode == 0


def node_tests():
    modules = TARGET / "sdk/node"
    if shutil.which("node") is None or not (modules / "node_modules/openai").is_dir():
        print("-- node: skipped, no Node or no SDK")
        return True
    # beside its node_modules, where Node looks for what is imported
    test = shutil.copy(HERE / "openai.test.mjs", modules)
    return run("node", "node", "--test", "--test-reporter=spec", test)


def main():
    only = sys.argv[1:]
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    servers = Servers()
    os.environ["TIDEGATE_TEST_DIRECT"], os.environ["TIDEGATE_TEST_PROXY"] = servers.backend, servers.proxy
    os.environ["TIDEGATE_TEST_ADMIN"] = servers.admin
    python = [sys.executable, "-m", "unittest", "--durations", "3"] if sys.version_info >= (3, 12) else [sys.executable, "-m", "unittest"]
    try:
        if only:
            ok = [run("python", *python, "-v", *only)]
        else:
            ok = [
                run("python", *python, "test_openai", "test_anthropic", "test_langchain"),
                node_tests(),
                one_line_a_request(servers),
                run("tools", *python, "test_tools", "test_frames"),
                carry_the_canary(servers),
            ]
            keep_pages(servers)
    finally:
        clean = servers.stop()
    return 0 if all(ok) and clean else 1


if __name__ == "__main__":
    sys.exit(main())
