#!/usr/bin/env python3
"""Writes texts with the tokens that Hugging Face's `tokenizers` makes of them.

    tokens.py VOCAB.txt COUNT TEXTS... > tests/fixtures/semantic/tokens.jsonl

TEXTS are files with a text in the last column of each line. Beside COUNT of each, words in many
scripts with accents, odd spaces and signs are made up with a seed.
"""
import json
import random
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

RANGES = [(0x20, 0x7F), (0xA1, 0x17F), (0x300, 0x32F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA), (0x621, 0x64A),
          (0x905, 0x939), (0xE01, 0xE2E), (0x1E00, 0x1EF9), (0x2010, 0x2060), (0x20A0, 0x20BF), (0x3041, 0x3096),
          (0x30A1, 0x30FA), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFF01, 0xFF5E), (0x1F600, 0x1F610)]


def main():
    vocabulary_path, count, *paths = sys.argv[1:]
    count = int(count)
    tokens = open(vocabulary_path, encoding="utf-8").read().rstrip("\n").split("\n")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = vocabulary["[UNK]"]
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    dice = random.Random(20261122)
    texts = []
    for path in paths:
        lines = open(path, encoding="utf-8").read().splitlines()[1:]
        texts += [line.split("\t")[-1] for line in dice.sample(lines, min(count, len(lines)))]
    for _ in range(2 * count):
        words = []
        for _ in range(dice.randrange(1, 7)):
            low, high = dice.choice(RANGES)
            words.append("".join(chr(dice.randrange(low, high)) for _ in range(dice.randrange(1, 9))))
        texts.append(dice.choice([" ", " ", "\t", "\u00a0", "-"]).join(words))
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        json.dump([text, [number for number in ids if number != unknown]], sys.stdout, ensure_ascii=True)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
