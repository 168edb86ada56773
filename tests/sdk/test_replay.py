"""What curl gets a second time, byte for byte: in every dialect, plain and streamed; and what it gets
from the disk after a restart (run.py restarts the sidecar between the two classes)."""

import pathlib
import shutil
import subprocess
import unittest

from cached import LOGS, PROXY, Cached, word
from harness import KEY

CHAT = '{"model":"gpt-sim",%s"messages":[{"role":"user","content":"tides, 潮"}]}'
RESPONSES = '{"model":"gpt-sim",%s"input":"tides, 潮"}'
MESSAGES = CHAT.replace("gpt-sim", "claude-sim").replace("{", '{"max_tokens":99,', 1)
GEMINI = '{"contents":[{"role":"user","parts":[{"text":"tides, 潮"}]}]}'
STREAM = '"stream":true,'
GENERATE = "/gemini/v1beta/models/gemini-sim"
# a name, the path, the body
CALLS = {
    "chat": ("/v1/chat/completions", CHAT % ""),
    "chat-stream": ("/v1/chat/completions", CHAT % (STREAM + '"n":1,')),
    "completions-stream": ("/v1/completions", '{"model":"gpt-sim","stream":true,"prompt":"Once"}'),
    "responses": ("/v1/responses", RESPONSES % ""),
    "responses-stream": ("/v1/responses", RESPONSES % (STREAM + '"store":false,')),
    "messages": ("/v1/messages", MESSAGES % ""),
    "messages-stream": ("/v1/messages", (MESSAGES % STREAM).replace("tides", "ebbs")),
    "gemini": (f"{GENERATE}:generateContent", GEMINI),
    "gemini-stream": (f"{GENERATE}:streamGenerateContent?alt=sse", GEMINI.replace("tides", "ebbs")),
    "gemini-array": (f"{GENERATE}:streamGenerateContent", GEMINI.replace("tides", "ebbs")),
    "ollama": ("/ollama/api/chat", CHAT.replace("gpt", "ollama") % STREAM.replace("true", "false")),
    "ollama-stream": ("/ollama/api/chat", CHAT.replace("gpt", "ollama").replace("tides", "ebbs") % ""),
    "parallel-tools": ("/origin/v1/chat/completions", CHAT % (STREAM + '"tools":[{"type":"function"}],')),
    "embeddings": ("/v1/embeddings", '{"model":"embed-sim","input":["ebb","flow"],"dimensions":64}'),
}
SCRIPT = "x-simulate: reasoning=7; tokens=150"


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class Replay(Cached):
    def setUp(self):
        super().setUp()
        # both classes ask as one agent; what each expects of the log is its own
        self.asks_as = "replay"
        self.kept = pathlib.Path(LOGS, "replay")
        self.kept.mkdir(exist_ok=True)

    def get(self, name, said, file):
        """Writes what curl got, and checks its head."""
        path, body = CALLS[name]
        head = self.kept / "head"
        version = ["--http2-prior-knowledge"] if file.endswith(".again") else []
        subprocess.run(
            ["curl", "-sS", "--max-time", "30", "-D", head, "-o", self.kept / file, "-H", f"x-agent-id: {self.asks_as}",
             "-H", f"authorization: Bearer {KEY}", "-H", "anthropic-version: 2023-06-01", "-H", SCRIPT, *version,
             "-H", "content-type: application/json", "--data-binary", body, PROXY + path],
            check=True,
        )  # fmt: skip
        lines = [line.split(": ", 1) for line in head.read_text().splitlines() if ": " in line]
        headers = {key.lower(): value for key, value in lines}
        self.assertEqual(word(headers), said, f"{name}: {headers}")
        return headers

    def same(self, name, file):
        compared = subprocess.run(["cmp", self.kept / name, self.kept / file], capture_output=True, check=False)
        self.assertEqual(compared.returncode, 0, compared.stdout + compared.stderr)


class Recorded(Replay):
    def test_a_replay_is_the_same_to_the_byte(self):
        with self.upstream(len(CALLS)):
            for name in CALLS:
                with self.subTest(name):
                    self.get(name, "miss", name)
                    self.assertGreater((self.kept / name).stat().st_size, 300)
                    self.get(name, "hit", f"{name}.again")
                    self.same(name, f"{name}.again")

    def tearDown(self):
        pass  # curl does not tell what was used


class AfterRestart(Replay):
    def test_from_the_disk_as_well(self):
        with self.upstream(0):
            for name in CALLS:
                with self.subTest(name):
                    headers = self.get(name, "hit", f"{name}.disk")
                    if name != "embeddings":
                        self.assertIn("detail=disk", headers["cache-status"])
                    self.same(name, f"{name}.disk")
                    self.assertIn("detail=memory", self.get(name, "hit", f"{name}.memory")["cache-status"])
                    self.same(name, f"{name}.memory")

    def tearDown(self):
        pass
