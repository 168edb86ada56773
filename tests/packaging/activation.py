"""The sidecar as systemd runs it, without systemd: sockets handed over by name, the notices READY,
RELOADING, WATCHDOG, STOPPING with a clean end on SIGTERM, and restarts under load.

A restart is what systemd does with a service whose sockets it holds: the old process is told to end
and drains, and the new one begins when the old is gone; connections wait in the socket's queue
meanwhile. So that running streams need not end first, a second trial starts the new process beside
the old one, as an upgrade by two units does. In both no connection may be refused and no call may
fail, and each stream must come to its end.
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

POLICY = """\
listen: systemd:proxy
admin: systemd:admin
server: { drain: { delay: 100ms, timeout: 20s } }
upstreams:
  simulator: { builtin: simulator, dialect: openai }
"""
FIRST_FD = 3
CALLERS = 8
STREAMS = 8
# a stream of 40 tokens, one each 100 ms: it begins before the restart and ends behind it
STREAM = "tokens=40; gap=100ms"


def listener():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(1024)
    return s


class Notices:
    """systemd's end of the notification socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.seen = []

    def wait(self, word, within=20):
        end = time.monotonic() + within
        while not any(word in notice for notice in self.seen):
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.seen.append(self.socket.recv(4096).decode().splitlines())
            except TimeoutError:
                sys.exit(f"no {word} within {within} s; seen: {self.seen}")
        found = next(notice for notice in self.seen if word in notice)
        self.seen.clear()
        return found


def start(directory, proxy, admin, notify="notify"):
    policy = pathlib.Path(directory, "config.yaml")
    policy.write_text(POLICY)
    # LISTEN_PID must be the process that reads it: the shell's own, which it becomes
    shell = 'export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"'
    # systemd hands them over as 3 and 4
    shell = f"exec {FIRST_FD}<&{proxy.fileno()} {FIRST_FD + 1}<&{admin.fileno()}; {shell}"
    environment = {
        "PATH": os.environ["PATH"],
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "proxy:admin",
        "NOTIFY_SOCKET": f"{directory}/{notify}",
        "WATCHDOG_USEC": "1000000",
    }
    return policy, subprocess.Popen(
        ["bash", "-c", shell, "bash", os.environ["TIDEGATE_BIN"], "run", "-c", str(policy)],
        env=environment, pass_fds=(proxy.fileno(), admin.fileno()), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def get(s, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{s.getsockname()[1]}{path}", timeout=5) as answer:
        return answer.status


class Load:
    """Callers on connections that they keep, as the SDKs do, each until told to end."""

    def __init__(self, port):
        self.port, self.going = port, True
        self.lock = threading.Lock()
        self.made, self.slowest, self.faults = 0, 0.0, []
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def call(self):
        body = json.dumps({"model": "any", "messages": [{"role": "user", "content": "hello"}]})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while self.going:
            begun = time.monotonic()
            fault = self.once(connection, body)
            with self.lock:
                self.made += 1
                self.slowest = max(self.slowest, time.monotonic() - begun)
                if fault:
                    self.faults.append(fault)
            time.sleep(0.002)

    @staticmethod
    def once(connection, body):
        try:
            kept = connection.sock is not None
            for again in (kept, False):
                try:
                    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
                    answer = connection.getresponse()
                    break
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                    # a kept connection that was closed while idle says nothing: every client tries
                    # a fresh one, and that one must do
                    connection.close()
                    if not again:
                        raise
            text = answer.read()
            return None if answer.status == 200 and b"completion_tokens" in text else (answer.status, text[:200])
        except OSError as error:
            connection.close()
            return repr(error)
        except http.client.HTTPException as error:
            connection.close()
            return repr(error)

    def end(self):
        self.going = False
        for thread in self.threads:
            thread.join()


class Stream(threading.Thread):
    """One answer that takes some seconds; `whole` when its last event came."""

    def __init__(self, port):
        super().__init__()
        self.port, self.whole, self.events, self.begun = port, False, 0, threading.Event()
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = json.dumps({"model": "any", "stream": True, "messages": [{"role": "user", "content": "hello"}]})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", "x-simulate": STREAM})
        for line in connection.getresponse():
            if line.startswith(b"data: "):
                self.events += 1
                self.whole = line.strip() == b"data: [DONE]"
                self.begun.set()


def restart(directory, proxy, admin, beside):
    """One restart under load; `beside`: the new process starts before the old one is told to end."""
    notices = Notices(f"{directory}/old")
    new_notices = Notices(f"{directory}/new")
    port = proxy.getsockname()[1]
    old = new = None
    try:
        _, old = start(directory, proxy, admin, "old")
        notices.wait("READY=1")
        load = Load(port)
        streams = [Stream(port) for _ in range(STREAMS)]
        for stream in streams:
            assert stream.begun.wait(20), "a stream does not begin"
        before = load.made
        told = time.monotonic()
        if beside:
            _, new = start(directory, proxy, admin, "new")
            new_notices.wait("READY=1")
        old.send_signal(signal.SIGTERM)
        served = None
        if beside:
            # the new one serves while the old one still streams
            time.sleep(0.5)
            assert old.poll() is None, "the old process has cut its streams"
            with load.lock:
                served = load.made
            time.sleep(0.5)
            assert load.made > served, "nobody serves during the drain"
        code = old.wait(timeout=40)
        assert code == 0, f"the old process ended with {code}"
        drained = time.monotonic() - told
        if not beside:
            _, new = start(directory, proxy, admin, "new")
            new_notices.wait("READY=1")
        meanwhile = load.made - before
        time.sleep(0.5)
        load.end()
        for stream in streams:
            stream.join()
        assert load.made > before + meanwhile, "the new process does not serve"
        assert not load.faults, f"{len(load.faults)} of {load.made} calls failed: {load.faults[:3]}"
        assert all(stream.whole for stream in streams), f"streams were cut: {[s.events for s in streams]}"
        print(
            f"activation: restart {'beside the old' if beside else 'behind the old'}: {load.made} calls,"
            f" 0 refused, 0 failed, {STREAMS} of {STREAMS} streams whole; drain {drained:.1f} s,"
            f" {meanwhile} calls meanwhile, slowest {load.slowest * 1000:.0f} ms"
        )
    finally:
        for process in (old, new):
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()


def notices(directory, proxy, admin):
    notices = Notices(f"{directory}/notify")
    policy, process = start(directory, proxy, admin)
    try:
        notices.wait("READY=1")
        assert get(proxy, "/v1/models") == 200, "the inherited socket does not serve"
        assert get(admin, "/readyz") == 200, "the inherited admin socket does not serve"

        notices.wait("WATCHDOG=1")

        policy.write_text(POLICY + "# changed\n")
        process.send_signal(signal.SIGHUP)
        notice = notices.wait("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in notice), notice
        notices.wait("READY=1")
        assert get(proxy, "/v1/models") == 200

        process.send_signal(signal.SIGTERM)
        notices.wait("STOPPING=1")
        assert process.wait(timeout=20) == 0, f"exit code {process.returncode}"
    finally:
        if process.poll() is None:
            process.kill()
    print("activation: notices ok")


def main():
    # numbers well above those that they are handed over as
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    proxy, admin = listener(), listener()
    for fd in spare:
        os.close(fd)
    for trial in (notices, lambda *to: restart(*to, beside=False), lambda *to: restart(*to, beside=True)):
        with tempfile.TemporaryDirectory() as directory:
            trial(directory, proxy, admin)
    print("activation: ok")


if __name__ == "__main__":
    main()
