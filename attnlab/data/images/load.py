"""Load the captioned images, or the questions about images, that an experiment names."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from attnlab.config.captioning import CaptionData, CaptionHub, Scenes
from attnlab.config.errors import UserError
from attnlab.config.visual_qa import EasyVqa, QuestionData, QuestionHub, SceneQuestions
from attnlab.data.captioning import flickr8k
from attnlab.data.images import hub, scenes
from attnlab.data.images.pixels import Asked, Captioned
from attnlab.data.records import Splits
from attnlab.data.text.letters import composed
from attnlab.data.visual_qa import easy_vqa


def load(config: CaptionData, data_dir: Path | None) -> Splits[Captioned]:
    """Read or generate all splits of images with captions, the letters composed (NFC)."""
    if isinstance(config, Scenes):
        return scenes.generate(config)
    if isinstance(config, CaptionHub):
        read = hub.captioned(config, data_dir)
    else:
        read = flickr8k.read(config, _given(data_dir, config.kind, config.captions))
    _say_shared(read)
    return read.mapped(lambda one: replace(one, captions=tuple(map(composed, one.captions))))


def load_questions(config: QuestionData, data_dir: Path | None) -> Splits[Asked]:
    """Read or generate all splits of questions about images, the letters of both composed (NFC)."""
    if isinstance(config, SceneQuestions):
        return scenes.generate_questions(config)
    if isinstance(config, QuestionHub):
        read = hub.asked(config, data_dir)
    else:
        assert isinstance(config, EasyVqa)
        read = easy_vqa.read(config, _given(data_dir, config.kind, f"{config.train}_questions.jsonl.gz"))
    _say_shared(read)
    return read.mapped(lambda one: replace(one, question=composed(one.question)))


def _say_shared(splits: Splits[Captioned] | Splits[Asked]) -> None:
    """Say on stderr how many images are, byte for byte, in two splits: scores on them do not tell what was learned."""
    found = {split: _contents(examples) for split, examples in splits.splits().items()}
    for (one, first), (other, second) in combinations(found.items(), 2):
        if both := [content for content in second if content in first]:
            count = f"{len(both):,} of {len(second):,} images of {other} {'are' if len(both) > 1 else 'is'}"
            names = f"{second[both[0]]} of {other} is {first[both[0]]} of {one}"
            print(f"attnlab: {count} also in {one}; {names}", file=sys.stderr)


def _contents(examples: Sequence[Captioned] | Sequence[Asked]) -> dict[bytes, str]:
    """The images of a split: hash -> name. Those of one name are one image."""
    named, found = {example.name: example.image for example in examples}, dict[bytes, str]()
    for name, image in named.items():
        content = f"{image.shape} ".encode() + np.ascontiguousarray(image).tobytes()
        found.setdefault(hashlib.sha256(content).digest(), name)
    return found


def _given(data_dir: Path | None, kind: str, expected: str) -> Path:
    if data_dir is None:
        raise UserError(
            f"task.data.kind {kind} needs a data directory: give --data DIR or set ATTNLAB_DATA; "
            f"expected DIR/{expected}"
        )
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such data directory; give --data DIR with DIR/{expected}")
    return data_dir
