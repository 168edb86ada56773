#!/usr/bin/env python3
"""Trains the verifier and writes it as the table that src/semantic/trees.rs evaluates.

    train.py FEATURES.tsv TREES.bin SAMPLE.tsv

FEATURES.tsv is what `tidegate semantic features` prints for the pairs of `synth.py train`. SAMPLE.tsv
gets some of the pairs with the scores that scikit-learn gives them, for the test of trees.rs. Part of
the pairs is kept aside: what is printed is measured there.
"""
import random
import struct
import sys

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

# may never count for "the same" where they are hit, or less of the same where there is more
FALLING = {"number", "negation", "antonym", "quote", "name", "order", "word", "frame", "scope", "left_over",
           "left_less", "typos", "moved", "rewritten", "soft"}
RISING = {"cosine", "words_jaccard", "pairs_jaccard"}


def main():
    features_path, trees_path, sample_path = sys.argv[1:]
    lines = open(features_path, encoding="utf-8").read().splitlines()
    header = lines[0].split("\t")
    names = header[3:-2]
    rows = [line.split("\t") for line in lines[1:]]
    x = np.array([[np.float32(value) for value in row[3:-2]] for row in rows], np.float32)
    y = np.array([row[0] == "1" for row in rows])
    categories = np.array([row[1] for row in rows])
    vetoed = np.array([row[2] != "-" for row in rows])
    dice = random.Random(20261122)
    aside = np.array([dice.random() < 0.15 for _ in rows])

    # a label from an edit is wrong where the edit happened on a synonym; half the weight keeps those
    # few from teaching that equal texts differ
    weights = np.where(np.char.startswith(categories, "sibling:"), 0.5, 1.0)
    model = HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0,
        early_stopping=False, random_state=0,
        monotonic_cst=[-1 if name in FALLING else 1 if name in RISING else 0 for name in names],
    )
    model.fit(x[~aside], y[~aside], sample_weight=weights[~aside])

    scores = model.decision_function(x)
    for name, part in (("all", aside), ("without a veto", aside & ~vetoed)):
        same, other = scores[part & y], scores[part & ~y]
        for least in (-2, -1, 0, 1, 2, 3):
            print(f"{name}: score >= {least}: {np.mean(same >= least):.3f} of {len(same)} same, "
                  f"{np.mean(other >= least) if len(other) else 0:.4f} of {len(other)} others")

    with open(trees_path, "wb") as file:
        file.write(struct.pack("<f", float(np.ravel(model._baseline_prediction)[0])))
        for (tree,) in model._predictors:
            nodes = tree.nodes
            file.write(struct.pack("<B", len(nodes)))
            for node in nodes:
                if node["is_leaf"]:
                    file.write(struct.pack("<BBBf", 255, 0, 0, node["value"]))
                else:
                    file.write(struct.pack("<BBBf", node["feature_idx"], node["left"], node["right"], node["num_threshold"]))

    with open(sample_path, "w", encoding="utf-8") as file:
        for at in dice.sample(range(len(rows)), 400):
            a, b = rows[at][-2:]
            # what is printed of a text must be the text
            if "  " not in a + b and a.strip() == a and b.strip() == b:
                file.write(f"{scores[at]:.5f}\t{a}\t{b}\n")


if __name__ == "__main__":
    main()
