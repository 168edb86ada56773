#!/usr/bin/env python3
"""Distils a sentence embedder into one row for each token of its vocabulary.

    distill.py MODEL TABLE.i8 VOCAB.txt

MODEL is a directory with all-MiniLM-L6-v2 (Apache-2.0) as Hugging Face's transformers reads it;
nothing is fetched. model2vec passes each token through the model, keeps DIMS principal components and
weighs rows by how rare the token is. Rows share one scale, so that a text is the plain sum of its
rows. Needs torch 2.15, transformers 5.3 and model2vec 0.10; pack.py comes next.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"

import numpy as np
from model2vec.distill import distill_from_model
from transformers import AutoModel, AutoTokenizer

DIMS = 64


def main():
    model_path, table_path, vocabulary_path = sys.argv[1:]
    model, tokenizer = AutoModel.from_pretrained(model_path), AutoTokenizer.from_pretrained(model_path)
    # 256 components, of which the first are the same as fewer would be
    static = distill_from_model(model=model, tokenizer=tokenizer, pca_dims=256)
    table = np.asarray(static.embedding, np.float32)[:, :DIMS]
    scale = np.abs(table).max()
    np.clip(np.round(table / scale * 127), -127, 127).astype(np.int8).tofile(table_path)
    vocabulary = json.loads(static.tokenizer.to_str())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    assert len(tokens) == len(table)
    with open(vocabulary_path, "w", encoding="utf-8") as file:
        file.write("\n".join(tokens) + "\n")


if __name__ == "__main__":
    main()
