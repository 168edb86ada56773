"""A real model, asked directly and through the sidecar; started by tests/real/run.

At temperature 0 with a fixed seed, one slot, and no reuse of the prompt's cache, llama.cpp's
server gives the same tokens each time. So the two answers must be equal byte for byte, but for
what is new in each answer by nature (NORMALISED below), and nothing else.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import anthropic
import openai

MODEL = "gemma-3-270m"
# the only differences that are allowed: ids, clock times, and measured speeds
NORMALISED = [
    (rb'"(id|item_id|response_id)":"[^"]*"', rb'"\1":"-"'),
    (rb'"(created|created_at|completed_at)":[0-9.]+', rb'"\1":0'),
    (rb'"timings":\{[^{}]*\}', rb'"timings":{}'),
]
PROMPTS = [
    "Why does the sea have tides?",
    "List three harbours in Europe.",
    "Übersetze ins Englische: Die Flut kommt. 潮が満ちる。🌊",
]
TOKENS = 48


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    def __init__(self, log, *command, environment=None):
        self.log = log
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment
            )

    def wait_ready(self, port, path, within):
        end = time.monotonic() + within
        while time.monotonic() < end:
            if self.child.poll() is not None:
                sys.exit(f"ended with {self.child.returncode}: see {self.log}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(f"not ready within {within} s: see {self.log}")

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


def post(port, path, body):
    """Status, content type, the body's bytes as they are on the wire after de-chunking, the time
    to the first of them, and to the last, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    begun = time.monotonic()
    connection.request(
        "POST", path, json.dumps(body),
        {"content-type": "application/json", "authorization": "Bearer none", "anthropic-version": "2023-06-01"},
    )
    answer = connection.getresponse()
    first = answer.read(1)
    first_at = time.monotonic() - begun
    data = first + answer.read()
    return answer.status, answer.getheader("content-type"), data, first_at, time.monotonic() - begun


def normalise(data):
    for pattern, replacement in NORMALISED:
        data = re.sub(pattern, replacement, data)
    return data


def cases():
    """Name, path and body of each comparison."""
    fixed = {"model": MODEL, "temperature": 0, "seed": 42, "cache_prompt": False}
    for number, prompt in enumerate(PROMPTS, 1):
        messages = [{"role": "user", "content": prompt}]
        chat = {**fixed, "messages": messages, "max_tokens": TOKENS}
        yield f"chat {number}", "/v1/chat/completions", chat
        yield f"chat stream {number}", "/v1/chat/completions", {
            **chat, "stream": True, "stream_options": {"include_usage": True},
        }
        yield f"messages stream {number}", "/v1/messages", {**chat, "stream": True}
        yield f"responses stream {number}", "/v1/responses", {
            **fixed, "input": prompt, "max_output_tokens": TOKENS, "stream": True,
        }


def compare(direct, proxied):
    print(f"{'answer':20} {'same':5} {'bytes':>7} {'events':>6}  first byte direct/sidecar  whole direct/sidecar")
    good = True
    for name, path, body in cases():
        a, b = post(direct, path, body), post(proxied, path, body)
        same = a[:2] == b[:2] and a[0] == 200 and normalise(a[2]) == normalise(b[2])
        good &= same
        print(
            f"{name:20} {'yes' if same else 'NO':5} {len(b[2]):7} {b[2].count(b'data:'):6}"
            f"  {a[3] * 1e3:9.0f} {b[3] * 1e3:9.0f} ms     {a[4]:7.2f} {b[4]:7.2f} s"
        )
        if not same:
            show_difference(a, b)
    return good


def cached(proxy, worked):
    """Each question twice through a cache: the same bytes, and the model does nothing for the second.
    `worked` tells what it has done so far."""
    good = True
    for name, path, body in cases():
        first = post(proxy, path, body)
        before = worked()
        second = post(proxy, path, body)
        same = first[:3] == second[:3] and first[0] == 200 and worked() == before
        good &= same
        print(f"cached {name:20} {'yes' if same else 'NO':5} {first[4]:7.2f} {second[4]:7.3f} s")
    return good


def background(proxy, direct, worked):
    """The SDK's background mode: polled, and as a stream that is dropped and taken up again. The text is
    that of a direct call, and the model has worked once for each."""
    c, d = (openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) for port in (proxy, direct))
    ask = {"model": MODEL, "temperature": 0, "max_output_tokens": TOKENS, "extra_body": {"cache_prompt": False}}
    good = True
    for prompt in PROMPTS:
        before = worked()
        want = d.responses.create(input=prompt, **ask).output_text
        once = worked() - before
        begun = time.monotonic()
        response = c.responses.create(input=prompt, background=True, **ask)
        answered = time.monotonic() - begun
        while response.status in ("queued", "in_progress"):
            time.sleep(0.1)
            response = c.responses.retrieve(response.id)
        took = time.monotonic() - begun
        events = []
        with c.responses.create(input=prompt, background=True, stream=True, **ask) as stream:
            for event in stream:
                events.append(event)
                if len(events) == 12:
                    break
        # events without a number are counted from 0
        last = getattr(events[-1], "sequence_number", None)
        last = len(events) - 1 if last is None else last
        events += c.responses.retrieve(events[0].response.id, stream=True, starting_after=last)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        same = (response.status, response.output_text, text) == ("completed", want, want)
        same &= worked() - before == 3 * once
        good &= same
        print(f"background           {'yes' if same else 'NO':5} id after {answered * 1e3:.0f} ms, polled {took:.2f} s  {want[:40]!r}")
    return good


def predicted(port):
    """Tokens that llama.cpp's server has made so far."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    return re.search(rb"^llamacpp:tokens_predicted_total (\S+)", connection.getresponse().read(), re.M)[1]


def show_difference(a, b):
    print("   ", a[:2], b[:2])
    left, right = normalise(a[2]).split(b"\n"), normalise(b[2]).split(b"\n")
    for x, y in zip(left, right, strict=False):
        if x != y:
            print("    direct :", x[:300])
            print("    sidecar:", y[:300])
            return
    print(f"    {len(left)} and {len(right)} lines")


def sdks(direct, proxied):
    """Each SDK call gives the same text and the same usage on both ways."""
    ask = [{"role": "user", "content": PROMPTS[0]}]
    extra = {"extra_body": {"cache_prompt": False}}
    good = True

    def openai_calls(port):
        c = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        fixed = {"model": MODEL, "messages": ask, "temperature": 0, "seed": 42, "max_tokens": TOKENS, **extra}
        answer = c.chat.completions.create(**fixed)
        yield "openai chat", answer.choices[0].message.content, answer.usage.total_tokens
        chunks = list(c.chat.completions.create(stream=True, stream_options={"include_usage": True}, **fixed))
        text = "".join(k.choices[0].delta.content or "" for k in chunks if k.choices)
        yield "openai chat stream", text, chunks[-1].usage.total_tokens
        answer = c.responses.create(model=MODEL, input=PROMPTS[0], temperature=0, max_output_tokens=TOKENS, **extra)
        yield "openai responses", answer.output_text, answer.usage.total_tokens
        yield "openai models", ",".join(model.id for model in c.models.list()), 0

    def anthropic_calls(port):
        c = anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="none")
        fixed = {"model": MODEL, "messages": ask, "max_tokens": TOKENS, "extra_body": {"cache_prompt": False, "temperature": 0, "seed": 42}}
        answer = c.messages.create(**fixed)
        yield "anthropic message", answer.content[0].text, answer.usage.output_tokens
        with c.messages.stream(**fixed) as stream:
            text = "".join(stream.text_stream)
            yield "anthropic stream", text, stream.get_final_message().usage.output_tokens
        yield "anthropic count", "", c.messages.count_tokens(model=MODEL, messages=ask).input_tokens

    for calls in (openai_calls, anthropic_calls):
        for a, b in zip(calls(direct), calls(proxied), strict=True):
            good &= a == b
            print(f"{a[0]:20} {'yes' if a == b else 'NO':5} {a[2]} tokens  {a[1][:50]!r}")
    return good


def agents(cache):
    """Claude Code and Codex, one question each, with an empty environment and a home of their own.
    Behind the sidecar stands the simulator: a model of 270 million parameters would talk on until
    their patience ends. What counts is that each run ends well and prints the simulator's words."""
    backend, proxy, admin = free_port(), free_port(), free_port()
    plain = "x-simulate: tool=0; tokens=12"
    with tempfile.TemporaryDirectory() as home:
        simulator = Process(cache / "simulator.log", os.environ["TIDEGATE_BIN"], "simulate", "--listen", f"127.0.0.1:{backend}")
        sidecar = start_sidecar(cache / "agents.log", cache / "agents.yaml", proxy, admin, backend)
        codex_home = pathlib.Path(home, "codex")
        codex_home.mkdir()
        name, value = plain.split(": ")
        (codex_home / "config.toml").write_text(
            f'model = "{MODEL}"\nmodel_provider = "sidecar"\n[model_providers.sidecar]\nname = "sidecar"\n'
            f'base_url = "http://127.0.0.1:{proxy}/v1"\nenv_key = "SIDECAR_KEY"\nwire_api = "responses"\n'
            f'http_headers = {{ "{name}" = "{value}" }}\n'
        )
        environment = {
            "PATH": f"{cache}/agents/node_modules/.bin:{os.environ['PATH']}",
            "HOME": home,
            "CODEX_HOME": str(codex_home),
            "SIDECAR_KEY": "dummy",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{proxy}",
            "ANTHROPIC_API_KEY": "dummy",
            "ANTHROPIC_MODEL": "claude-sim",
            "ANTHROPIC_CUSTOM_HEADERS": plain,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        try:
            simulator.wait_ready(backend, "/simulate/seen", 10)
            sidecar.wait_ready(admin, "/readyz", 10)
            return all([
                agent("Claude Code", ["claude", "--bare", "-p", "Say hello."], environment, home),
                agent("Codex", ["codex", "exec", "--skip-git-repo-check", "Say hello."], environment, home),
            ])
        finally:
            sidecar.end()
            simulator.end()


def agent(name, command, environment, home):
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, env=environment, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, timeout=120
        )
        code, said = done.returncode, (done.stdout or done.stderr).decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        code, said = "timeout", ""
    print(f"{name:20} exit {code} after {time.monotonic() - begun:.0f} s  {said[-90:]!r}")
    return code == 0 and said != ""


def start_sidecar(log, policy, proxy, admin, backend, more=""):
    policy.write_text(
        f"listen: 127.0.0.1:{proxy}\nadmin: 127.0.0.1:{admin}\nupstreams:\n"
        f'  openai: {{ url: "http://127.0.0.1:{backend}" }}\n'
        f'  anthropic: {{ url: "http://127.0.0.1:{backend}" }}\n{more}'
    )
    # nothing of this shell's environment but the path
    return Process(log, os.environ["TIDEGATE_BIN"], "run", "-c", policy, environment={"PATH": os.environ["PATH"]})


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cache", type=pathlib.Path, required=True)
    arguments.add_argument("--template", required=True)
    arguments.add_argument("--agents", action="store_true")
    options = arguments.parse_args()
    cache = options.cache
    backend, proxy, admin = free_port(), free_port(), free_port()

    llama = Process(
        cache / "llama-server.log", cache / "llama-server", "-m", cache / "model.gguf", "--alias", MODEL,
        "--host", "127.0.0.1", "--port", str(backend), "-c", "8192", "-np", "1", "-t", "1", "-tb", "1",
        "--metrics", "--jinja", "--chat-template-file", options.template,
    )  # fmt: skip
    running = [llama]
    try:
        llama.wait_ready(backend, "/health", 120)
        sidecar = start_sidecar(cache / "tidegate.log", cache / "tidegate.yaml", proxy, admin, backend)
        running.append(sidecar)
        sidecar.wait_ready(admin, "/readyz", 10)
        post(backend, "/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
        good = compare(backend, proxy)
        good &= sdks(backend, proxy)
        ports = free_port(), free_port()
        sidecar = start_sidecar(
            cache / "cached.log", cache / "cached.yaml", *ports, backend, "policies: [{ cache: { ttl: 1h } }]\n"
        )
        running.append(sidecar)
        sidecar.wait_ready(ports[1], "/readyz", 10)
        good &= cached(ports[0], lambda: predicted(backend))
        ports = free_port(), free_port()
        with tempfile.TemporaryDirectory() as state:
            # by another name than the vendor's, which can do so itself
            sidecar = start_sidecar(
                cache / "tasks.log", cache / "tasks.yaml", *ports, backend,
                f'  model: {{ dialect: openai, url: "http://127.0.0.1:{backend}" }}\nroutes: [{{ to: model }}]\nstate: {state}\n',
            )  # fmt: skip
            running.append(sidecar)
            sidecar.wait_ready(ports[1], "/readyz", 10)
            good &= background(ports[0], backend, lambda: float(predicted(backend)))
            running.remove(sidecar)
            sidecar.end()
        if options.agents:
            good &= agents(cache)
    finally:
        for process in reversed(running):
            process.end()
    print("the same through the sidecar as without it" if good else "NOT the same")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
