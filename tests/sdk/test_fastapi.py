"""examples/fastapi_tasks.py, served by uvicorn: what its users see."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

import httpx
from harness import wait_for

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/fastapi_tasks.py"


class Example(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.url = os.environ["TIDEGATE_TEST_APP"]
        log = open(os.path.join(os.environ["TIDEGATE_TEST_LOGS"], "sdk", "fastapi.txt"), "wb")
        port = cls.url.rsplit(":", 1)[1]
        cls.server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "fastapi_tasks:app", "--port", port],
            cwd=EXAMPLE.parent, stdout=log, stderr=log,
            env={"PATH": os.environ["PATH"], "TIDEGATE": os.environ["TIDEGATE_TEST_TASKS"], "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        log.close()
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.terminate)

        def up():
            try:
                return httpx.get(f"{cls.url}/openapi.json").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(up, 20, "the example serves")

    def ask(self, user, question):
        answer = httpx.post(f"{self.url}/questions", json={"question": question}, headers={"x-user": user})
        self.assertEqual(answer.status_code, 202, answer.text)
        return answer.json()["task"]

    def get(self, user, path, **headers):
        return httpx.get(self.url + path, headers={"x-user": user, **headers}, timeout=60)

    def events(self, user, task, **headers):
        """Number, name and data of each."""
        all_of_them = []
        for block in self.get(user, f"/tasks/{task}/events", **headers).text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                all_of_them.append((fields.get("id"), fields.get("event"), fields["data"]))
        return all_of_them

    def test_it_is_short(self):
        self.assertLessEqual(len(EXAMPLE.read_text().splitlines()), 30)

    def test_users_ask_and_come_back(self):
        task = self.ask("ada", "When does the tide turn?")
        shown = self.get("ada", f"/tasks/{task}?wait=10").json()
        while shown["state"] not in ("succeeded", "failed"):
            shown = self.get("ada", f"/tasks/{task}?wait=10").json()
        self.assertEqual((shown["id"], shown["state"]), (task, "succeeded"))
        whole = self.events("ada", task)
        numbered = [event for event in whole if event[0]]
        self.assertEqual([int(event[0]) for event in numbered], list(range(1, len(numbered) + 1)))
        self.assertEqual((numbered[-1][2], whole[-1][1]), ("[DONE]", "task.succeeded"))
        said = "".join(
            choice["delta"].get("content") or ""
            for event in numbered[:-1]
            for choice in json.loads(event[2])["choices"]
        )
        self.assertTrue(said)
        # a browser that comes back says what it had
        rest = self.events("ada", task, **{"last-event-id": "7"})
        self.assertEqual([event for event in rest if event[0]], numbered[7:])

    def test_users_see_their_own(self):
        task = self.ask("ada", "And who else knows?")
        for path in (f"/tasks/{task}", f"/tasks/{task}/events"):
            self.assertEqual(self.get("bob", path).status_code, 404)
            self.assertEqual(self.get("ada", path).status_code, 200)
        for bad in ("task_none", "%2e%2e", task + "%3Fwait=1"):
            self.assertIn(self.get("ada", f"/tasks/{bad}").status_code, (404, 422))
