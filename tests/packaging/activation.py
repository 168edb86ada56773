"""The sidecar as systemd runs it, without systemd: sockets handed over by name, and the notices
READY, RELOADING, WATCHDOG, STOPPING with a clean end on SIGTERM."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

POLICY = """\
listen: systemd:proxy
admin: systemd:admin
server: { drain: { delay: 100ms, timeout: 5s } }
upstreams:
  simulator: { builtin: simulator, dialect: openai }
"""
FIRST_FD = 3


def listener():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(64)
    return s


class Notices:
    """systemd's end of the notification socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.seen = []

    def wait(self, word, within=10):
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


def start(directory, proxy, admin):
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
        "NOTIFY_SOCKET": f"{directory}/notify",
        "WATCHDOG_USEC": "1000000",
    }
    return policy, subprocess.Popen(
        ["bash", "-c", shell, "bash", os.environ["TIDEGATE_BIN"], "run", "-c", str(policy)],
        env=environment, pass_fds=(proxy.fileno(), admin.fileno()), stdout=subprocess.DEVNULL,
    )  # fmt: skip


def get(s, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{s.getsockname()[1]}{path}", timeout=5) as answer:
        return answer.status


def main():
    # numbers well above those that they are handed over as
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    proxy, admin = listener(), listener()
    for fd in spare:
        os.close(fd)
    with tempfile.TemporaryDirectory() as directory:
        notices = Notices(f"{directory}/notify")
        policy, process = start(directory, proxy, admin)
        try:
            notices.wait("READY=1")
            assert get(proxy, "/v1/models") == 200, "the inherited socket does not serve"
            assert get(admin, "/readyz") == 200, "the inherited admin socket does not serve"

            notices.wait("WATCHDOG=1", within=2)

            policy.write_text(POLICY + "# changed\n")
            process.send_signal(signal.SIGHUP)
            notice = notices.wait("RELOADING=1")
            assert any(line.startswith("MONOTONIC_USEC=") for line in notice), notice
            notices.wait("READY=1")
            assert get(proxy, "/v1/models") == 200

            process.send_signal(signal.SIGTERM)
            notices.wait("STOPPING=1")
            assert process.wait(timeout=10) == 0, f"exit code {process.returncode}"
        finally:
            if process.poll() is None:
                process.kill()
    print("activation: ok")


if __name__ == "__main__":
    main()
