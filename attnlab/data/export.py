"""Write generated data to files, in the formats that the readers of its task accept."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from attnlab.config.captioning import Flickr8k, Scenes
from attnlab.config.classification import LabeledTextFiles, SyntheticSentiment
from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import GeneratedPassages, SquadJson
from attnlab.config.story_qa import Babi, GeneratedStories
from attnlab.config.translation import Dates, Tsv
from attnlab.config.visual_qa import EasyVqa, SceneQuestions
from attnlab.data.captioning import scenes as captioning
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.classification import synthetic_sentiment
from attnlab.data.classification.records import LabeledText
from attnlab.data.extractive_qa import generated as passages
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.records import Splits
from attnlab.data.story_qa import generated as stories
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.translation import dates
from attnlab.data.translation.records import ParallelCorpus
from attnlab.data.visual_qa import scenes as visual_qa
from attnlab.data.visual_qa.records import ImageQuestion

FileData = Tsv | LabeledTextFiles | Babi | SquadJson | Flickr8k | EasyVqa


def export(config: Any, folder: Path, examples: int | None = None) -> FileData:
    """Write all splits of generated data into a new folder.

    Of the gold annotations only the supporting facts of stories are written, as the other readers do not read any.

    Args:
        config: `task.data` of an experiment with generated data.
        folder: a folder that does not exist or is empty.
        examples: largest number of examples per split; None writes all.

    Returns:
        The config that reads the files, with paths relative to `folder`.

    Raises:
        UserError: the data is not generated, or the folder is not empty.
    """
    if type(config) not in _EXPORTERS:
        kinds = ", ".join(kind.model_fields["kind"].default for kind in _EXPORTERS)
        raise UserError(f"task.data.kind {config.kind} is not generated, so there is nothing to export; valid: {kinds}")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; give a new directory")
    if examples is not None:
        config = config.with_limits(train=examples, dev=examples, test=examples)
    folder.mkdir(parents=True, exist_ok=True)
    generate, write = _EXPORTERS[type(config)]
    return write(generate(config), folder)


def _translation(corpus: ParallelCorpus, folder: Path) -> Tsv:
    source, target = corpus.source_language, corpus.target_language
    for name, pairs in corpus.splits().items():
        rows = [f"{source}\t{target}", *(f"{pair.source}\t{pair.target}" for pair in pairs)]
        _write(folder / f"{name}.tsv", rows)
    return Tsv(source=source, target=target, train="train.tsv", dev="dev.tsv", test={"test": "test.tsv"})


def _classification(splits: Splits[LabeledText], folder: Path) -> LabeledTextFiles:
    for name, examples in splits.splits().items():
        _write_json(folder / f"{name}.jsonl", [{"text": example.text, "label": example.label} for example in examples])
    return LabeledTextFiles(train="train.jsonl", dev="dev.jsonl", test={"test": "test.jsonl"})


def _story_qa(splits: Splits[StoryQuestion], folder: Path) -> Babi:
    for name, examples in splits.splits().items():
        lines = []
        for story in examples:
            lines += [f"{number} {sentence}" for number, sentence in enumerate(story.sentences, start=1)]
            facts = " ".join(str(fact + 1) for fact in story.facts)
            lines.append(f"{len(story.sentences) + 1} {story.question}\t{story.answer}\t{facts}")
        _write(folder / f"{name}.txt", lines)
    return Babi(train="train.txt", dev="dev.txt", test={"test": "test.txt"})


def _extractive_qa(splits: Splits[PassageQuestion], folder: Path) -> SquadJson:
    for name, examples in splits.splits().items():
        paragraphs = []
        for example in examples:
            answers = [{"text": answer.text, "answer_start": answer.start} for answer in example.answers]
            questions = [{"id": example.id, "question": example.question, "answers": answers}]
            paragraphs.append({"context": example.passage, "qas": questions})
        document = {"version": "1.1", "data": [{"title": "generated", "paragraphs": paragraphs}]}
        _write(folder / f"{name}.json", [json.dumps(document, ensure_ascii=False)])
    return SquadJson(train="train.json", dev="dev.json", test={"test": "test.json"})


def _captioning(splits: Splits[CaptionedImage], folder: Path) -> Flickr8k:
    (folder / "images").mkdir()
    rows = []
    for split, examples in splits.splits().items():
        for example in examples:
            file = f"{example.name}.png"
            Image.fromarray(example.image).save(folder / "images" / file)
            rows.append({"image": file, "split": split, "captions": list(example.captions)})
    _write_json(folder / "captions.jsonl", rows)
    return Flickr8k(images="images", captions="captions.jsonl")


def _visual_qa(splits: Splits[ImageQuestion], folder: Path) -> EasyVqa:
    for name, examples in {"train": (*splits.train, *splits.dev), "test": splits.test["test"]}.items():
        (folder / name / "images").mkdir(parents=True)
        for number, example in enumerate(examples):
            Image.fromarray(example.image).save(folder / name / "images" / f"{number}.png")
        rows = [[example.question, example.answer, number] for number, example in enumerate(examples)]
        _write(folder / name / "questions.json", [json.dumps(rows, ensure_ascii=False)])
    return EasyVqa(train="train", test="test", dev_images=len(splits.dev))


def _write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    _write(path, [json.dumps(row, ensure_ascii=False) for row in rows])


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_EXPORTERS: Mapping[type, tuple[Callable[[Any], Any], Callable[[Any, Path], FileData]]] = {
    Dates: (dates.generate, _translation),
    SyntheticSentiment: (synthetic_sentiment.generate, _classification),
    GeneratedStories: (stories.generate, _story_qa),
    GeneratedPassages: (passages.generate, _extractive_qa),
    Scenes: (captioning.generate, _captioning),
    SceneQuestions: (visual_qa.generate, _visual_qa),
}
"""The generator and the writer of examples for each config class of generated data."""
