"""Embeddings through the official `openai` package: each input is kept by itself, and what the SDK
makes of an answer that was put together is what it makes of the backend's own."""

from cached import Cached, tokens
from harness import plain
from langchain_openai import OpenAIEmbeddings

MODEL = "embed-sim"


def vectors(answer):
    return [(one["index"], one["embedding"]) for one in answer["data"]]


class Embeddings(Cached):
    def both(self, said, *sent, **call):
        """The vectors are the backend's own, in their order; of a part that had to be `sent`, its usage
        is what the backend counted, and the rest is saved."""
        with self.upstream(len(sent)):
            got = self.ask(self.openai.embeddings, said, model=MODEL, **call)
        own = plain(self.direct.embeddings.create(model=MODEL, **call))
        self.assertEqual(vectors(got.data), vectors(own))
        self.assertEqual(got.data["model"], own["model"])
        if said == "miss":
            self.assertEqual(got.data["usage"], own["usage"])
        if said == "partial":
            self.saved += tokens(got.data) - self.cost(**{**call, "input": sent[0]})
        return got.data

    def cost(self, **call):
        return self.direct.embeddings.create(model=MODEL, **call).usage.total_tokens

    def test_batches_that_overlap(self):
        for form in ("float", "base64"):
            with self.subTest(form):
                call = {"encoding_format": form, "dimensions": 16 if form == "float" else 24}
                first = self.both("miss", ["ebb", "flow"], input=["ebb", "flow"], **call)
                again = self.both("hit", input=["flow", "ebb"], **call)
                self.assertEqual(first["usage"], again["usage"])
                self.both("hit", input="ebb", **call)
                self.both("partial", ["slack", "潮"], input=["slack", "flow", "潮", "ebb"], **call)
                self.both("hit", input=["潮", "slack", "ebb"], **call)

    def test_as_the_sdk_asks_for_them(self):
        """Unless told otherwise it asks for base64, and decodes it."""
        first = self.both("miss", ["ebb", "flow"], input=["ebb", "flow"])
        again = self.both("hit", input=["ebb", "flow"])
        self.assertEqual(first, again)
        self.assertIsInstance(first["data"][0]["embedding"][0], float)

    def test_the_same_input_twice_in_a_batch(self):
        """Is sent once."""
        self.both("partial", ["ebb", "flow"], input=["ebb", "ebb", "flow"])
        self.both("hit", input=["ebb", "flow", "ebb", "ebb"])

    def test_tokens_instead_of_text(self):
        self.both("miss", [[1, 2, 3], [4, 5]], input=[[1, 2, 3], [4, 5]])
        self.both("hit", input=[[4, 5], [1, 2, 3]])
        self.both("hit", input=[4, 5])
        self.both("partial", [[6]], input=[[6], [4, 5]])

    def test_dimensions_and_encodings_are_apart(self):
        self.both("miss", "ebb", input="ebb", dimensions=8, encoding_format="float")
        self.both("miss", "ebb", input="ebb", dimensions=9, encoding_format="float")
        self.both("miss", "ebb", input="ebb", dimensions=8, encoding_format="base64")

    def test_langchain_and_its_batches(self):
        def embed(base, texts):
            # without the option it fetches a tokenizer from the network
            return OpenAIEmbeddings(
                model=MODEL, base_url=str(base.base_url), api_key=base.api_key, chunk_size=4,
                check_embedding_ctx_length=False, default_headers={"x-agent-id": self.agent},
            ).embed_documents(texts)  # fmt: skip

        texts = [f"tide {n}" for n in range(10)]
        with self.upstream(3):
            first = embed(self.openai, texts)
        self.words["miss"] += 3
        with self.upstream(0):
            self.assertEqual(embed(self.openai, texts), first)
            self.assertEqual(embed(self.openai, list(reversed(texts))), list(reversed(first)))
        self.words["hit"] += 6
        self.saved += 2 * sum(self.cost(input=texts[at : at + 4]) for at in range(0, 10, 4))
        self.assertEqual(embed(self.direct, texts), first)
