"""Made-up data in the layout of the real ones: a few records a file, so that every experiment can run --tiny."""

import gzip
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = {"ein": "a", "Hund": "dog", "Mann": "man", "läuft": "runs", "schnell": "fast", "und": "and", "rot": "red"}
COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def write_lines(path: Path, lines: Sequence[str]) -> None:
    write(path, "".join(f"{line}\n" for line in lines))


def write_records(path: Path, records: Sequence[dict]) -> None:
    write_lines(path, [json.dumps(record) for record in records])


def sentence(draw: random.Random) -> tuple[str, str]:
    chosen = draw.choices(list(WORDS), k=draw.randint(2, 9))
    return f"{' '.join(chosen)}.", f"{' '.join(WORDS[word] for word in reversed(chosen))}."


def multi30k(folder: Path, draw: random.Random) -> None:
    for name in ("train", "val", "test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"):
        pairs = [sentence(draw) for _ in range(200 if name == "train" else 20)]
        rows = [f"{number}\t{number}.jpg\t{english}\t{german}" for number, (german, english) in enumerate(pairs)]
        write_lines(folder / f"{name}.tsv.gz", ["id\timage\ten\tde", *rows])


def tatoeba(folder: Path, draw: random.Random) -> None:
    rows = ["\t".join(sentence(draw)) + f" {number}" for number in range(3300)]
    write_lines(folder / "de-en.tsv.gz", ["de\ten", *rows])


def tree(draw: random.Random) -> str:
    """A sentence of two to four words, every phrase of it with its label."""
    words = [(draw.randint(0, 4), word) for word in draw.choices(["good", "bad", "film", "not", "very"], k=4)]
    text = "({} {})".format(*words[0])
    for label, word in words[1 : draw.randint(2, 4)]:
        text = f"({draw.choice([0, 1, 3, 4])} {text} ({label} {word}))"
    return text


def sst(folder: Path, draw: random.Random) -> None:
    for split, count in {"train": 80, "dev": 20, "test": 20}.items():
        write_lines(folder / f"{split}.ptb.txt.gz", [tree(draw) for _ in range(count)])


def imdb(folder: Path, draw: random.Random) -> None:
    for split in ("train", "test"):
        texts = [" ".join(draw.choices(["good", "bad", "film", "long"], k=30)) + f" {n}" for n in range(60)]
        records = [{"id": n, "label": n % 2, "stars": 1 + 9 * (n % 2), "text": text} for n, text in enumerate(texts)]
        write_records(folder / f"{split}.jsonl.gz", records)


def squad(folder: Path, draw: random.Random) -> None:
    names, places = ["Ann", "Bob", "Cleo", "Dan"], ["Rome", "Oslo", "Lima", "Kyiv"]
    for split, count in {"train": 40, "dev": 10, "test": 10}.items():
        paragraphs = []
        for number in range(count):
            name, place = draw.choice(names), draw.choice(places)
            context = f"In {1900 + number} {name} moved to {place}. It rained a lot there."
            answer = {"text": place, "answer_start": context.index(place), "span": "official"}
            asked = {"id": f"{split}{number}", "question": f"Where did {name} move?", "answers": [answer]}
            paragraphs.append({"context": context, "qas": [asked]})
        articles = [{"title": f"{split} {n}", "paragraphs": paragraphs[n::2]} for n in range(2)]
        write(folder / f"{split}.json.gz", json.dumps({"version": "1.1", "data": articles}))


def subjqa(folder: Path, draw: random.Random) -> None:
    for domain in ("books", "electronics", "grocery", "movies", "restaurants", "tripadvisor"):
        for split in ("train", "dev", "test"):
            records = []
            for number in range(20):
                adjective = draw.choice(["good", "slow", "cold"])
                context = f"We came on day {number}. The service was {adjective}. We left."
                known = number % 3 > 0
                records.append({
                    "id": f"{split}{number}", "domain": domain, "question": "How was the service?", "context": context,
                    "answer": adjective if known else None,
                    "answer_start": context.index(adjective) if known else None,
                })  # fmt: skip
            write_records(folder / f"{domain}.{split}.jsonl.gz", records)


def flickr8k(folder: Path, draw: random.Random) -> None:
    pictures, records = [], []
    for index, split in enumerate(["train"] * 12 + ["dev"] * 4 + ["test"] * 4):
        color = draw.choice(list(COLORS))
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), COLORS[color]).save(buffer, "JPEG")
        pictures.append(np.frombuffer(buffer.getvalue(), np.uint8))
        captions = [f"A {color} thing {place} ." for place in ("here", "there", "on a wall", "outside", "again")]
        records.append({"index": index, "image": f"{index}.jpg", "split": split, "captions": captions})
    folder.mkdir(parents=True)
    np.savez(
        folder / "images_128.npz",
        jpeg=np.concatenate(pictures),
        offsets=np.cumsum([0, *map(len, pictures)]),
        names=np.array([record["image"] for record in records]),
        shapes=np.full((len(records), 2), 32, np.int16),
    )
    write_records(folder / "captions.jsonl.gz", records)


def flickr8k_as_published(folder: Path, draw: random.Random) -> None:
    """The original files: a folder of images, the token file, and a list of names for each split."""
    lines: list[str] = []
    (folder / "Flicker8k_Dataset").mkdir(parents=True)
    for split, count in {"train": 12, "dev": 4, "test": 4}.items():
        names = [f"{split}_{number}.jpg" for number in range(count)]
        for name in names:
            color = draw.choice(list(COLORS))
            Image.new("RGB", (32, 32), COLORS[color]).save(folder / "Flicker8k_Dataset" / name)
            lines += [f"{name}#{number}\tA {color} thing {number} .\n" for number in range(5)]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "Flickr8k.token.txt").write_text("".join(lines))


def unpacked(path: Path) -> bytes:
    """Read what `write` wrote."""
    return gzip.decompress(path.read_bytes())


def easy_vqa(folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    for split, count in {"train": 40, "test": 10}.items():
        colors = [draw.choice(list(COLORS)) for _ in range(count)]
        images = np.stack([np.full((64, 64, 3), COLORS[color], np.uint8) for color in colors])
        np.savez_compressed(folder / f"{split}_images.npz", images=images)
        records = [{"question": "what color is it?", "answer": color, "image": n} for n, color in enumerate(colors)]
        records += [{"question": "is it red?", "answer": "yes" if c == "red" else "no", "image": n} for n, c in
                    enumerate(colors)]  # fmt: skip
        write_records(folder / f"{split}_questions.jsonl.gz", records)


MAKERS: tuple[Callable[[Path, random.Random], None], ...] = (
    multi30k, tatoeba, sst, imdb, squad, subjqa, flickr8k, easy_vqa,
)  # fmt: skip


def make(directory: Path) -> Path:
    """Write all of them, each in the folder of its name."""
    for maker in MAKERS:
        maker(directory / maker.__name__, random.Random(maker.__name__))
    return directory
