"""Read Flickr8k, or other data in its format: images in a folder or a .npz file, with several captions each."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from attnlab.config.captioning import Flickr8k
from attnlab.config.errors import UserError
from attnlab.config.json_text import loads
from attnlab.data.captioning.records import CaptionedImage, checked_captions
from attnlab.data.images.arrays import read_arrays
from attnlab.data.images.pixels import as_bytes
from attnlab.data.records import Splits
from attnlab.data.text.lines import find, read_lines

NAMES = {"train": "train", "dev": "dev", "val": "dev", "validation": "dev", "test": "test"}
"""Split by its name in a file; images of other splits (such as extra) are counted and not used."""


def read(config: Flickr8k, data_dir: Path) -> Splits[CaptionedImage]:
    """Read all splits; images stay encoded."""
    load_image = _image_loader(data_dir / config.images)
    path = find(data_dir, config.captions)
    rows = _original_rows(config, data_dir, path) if config.split_files else _json_rows(path)
    splits: dict[str, list[CaptionedImage]] = {"train": [], "dev": [], "test": []}
    unused: Counter[str] = Counter()
    for where, name, split, texts in rows:
        if split in NAMES:
            splits[NAMES[split]].append(CaptionedImage(load_image(name, where), texts, name=name))
        elif near := get_close_matches(split.strip().lower(), NAMES, n=1, cutoff=0.75):
            raise UserError(f"{where}: unknown split {split!r}; did you mean {near[0]!r}?")
        else:
            unused[split] += 1
    for split, count in unused.items():
        images = f"{count:,} image{'s' if count > 1 else ''} of the split {split!r}"
        print(f"attnlab: {path}: ignored {images}; the splits are train, val and test", file=sys.stderr)
    for split, examples in splits.items():
        if not examples:
            raise UserError(f"{path}: no images of the split {split}; train, val and test need at least one image each")
    return Splits(tuple(splits["train"]), tuple(splits["dev"]), {"test": tuple(splits["test"])})


Row = tuple[str, str, str, tuple[str, ...]]
"""File and line, name of the image, split, and captions."""


def _json_rows(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        if line.startswith(("1", "2", "0")) and "\t" in line:
            raise UserError(f"{where}: this looks like Flickr8k.token.txt, which also needs task.data.split_files")
        try:
            row = loads(line)
            name, split, texts = row["image"], row["split"], row["captions"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where}: expected JSON with image, split and captions ({error!r})") from error
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in [name, split, *texts])):
            raise UserError(f"{where}: captions must be a list of strings, and image and split must be strings")
        rows.append((where, name, split, checked_captions(texts, where)))
    return rows


def _original_rows(config: Flickr8k, data_dir: Path, path: Path) -> list[Row]:
    """Read the original files: lines `name.jpg#0<TAB>caption`, and a file of image names for each split."""
    texts: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(read_lines(path), start=1):
        key, tab, text = line.partition("\t")
        if not tab or "#" not in key:
            raise UserError(f"{path}:{number}: expected name.jpg#0<TAB>caption")
        texts[key.rpartition("#")[0]] += checked_captions([text], f"{path}:{number}")
    rows = []
    for split, name in config.split_files.items():
        names = find(data_dir, name)
        for number, image in enumerate(read_lines(names), start=1):
            where = f"{names}:{number}"
            if image not in texts:
                raise UserError(f"{where}: {image} has no caption in {path}")
            rows.append((where, image, split, tuple(texts[image])))
    return rows


def _image_loader(path: Path) -> Callable[[str, str], np.ndarray]:
    """Return a function from the name of an image, and its place for errors, to the image's encoded bytes."""
    if path.is_dir():
        return lambda name, where: _file(path, name, where)
    packed = _packed(path)

    def image(name: str, where: str) -> np.ndarray:
        if name not in packed:
            raise UserError(f"{where}: no image {name} in {path}")
        return packed[name]

    return image


def _file(folder: Path, name: str, where: str) -> np.ndarray:
    if Path(name).name != name:
        raise UserError(f"{where}: {name!r} must be a file name without folders")
    try:
        return as_bytes((folder / name).read_bytes())
    except OSError as error:
        raise UserError(f"{where}: {folder / name} cannot be read ({error.strerror or error})") from error


def _packed(path: Path) -> Mapping[str, np.ndarray]:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a folder of images or a .npz file")
    jpeg, offsets, names = read_arrays(path, ["jpeg", "offsets", "names"])
    if len(offsets) != len(names) + 1 or offsets[-1] > len(jpeg):
        raise UserError(f"{path}: {len(names)} names, {len(offsets)} offsets; expected one more offset than names")
    return {str(name): jpeg[offsets[n] : offsets[n + 1]] for n, name in enumerate(names)}
