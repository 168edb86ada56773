"""The official Python SDKs against the simulator: every answer parses, and strictly.

Needs openai 3.54 and anthropic 2.12; takes the simulator's address: simulator.py http://HOST:PORT
The SDKs build their objects without checking them, so each is validated again here.
"""

import json
import sys

import anthropic
import openai
from anthropic import Anthropic
from openai import OpenAI

BASE = sys.argv[1]
MESSAGES = [{"role": "user", "content": "hello"}]
ASKS_TOOL = [{"role": "user", "content": "please use a tool"}]
SCHEMA = {
    "type": "object",
    "properties": {"città": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}},
}
CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}]
RESPONSE_TOOLS = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
MESSAGE_TOOLS = [{"name": "weather", "input_schema": SCHEMA}]


def sim(script):
    return {"x-simulate": script}


def strict(thing):
    type(thing).model_validate(thing.model_dump(mode="json", warnings=False))
    return thing


def fits(arguments):
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert isinstance(arguments["città"], str) and isinstance(arguments["days"], int), arguments
    assert arguments["unit"] == "c"


def client(retries=0):
    """A new one where a fault has spoilt the connections of the last."""
    return OpenAI(base_url=BASE + "/v1", api_key="any", max_retries=retries)


def chat_text(o, script="", **more):
    stream = o.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, extra_headers=sim(script), **more
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def chat():
    o = client()
    create = o.chat.completions.create
    whole = strict(create(model="m", messages=MESSAGES, extra_headers=sim("tokens=5")))
    assert whole.usage.completion_tokens == 5 and whole.choices[0].finish_reason == "stop"
    assert len(whole.choices[0].message.content.split()) == 5
    options = {"include_usage": True}
    chunks = create(
        model="m", messages=MESSAGES, stream=True, stream_options=options, extra_headers=sim("tokens=7; reasoning=2")
    )
    chunks = [strict(chunk) for chunk in chunks]
    assert chunks[-1].usage.completion_tokens == 9 and not chunks[-1].choices
    whole = strict(create(model="m", messages=ASKS_TOOL, tools=CHAT_TOOLS))
    fits(whole.choices[0].message.tool_calls[0].function.arguments)
    with o.chat.completions.stream(model="m", messages=ASKS_TOOL, tools=CHAT_TOOLS) as stream:
        choice = stream.get_final_completion().choices[0]
    call = choice.message.tool_calls[0]
    fits(call.function.arguments)
    assert choice.finish_reason == "tool_calls"
    called = {"role": "assistant", "content": None}
    called["tool_calls"] = [call.model_dump(include={"id", "type", "function"})]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    whole = create(model="m", messages=[*ASKS_TOOL, called, result], tools=CHAT_TOOLS)
    assert whole.choices[0].message.content
    strict(o.completions.create(model="m", prompt="x"))
    # not strict: the vendor streams finish_reason null here, which the SDK's type forbids
    assert len(list(o.completions.create(model="m", prompt="x", stream=True))) == 33


def responses():
    o = client()
    whole = strict(o.responses.create(model="m", input="hello", extra_headers=sim("tokens=4; reasoning=2")))
    assert len(whole.output_text.split()) == 4 and whole.usage.output_tokens == 6
    for script in ["tokens=4", "reasoning=3", "tool=1", "tool=1; reasoning=2"]:
        request = {"model": "m", "input": "hello", "tools": RESPONSE_TOOLS, "extra_headers": sim(script)}
        events = [strict(event) for event in o.responses.create(**request, stream=True)]
        assert [event.sequence_number for event in events] == list(range(len(events))), script
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == events[-1].response.output_text
        with o.responses.stream(**request) as stream:
            final = stream.get_final_response()
        if "tool" in script:
            fits(final.output[-1].arguments)
    events = list(o.responses.create(model="m", input="x", stream=True, max_output_tokens=2))
    assert events[-1].type == "response.incomplete"


def embeddings_and_models():
    o = client()
    vectors = strict(o.embeddings.create(model="m", input=["a", "b", "a"])).data
    assert vectors[0].embedding == vectors[2].embedding != vectors[1].embedding
    assert abs(sum(x * x for x in vectors[0].embedding) - 1) < 1e-4
    floats = o.embeddings.create(model="m", input=["a"], encoding_format="float", dimensions=8)
    assert len(strict(floats).data[0].embedding) == 8
    assert len(strict(o.embeddings.create(model="m", input=[[1, 2], [3]])).data) == 2
    assert len([strict(model) for model in o.models.list()]) == 4
    strict(o.models.retrieve("sim-small"))


def messages():
    a = Anthropic(base_url=BASE, api_key="any", max_retries=0)
    request = {"model": "m", "max_tokens": 100, "messages": MESSAGES, "tools": MESSAGE_TOOLS}
    whole = strict(a.messages.create(**request, extra_headers=sim("tokens=4; reasoning=2")))
    assert whole.content[0].type == "thinking" and len(whole.content[1].text.split()) == 4
    assert whole.usage.output_tokens == 6
    for script, reason in [("tokens=6", "end_turn"), ("reasoning=3", "end_turn"), ("tool=1; reasoning=2", "tool_use")]:
        for event in a.messages.create(**request, stream=True, extra_headers=sim(script)):
            strict(event)
        with a.messages.stream(**request, extra_headers=sim(script)) as stream:
            final = stream.get_final_message()
        assert final.stop_reason == reason
        if reason == "tool_use":
            fits(final.content[-1].input)
    assert strict(a.messages.count_tokens(model="m", messages=MESSAGES)).input_tokens > 5
    assert len([strict(model) for model in a.models.list()]) == 4


def errors():
    kinds = {
        400: "BadRequestError",
        401: "AuthenticationError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        429: "RateLimitError",
        500: "InternalServerError",
    }
    a = Anthropic(base_url=BASE, api_key="any", max_retries=0)
    for status, kind in kinds.items():
        script = sim(f"fault={status}")
        try:
            client().chat.completions.create(model="m", messages=MESSAGES, extra_headers=script)
            raise AssertionError(status)
        except getattr(openai, kind) as e:
            assert e.body["message"]
        try:
            a.messages.create(model="m", max_tokens=1, messages=MESSAGES, extra_headers=script)
            raise AssertionError(status)
        except getattr(anthropic, kind) as e:
            assert e.body["error"]["message"]
    for fault in ["error-event", "error-event=2", "reset", "close", "reset-mid=2", "close-mid=2", "garbage"]:
        try:
            chat_text(client(), "fault=" + fault)
            raise AssertionError(fault)
        except openai.APIError:
            pass
    # what the retries of an SDK get over
    for n, fault in enumerate(["429; retry=ms; retry-after=0", "500", "reset", "close"]):
        script = sim(f"fault={fault}; times=2; id={n}")
        assert client(2).chat.completions.create(model="m", messages=MESSAGES, extra_headers=script).choices


def harmless():
    plain = chat_text(client())
    faults = "split=utf8 split=bytes split=crlf gzip early-hints many-headers=50 slow-headers extra keepalive-close"
    for fault in faults.split():
        assert chat_text(client(), "fault=" + fault) == plain, fault
    for form in ["crlf", "cr", "tight", "comments"]:
        assert chat_text(client(), "sse=" + form) == plain, form
    # a clean end is taken for a whole answer: the SDK does not look for the terminal event
    assert chat_text(client(), "fault=truncated") == plain


for check in [chat, responses, embeddings_and_models, messages, errors, harmless]:
    check()
    print(check.__name__, "ok")
