"""The SDK's realtime client and plain `websockets` through a sidecar, to a scripted backend: events
in order, a line in the log that has their usage, and the right word when the sidecar ends.

    TIDEGATE_BIN=... python -m unittest test_realtime
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import openai
import websockets
from websockets.sync.client import connect
from websockets.sync.server import serve

BINARY = os.environ["TIDEGATE_BIN"]
KEY = os.environ.get("TIDEGATE_CANARY", "canary-of-realtime")
USAGE = {
    "total_tokens": 42,
    "input_tokens": 30,
    "output_tokens": 12,
    "input_token_details": {"cached_tokens": 10, "text_tokens": 30, "audio_tokens": 0},
    "output_token_details": {"text_tokens": 12, "audio_tokens": 0},
}
POLICY = """\
listen: 127.0.0.1:{proxy}
admin: 127.0.0.1:{admin}
server: {{ drain: {{ delay: 0s, timeout: 5s }} }}
upstreams: {{ up: {{ url: "http://127.0.0.1:{backend}" }} }}
routes: [{{ to: up }}]
"""


def answer(socket_):
    """A backend's side of a session."""

    def say(**event):
        socket_.send(json.dumps({"event_id": "e", **event}))

    model = socket_.request.path.partition("model=")[2]
    say(type="session.created", session={"type": "realtime", "model": model})
    for message in socket_:
        if json.loads(message)["type"] == "response.create":
            response = {"id": "r", "object": "realtime.response", "status": "in_progress", "output": []}
            say(type="response.created", response=response)
            for word in ("Hello", ", ", "tide"):
                place = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
                say(type="response.output_text.delta", delta=word, **place)
            done = {**response, "status": "completed", "usage": USAGE}
            say(type="response.done", response=done)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Realtime(unittest.TestCase):
    def setUp(self):
        self.reached = []

        def remember(_, request):
            self.reached.append(request)

        self.backend = serve(answer, "127.0.0.1", 0, process_request=remember)
        threading.Thread(target=self.backend.serve_forever, daemon=True).start()
        self.addCleanup(self.backend.shutdown)
        ports = {"proxy": free_port(), "admin": free_port(), "backend": self.backend.socket.getsockname()[1]}
        self.port = ports["proxy"]
        self.log = tempfile.TemporaryFile()
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as policy:
            policy.write(POLICY.format(**ports))
        self.addCleanup(pathlib.Path(policy.name).unlink)
        self.sidecar = subprocess.Popen(
            [BINARY, "run", "-c", policy.name],
            stdout=self.log, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]},
        )
        self.addCleanup(self.end)
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{ports['admin']}/readyz", timeout=1).close()
                return
            except OSError:
                self.assertLess(time.monotonic(), until, "it does not start")
                time.sleep(0.05)

    def end(self):
        if self.sidecar.poll() is None:
            self.sidecar.send_signal(signal.SIGTERM)
            self.sidecar.wait(20)

    def line(self):
        """The one line of the log, once the sidecar has ended."""
        self.end()
        self.log.seek(0)
        (line,) = [json.loads(line) for line in self.log.read().splitlines()]
        self.assertNotIn(KEY, json.dumps(line))
        return line

    def test_the_sdk_hears_all_events_in_order(self):
        client = openai.OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{self.port}/v1", max_retries=0)
        url = f"ws://127.0.0.1:{self.port}/v1"
        client = client.with_options(websocket_base_url=url)
        heard = []
        with client.realtime.connect(model="gpt-realtime") as session:
            self.assertEqual(session.recv().type, "session.created")
            for _ in range(2):
                session.response.create()
                for event in session:
                    heard.append(event)
                    if event.type == "response.done":
                        break
        once = ["response.created", *["response.output_text.delta"] * 3, "response.done"]
        self.assertEqual([event.type for event in heard], once * 2)
        self.assertEqual("".join(event.delta for event in heard[1:4]), "Hello, tide")
        self.assertEqual(heard[-1].response.usage.total_tokens, 42)
        self.assertEqual(self.reached[0].headers["authorization"], f"Bearer {KEY}")
        self.assertNotIn("sec-websocket-extensions", self.reached[0].headers)
        line = self.line()
        self.assertEqual((line["input_tokens"], line["output_tokens"]), (60, 24))
        self.assertEqual((line["model"], line["outcome"]), ("gpt-realtime", "complete"))

    def test_a_plain_client_is_told_when_the_sidecar_ends(self):
        url = f"ws://127.0.0.1:{self.port}/v1/realtime?model=m"
        with connect(url, additional_headers={"authorization": f"Bearer {KEY}"}) as session:
            self.assertEqual(json.loads(session.recv())["type"], "session.created")
            self.sidecar.send_signal(signal.SIGTERM)
            with self.assertRaises(websockets.ConnectionClosed) as closed:
                session.recv(timeout=10)
        self.assertEqual(closed.exception.rcvd.code, 1001)
        self.assertEqual(self.line()["error"], "draining")


if __name__ == "__main__":
    unittest.main()
