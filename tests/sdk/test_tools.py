"""What people hold against a proxy by hand: curl, nghttp, h2load, slowhttptest. Each test is
skipped where its tool is not installed."""

import json
import re
import shutil
import subprocess
import time
import unittest
import urllib.request

from harness import DIRECT, KEY, PROXY

BODY = '{"model":"gpt-sim","messages":[{"role":"user","content":"tides, 潮"}]}'
STREAM = BODY.replace("{", '{"stream":true,', 1)
PATH = "/v1/chat/completions"


def tool(name):
    return unittest.skipUnless(shutil.which(name), f"{name} is not installed")


def run(*command, timeout=60, **options):
    return subprocess.run(command, capture_output=True, timeout=timeout, check=False, **options)


def curl(base, *options, path=PATH, body=BODY):
    key = f"authorization: Bearer {KEY}"
    data = ["-H", "content-type: application/json", "--data-binary", body] if body else []
    return run("curl", "-sS", "--max-time", "30", "-H", key, *data, *options, base + path)


@tool("curl")
class Curl(unittest.TestCase):
    def test_versions_of_http(self):
        for body in (BODY, STREAM):
            expected = curl(DIRECT, body=body).stdout
            self.assertTrue(expected)
            for version in ("--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"):
                with self.subTest(version=version, stream=body is STREAM):
                    self.assertEqual(curl(PROXY, version, body=body).stdout, expected)

    def test_prior_knowledge_is_http2(self):
        got = curl(PROXY, "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_version} %{response_code}")
        self.assertEqual(got.stdout, b"2 200")

    def test_one_connection_serves_many_calls(self):
        got = run(
            "curl", "-sS", "-o", "/dev/null", "-w", "%{num_connects} ", f"{PROXY}/v1/models",
            "--next", "-sS", "-o", "/dev/null", "-w", "%{num_connects}", f"{PROXY}/v1/models",
        )
        self.assertEqual(got.stdout, b"1 0")

    def test_expect_continue(self):
        body = BODY.replace("tides", "tides " * 300_000)
        got = curl(PROXY, "-H", "expect: 100-continue", "--data-binary", "@-", body="", path=PATH)
        self.assertEqual(got.returncode, 0)
        sent = run(
            "curl", "-sS", "--max-time", "30", "-H", "expect: 100-continue", "-H", "content-type: application/json",
            "--data-binary", "@-", "-o", "/dev/null", "-w", "%{response_code}", PROXY + PATH, input=body.encode(),
        )
        self.assertEqual(sent.stdout, b"200", sent.stderr)

    def test_a_dying_stream_is_an_error_on_both_versions(self):
        for version, codes in (("--http1.1", (18, 52, 55, 56)), ("--http2-prior-knowledge", (18, 52, 56, 92))):
            with self.subTest(version):
                got = curl(PROXY, version, "-N", "-H", "x-simulate: fault=reset-mid=5; gap=5ms", body=STREAM)
                self.assertIn(got.returncode, codes, got.stdout[-200:])
                self.assertIn(b"data:", got.stdout)

    def test_head_and_get_of_the_root(self):
        for option in ("--head", "--get"):
            got = run("curl", "-sS", option, "-o", "/dev/null", "-w", "%{response_code}", PROXY + "/")
            self.assertEqual(got.stdout, b"200", option)

    def test_no_second_answer_on_a_dirty_backend_connection(self):
        """Bytes that the backend sends after its answer never become the next caller's answer."""
        expected = curl(DIRECT).stdout
        for _ in range(5):
            curl(PROXY, "-H", "x-simulate: fault=extra")
            self.assertEqual(curl(PROXY).stdout, expected)


@tool("nghttp")
class Http2(unittest.TestCase):
    def test_multiplexed_requests(self):
        got = run("nghttp", "-n", "-s", "-m", "20", f"{PROXY}/v1/models")
        self.assertEqual(got.returncode, 0)
        self.assertEqual(got.stdout.count(b" 200 "), 20, got.stdout[-400:])

    def test_continuation_and_padding(self):
        got = run("nghttp", "-v", "-n", "--continuation", "-b", "32", f"{PROXY}/v1/models")
        self.assertIn(b":status: 200", got.stdout[-4000:])

    @tool("h2load")
    def test_load(self):
        got = run("h2load", "-n", "2000", "-c", "4", "-m", "50", "-H", f"authorization: Bearer {KEY}", f"{PROXY}/v1/models")
        self.assertIn(b"2000 succeeded, 0 failed, 0 errored", got.stdout)


@tool("slowhttptest")
class SlowClients(unittest.TestCase):
    """600 slow connections for some seconds: they are ended, and others are served meanwhile."""

    def attack(self, *mode, seconds="8"):
        """How many of them were still connected in the end."""
        command = ["slowhttptest", "-c", "600", "-r", "300", "-l", seconds, "-p", "3", "-u", PROXY + PATH, *mode]
        slowest = 0.0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                while process.poll() is None:
                    begun = time.monotonic()
                    with urllib.request.urlopen(f"{PROXY}/v1/models", timeout=5) as answer:
                        self.assertTrue(json.load(answer))
                    slowest = max(slowest, time.monotonic() - begun)
                    time.sleep(0.1)
            finally:
                if process.poll() is None:
                    process.kill()
                said = process.stdout.read().decode(errors="replace")
        self.assertLess(slowest, 1.0, "others were served late")
        if "No open connections left" in said:
            return 0
        without_colours = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", said)
        reports = re.findall(r"connected:\s+(\d+)", without_colours)
        self.assertTrue(reports, said[-500:])
        return int(reports[-1])

    def test_slow_head(self):
        self.assertEqual(self.attack("-H", "-i", "1", "-x", "24"), 0)

    def test_slow_body(self):
        # a client notices its end when it sends again
        self.assertEqual(self.attack("-B", "-i", "4", "-s", "8192", "-x", "10", seconds="12"), 0)

    def test_slow_read(self):
        self.attack("-X", "-i", "1", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3")
