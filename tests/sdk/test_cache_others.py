"""The official `anthropic` package and LangChain, and the cache."""

from cached import PROXY, Cached, word
from harness import KEY, plain, simulate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

TOOL = {
    "name": "tide_table",
    "description": "High and low water of a day",
    "input_schema": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
}
SHAPES = {
    "text": simulate("tokens=12"),
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}, **simulate("tokens=6; reasoning=5")},
    "tool": {"tools": [TOOL], **simulate("tool=1")},
    "tool after thinking": {"tools": [TOOL], **simulate("tool=1; reasoning=4")},
}


def question(number, **options):
    messages = [{"role": "user", "content": f"Tides {number}. Ünïcödé 潮 🌊"}]
    return {"model": "claude-sim", "max_tokens": 2048, "messages": messages, **options}


class Anthropic(Cached):
    def test_messages(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            with self.subTest(name):
                got = self.twice(self.anthropic.messages, **question(number, **shape))
                self.assertGreater(got["usage"]["output_tokens"], 0)

    def test_streams(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            with self.subTest(name):
                got = self.twice(self.anthropic.messages, **question(number, stream=True, **shape))
                self.assertEqual((got[0]["type"], got[-1]["type"]), ("message_start", "message_stop"))

    def final(self, said, **call):
        """What the SDK's helper makes of a stream in the end."""
        with self.anthropic.messages.stream(**call) as stream:
            final = stream.get_final_message()
            headers = stream.response.headers
        self.assertEqual(word(headers), said)
        self.note(said, final.usage.input_tokens + final.usage.output_tokens if said == "hit" else 0)
        data = plain(final)
        for block in data["content"]:
            block.pop("parsed_output", None)
        return data

    def test_both_forms_of_one_entry(self):
        for number, (name, shape) in enumerate(SHAPES.items()):
            with self.subTest(name), self.upstream(2):
                streamed = self.final("miss", **question(f"a{number}", **shape))
                whole = self.ask(self.anthropic.messages, "hit", **question(f"a{number}", **shape))
                self.assertEqual(whole.data, streamed)
                whole = self.ask(self.anthropic.messages, "miss", **question(f"b{number}", **shape))
                self.assertEqual(self.final("hit", **question(f"b{number}", **shape)), whole.data)

    def test_no_cache_and_betas(self):
        call, beta = question(1), {"anthropic-beta": "context-1m-2025-08-07"}
        with self.upstream(3):
            self.ask(self.anthropic.messages, "miss", **call)
            self.ask(self.anthropic.messages, "miss", **call, extra_headers={"Cache-Control": "no-cache"})
            self.ask(self.anthropic.messages, "miss", **call, extra_headers=beta)
            self.ask(self.anthropic.messages, "hit", **call, extra_headers=beta)


@tool
def tide_table(port: str) -> str:
    """High and low water of a day."""
    return port


class LangChain(Cached):
    def setUp(self):
        super().setUp()
        options = {"base_url": f"{PROXY}/v1", "api_key": KEY, **self.options}
        self.chat = ChatOpenAI(model="gpt-sim", include_response_headers=True, **options)

    def test_invoke(self):
        with self.upstream(1):
            first, second = (self.chat.invoke("hello") for _ in range(2))
        said = [word(message.response_metadata.pop("headers")) for message in (first, second)]
        self.assertEqual(said, ["miss", "hit"])
        self.assertEqual(*(without_run_id(message) for message in (first, second)))
        self.note("miss")
        self.note("hit", second.usage_metadata["total_tokens"])

    def test_stream(self):
        with self.upstream(1):
            first, second = (list(self.chat.stream("hello")) for _ in range(2))
        self.assertGreater(len(first), 5)
        self.assertEqual([chunk.content for chunk in first], [chunk.content for chunk in second])
        used = [chunk.usage_metadata for chunk in second if chunk.usage_metadata]
        self.assertEqual(used, [chunk.usage_metadata for chunk in first if chunk.usage_metadata])
        self.note("miss")
        self.note("hit", used[-1]["total_tokens"] if used else 0)

    def test_tools(self):
        bound = self.chat.bind_tools([tide_table], tool_choice="required")
        with self.upstream(1):
            first, second = (bound.invoke("use a tool") for _ in range(2))
        self.assertEqual(first.tool_calls, second.tool_calls)
        self.assertEqual(first.tool_calls[0]["name"], "tide_table")
        self.note("miss")
        self.note("hit", second.usage_metadata["total_tokens"])

    def test_batch(self):
        """Its threads ask the same at once, and some of it again."""
        with self.upstream(2):
            got = self.chat.batch(["ebb", "flow"] * 4, **simulate("ttft=300ms"))
        said = [word(message.response_metadata.pop("headers")) for message in got]
        self.assertEqual(said.count("miss"), 2)
        for number, message in enumerate(got):
            self.assertEqual(without_run_id(message), without_run_id(got[number % 2]))
        for this, message in zip(said, got, strict=True):
            self.note(this, message.usage_metadata["total_tokens"] if this != "miss" else 0)


def without_run_id(message):
    data = message.model_dump(mode="json")
    data.pop("id")
    return data
