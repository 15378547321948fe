"""A language with a word for each English word, whose first word is the last in English.

No alignment of it is its own transpose, so that an exchange of source and target is found.
"""

import random
from pathlib import Path

from attnlab.config import Experiment
from attnlab.data.translation.alignment_files import pharaoh
from attnlab.data.translation.word_alignment import AlignedSentence, Gold

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "fünfzig": "fifty", "sechzig": "sixty"}
SPLITS = {"train": 160, "dev": 8, "test": 30}


def sentence(draw: random.Random) -> AlignedSentence:
    source = draw.sample(list(WORDS), k=draw.randint(3, 4))
    count = len(source)
    links = frozenset(((t + 1) % count, t) for t in range(count))
    target = [WORDS[word] for word in [*source[1:], source[0]]]
    return AlignedSentence(" ".join(source), " ".join(target), Gold(links, links))


def write_data(folder: Path) -> Path:
    """Sentence pairs as text with their alignments; every eighth pair of training ends with an exclamation mark."""
    draw = random.Random(0)
    for split, count in SPLITS.items():
        pairs = [sentence(draw) for _ in range(count)]
        marks = ["!" if split == "train" and n % 8 == 0 else "" for n in range(count)]
        for name, lines in {
            "de": [f"{pair.source}{mark}" for pair, mark in zip(pairs, marks, strict=True)],
            "en": [f"{pair.target}{mark}" for pair, mark in zip(pairs, marks, strict=True)],
            "align": [pharaoh(pair.gold.sure) for pair in pairs],
            "reverse": [pharaoh(pair.gold.reversed().sure) for pair in pairs],
            "talp": [pharaoh(pair.gold.sure, 1) for pair in pairs],
            "naacl": [f"{n} {s + 1} {t + 1}" for n, pair in enumerate(pairs, 1) for s, t in pair.gold.sure],
        }.items():
            (folder / f"{split}.{name}").write_text("".join(f"{line}\n" for line in lines))
    return folder


def experiment(source: str, target: str, suffix: str, steps: int) -> Experiment:
    return Experiment.model_validate({
        "name": f"{source}_{target}",
        "task": {
            "kind": "translation", "guided_alignment": 1.0, "max_length": 30,
            "data": {
                "kind": "parallel_text", "source": source, "target": target,
                "train": "train", "dev": "dev", "test": {"test": "test"},
                "alignments": {"train": f"train.{suffix}", "test": f"test.{suffix}"},
            },
            "tokenizer": {"kind": "bpe", "vocabulary": 100},
            "decoding": {"beam": 2, "max_length": 20},
        },
        "model": {
            "kind": "transformer_seq2seq", "width": 32, "heads": 2, "feed_forward": 32, "max_length": 40,
            "encoder": {"layers": 1}, "decoder": {"layers": 2}, "dropout": 0.0,
        },
        "training": {
            "steps": steps, "batch_tokens": 512, "buckets": 1, "evaluate_every": steps,
            "optimizer": {"kind": "adamw", "learning_rate": 0.01, "schedule": "constant"},
        },
    })  # fmt: skip
