#!/usr/bin/env python3
"""Packs what src/semantic/data/ holds: the embedding table, the characters' table, the word bits.

    pack.py TABLE.i8 VOCAB.txt WORDS MORE-WORDS OUT

TABLE.i8 is what distill.py writes: a row of DIMS signed bytes for each line of VOCAB.txt. WORDS is
a list of English words (Debian's wamerican, /usr/share/dict/american-english), MORE-WORDS a longer
one with names (wamerican-large, american-english-large).

table.q4    a row of 33 bytes for each token: a scale in eighths, then 32 bytes; byte i holds
            dimension i in its low half and dimension i + 32 in its high half, both signed
vocab.txt   the tokens, as they came
folds.u16   pairs (character, what it becomes), sorted; 0: it vanishes, 1: it is punctuation, 2: a
            space; else the letter below its accents, as BERT's uncased tokeniser makes them
words.bits  a bit for each token: an English word that is not only a name
more.bloom  2^20 bits, four for each of MORE-WORDS in small letters, at the upper and lower halves h
            and l of its 64-bit FNV-1a hash: h, h + l, h + 2 l, h + 3 l (Kirsch and Mitzenmacher)
"""
import sys
import unicodedata

import numpy as np

DIMS = 64


def quantise(table):
    eighths = np.round(np.abs(table).max(axis=1, keepdims=True) / 7 * 8)
    eighths = np.clip(eighths, 1, 255)
    return eighths.astype(np.uint8), np.clip(np.round(table / (eighths / 8)), -7, 7).astype(np.int8)


def fold(code):
    """What a character of the basic plane becomes; None: it stays, or Rust's std knows."""
    char = chr(code)
    category = unicodedata.category(char)
    if char.isspace() or category == "Zs":
        return 2
    if category in ("Mn", "Cf") or code == 0xFFFD:
        return 0
    if category.startswith("P"):
        return 1
    if 0xAC00 <= code <= 0xD7A3:  # Hangul is taken apart by arithmetic
        return None
    bases = [c for c in unicodedata.normalize("NFD", char) if unicodedata.category(c) != "Mn"]
    return ord(bases[0]) if len(bases) == 1 and bases[0] != char and ord(bases[0]) < 0x10000 else None


def bloom(words):
    bits = np.zeros(1 << 17, np.uint8)
    for word in words:
        value = 0xCBF29CE484222325
        for byte in word.encode():
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        high, low = value >> 32, value & 0xFFFFFFFF
        for turn in range(4):
            bit = (high + turn * low) & 0xFFFFF
            bits[bit // 8] |= 1 << bit % 8
    return bits


def main():
    table_path, vocab_path, words_path, more_path, out = sys.argv[1:]
    vocab = open(vocab_path, encoding="utf-8").read().rstrip("\n").split("\n")
    table = np.fromfile(table_path, np.int8).reshape(-1, DIMS).astype(np.float32)
    assert len(vocab) == len(table) < 1 << 15
    scales, values = quantise(table)
    low, high = values[:, : DIMS // 2] & 15, values[:, DIMS // 2 :] & 15
    rows = np.concatenate([scales, (low | high << 4).astype(np.uint8)], axis=1)
    rows.tofile(f"{out}/table.q4")
    with open(f"{out}/vocab.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(vocab) + "\n")

    folds = [(code, fold(code)) for code in range(0x80, 0x10000) if not 0xD800 <= code < 0xF900]
    pairs = np.array([pair for pair in folds if pair[1] is not None], dtype="<u2")
    pairs.tofile(f"{out}/folds.u16")

    words = {line.strip() for line in open(words_path, encoding="utf-8")}
    bits = np.zeros(-(-len(vocab) // 8), np.uint8)
    for token, word in enumerate(vocab):
        if word in words:
            bits[token // 8] |= 1 << token % 8
    bits.tofile(f"{out}/words.bits")
    more = {line.strip().lower() for line in open(more_path, encoding="utf-8")}
    more = {word for word in more if word.isascii() and word.isalpha()}
    bloom(more).tofile(f"{out}/more.bloom")
    print(len(more), "more words,", len(vocab), "tokens,", len(pairs), "characters,", sum(w in words for w in vocab), "words")


if __name__ == "__main__":
    main()
