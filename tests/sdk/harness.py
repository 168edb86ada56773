"""What the SDK tests share: addresses, clients in pairs, and the simulator's counters.

Each call is made twice, straight to the simulator and through the sidecar; what the SDK makes of
the two answers must be the same. The simulator's answers follow from the request alone, so "the
same" includes ids and times.
"""

import contextlib
import json
import os
import time
import unittest
import urllib.request

DIRECT = os.environ["TIDEGATE_TEST_DIRECT"]
PROXY = os.environ["TIDEGATE_TEST_PROXY"]
KEY = os.environ["TIDEGATE_CANARY"]
ERRORS = os.path.join(os.environ["TIDEGATE_TEST_LOGS"], "sdk", "errors.txt")


def simulate(script):
    """Keyword arguments of an SDK call that tell the simulator how to answer."""
    return {"extra_headers": {"x-simulate": script}}


def plain(value):
    """An SDK's object as plain data."""
    if hasattr(value, "model_dump"):
        # an embedding is a text where that was asked for, which the SDK's own type denies
        return value.model_dump(mode="json", warnings=False)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def seen():
    """The simulator's counters; asking for them counts as a request, which is taken off."""

    def ask():
        with urllib.request.urlopen(f"{DIRECT}/simulate/seen", timeout=5) as answer:
            return json.load(answer)

    first, second = ask(), ask()
    own = second["requests"] - first["requests"]
    asked = getattr(seen, "asked", 0) + 2 * own
    seen.asked = asked
    return {**second, "requests": second["requests"] - asked}


def wait_for(condition, within, what):
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.01)


class Pair(unittest.TestCase):
    """`direct` and `proxied` are clients of one SDK; a subclass makes them in setUpClass."""

    maxDiff = 4000

    def same(self, call):
        direct, proxied = plain(call(self.direct)), plain(call(self.proxied))
        self.assertEqual(direct, proxied)
        return proxied

    def same_failure(self, kind, call):
        """Both raise `kind` with the same status and body after equally many attempts."""
        outcomes = []
        for client in (self.direct, self.proxied):
            before = seen()["requests"]
            with self.assertRaises(kind) as caught:
                call(client)
            error = caught.exception
            self.note(error)
            outcomes.append(
                {
                    "type": type(error).__name__,
                    "status": getattr(error, "status_code", None),
                    "body": getattr(error, "body", None),
                    "attempts": seen()["requests"] - before,
                }
            )
        self.assertEqual(*outcomes)
        return outcomes[1]

    @staticmethod
    def note(error):
        """Errors are searched for the canary at the end of the run."""
        with open(ERRORS, "a", encoding="utf-8") as file:
            body = getattr(error, "body", "")
            file.write(f"{type(error).__name__}: {error} {body}\n")

    @contextlib.contextmanager
    def attempts(self, expected):
        before = seen()["requests"]
        yield
        self.assertEqual(seen()["requests"] - before, expected, "attempts that reached the backend")
