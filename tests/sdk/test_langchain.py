"""LangChain's OpenAI package through the sidecar: what agents built on it send."""

from harness import DIRECT, KEY, PROXY, Pair
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def tide_table(port: str) -> str:
    """High and low water of a day."""
    return port


class LangChain(Pair):
    @classmethod
    def setUpClass(cls):
        cls.direct, cls.proxied = (
            ChatOpenAI(model="gpt-sim", base_url=f"{base}/v1", api_key=KEY) for base in (DIRECT, PROXY)
        )

    def test_invoke(self):
        got = self.same(lambda c: without_run_id(c.invoke("hello")))
        self.assertTrue(got["content"])

    def test_stream(self):
        got = self.same(lambda c: [chunk.content for chunk in c.stream("hello")])
        self.assertGreater(len(got), 5)

    def test_tools(self):
        got = self.same(lambda c: c.bind_tools([tide_table], tool_choice="required").invoke("use a tool").tool_calls)
        self.assertEqual(got[0]["name"], "tide_table")

    def test_embeddings(self):
        vectors = [
            # without the option it fetches a tokenizer from the network
            OpenAIEmbeddings(
                model="embed-sim", base_url=f"{base}/v1", api_key=KEY, check_embedding_ctx_length=False
            ).embed_documents(["ebb", "flow"])
            for base in (DIRECT, PROXY)
        ]
        self.assertEqual(*vectors)


def without_run_id(message):
    data = message.model_dump(mode="json")
    data.pop("id")
    return data
