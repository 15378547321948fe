"""Convert text to token ids and back with `tokenizers`: whole words or byte-pair encoding.

Text is split into words and single punctuation marks; `▁` before a piece represents the space before it, so that
joining the tokens restores the text.
"""

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from attnlab.config.errors import UserError
from attnlab.config.json_text import read
from attnlab.config.text import Tokenizer as TokenizerConfig
from attnlab.config.text import Words
from attnlab.data.records import Span
from attnlab.data.text.bounded import refuse_unbounded
from attnlab.data.text.letters import attached
from attnlab.data.translation.records import ParallelCorpus

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
"""Names of tokens 0 to 3. Text is never encoded as one of them, as `<` is always a separate token."""

UNKNOWN = (SPECIALS[UNK], "[UNK]")
"""Names of UNK, in trained vocabularies and in WordPiece."""

_SPACE = "▁"
_PIECE = rf"{_SPACE}?(?:[\p{{L}}\p{{M}}\p{{N}}]+|[^\p{{L}}\p{{M}}\p{{N}}{_SPACE}])"
_BLANKS = r"\s+"


@dataclass(frozen=True, eq=False)
class Encoding:
    """The tokens of a text, without special tokens at its ends."""

    text: str
    ids: list[int]
    raw: tokenizers.Encoding

    @cached_property
    def tokens(self) -> list[str]:
        """Return the tokens for display, without the mark of a space, unless that is the whole token."""
        return [_display(token) for token in self.raw.tokens]

    @cached_property
    def surface(self) -> list[str]:
        """Return the part of the text that each token covers, in its original case and also for unknown tokens."""
        return [self.text[start:end] or token for (start, end), token in zip(self.offsets, self.tokens, strict=True)]

    @cached_property
    def unknown(self) -> list[int]:
        """Return the positions of unknown tokens."""
        return [place for place, token in enumerate(self.raw.tokens) if token in UNKNOWN]

    @property
    def unknown_words(self) -> list[str]:
        """Return the words, or parts of words, at the positions of unknown tokens."""
        return [self.surface[place] for place in self.unknown]

    @cached_property
    def offsets(self) -> list[Span]:
        """Return the span of each token in characters, without the space before it and with complete letters.

        Marks and jamo that a normalizer composes into the letter before, or removes, belong to no token in the offsets
        of the library; here they belong to the token of their letter.
        """
        starts, spans = sorted(start for start, _ in self.raw.offsets), []
        for start, end in self.raw.offsets:
            while start < end and self.text[start].isspace():
                start += 1
            after = bisect_left(starts, end)
            limit = starts[after] if after < len(starts) else len(self.text)
            while start < end < limit and attached(self.text[end]):
                end += 1
            spans.append((start, end))
        return spans


class Tokenizer:
    """A trained tokenizer of source, target, or both.

    `decode(encode(text).ids) == text` up to unknown tokens, white space (runs become a single space, ends are
    stripped), Unicode composition (NFC), the character ▁ (which becomes _) and, with `lowercase`, case.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self._unknown = f"{_SPACE}{SPECIALS[UNK]}" if isinstance(inner.model, models.WordLevel) else SPECIALS[UNK]

    @property
    def vocabulary_size(self) -> int:
        """Return the number of tokens, including the four special ones."""
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> Encoding:
        """Return the tokens of a text, without BOS and EOS."""
        raw = self._inner.encode(text)
        return Encoding(text, raw.ids, raw)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Return the tokens of each text, without BOS and EOS."""
        raws = self._inner.encode_batch(list(texts))
        return [Encoding(text, raw.ids, raw) for text, raw in zip(texts, raws, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, without PAD, BOS and EOS; UNK becomes `<unk>`, or `[UNK]` in WordPiece."""
        if isinstance(self._inner.model, models.WordPiece):
            return self._inner.decode([int(i) for i in ids if i not in (PAD, BOS, EOS)], skip_special_tokens=False)
        return "".join(map(self._surface, ids)).replace(_SPACE, " ").removeprefix(" ")

    def offsets(self, ids: Sequence[int]) -> list[Span]:
        """Return the span of each token in the text that `decode` returns, without the space before it.

        Not for WordPiece, which no model generates.
        """
        pieces = [self._surface(i) for i in ids]
        spans, end = [], -int("".join(pieces).startswith(_SPACE))  # `decode` removes the first space
        for piece in pieces:
            start, end = end + len(piece) - len(piece.lstrip(_SPACE)), end + len(piece)
            spans.append((max(start, 0), max(end, 0)))
        return spans

    def token(self, index: int) -> str:
        """Return a token for display."""
        return _display(self._piece(index))

    def _surface(self, index: int) -> str:
        """Return what a token adds to a text, with the mark of a space."""
        if index in (PAD, BOS, EOS):
            return ""
        return self._unknown if index == UNK else self._piece(index)

    def _piece(self, index: int) -> str:
        piece = self._inner.id_to_token(int(index))
        if piece is None:
            raise ValueError(f"token {index} is outside the vocabulary of {self.vocabulary_size}")
        return piece

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON of the `tokenizers` library."""
        path.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Return the tokenizer as JSON of the `tokenizers` library."""
        return self._inner.to_str(pretty=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load what `save` wrote."""
        plain = read(path, dict, "tokenizer")
        refuse_unbounded(plain, str(path), (_PIECE, _BLANKS))
        try:
            return cls(tokenizers.Tokenizer.from_str(json.dumps(plain)))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path}: not a tokenizer of the tokenizers library ({error})") from error


@dataclass(frozen=True, eq=False)
class Tokenizers:
    """The tokenizers of source and target, which are the same object if they are equal."""

    source: Tokenizer
    target: Tokenizer

    def save(self, directory: Path) -> None:
        """Write source.json and target.json."""
        directory.mkdir(parents=True, exist_ok=True)
        self.source.save(directory / "source.json")
        self.target.save(directory / "target.json")

    def files(self) -> dict[str, str]:
        """Return the content of the files that `save` writes, by name."""
        return {"source.json": self.source.to_json(), "target.json": self.target.to_json()}

    def fingerprint(self) -> str:
        """Return the sha256 of both tokenizers."""
        return hashlib.sha256("\n".join(self.files().values()).encode()).hexdigest()

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Load what `save` wrote."""
        source, target = directory / "source.json", directory / "target.json"
        first, second = Tokenizer.load(source), Tokenizer.load(target)
        return cls(first, first if source.read_bytes() == target.read_bytes() else second)


def train(
    config: TokenizerConfig,
    texts: Iterable[str],
    side: Literal["source", "target", "joint"],
    split: str | None = None,
) -> Tokenizer:
    """Train a tokenizer on the texts of source, target, or both.

    Args:
        config: kind and size of the vocabulary.
        texts: training texts.
        side: side of the texts, for `lowercase`; "joint" texts are lower-cased only if both sides are.
        split: regular expression whose matches within a word become separate pieces; None does not split words.
    """
    lower = config.lowercase == "both" or (config.lowercase == "source" and side == "source")
    preprocessing = _Preprocessing(lower, split)
    return Tokenizer(preprocessing.tokenizer(_learn(config, preprocessing, texts)))


def train_tokenizers(config: TokenizerConfig, corpus: ParallelCorpus) -> Tokenizers:
    """Train the tokenizers of a corpus on its training examples."""
    source = _Preprocessing(config.lowercase != "none", corpus.source_split)
    target = _Preprocessing(config.lowercase == "both", corpus.target_split)
    sources, targets = ([pair.source for pair in corpus.train], [pair.target for pair in corpus.train])
    if not config.joint:
        return Tokenizers(
            Tokenizer(source.tokenizer(_learn(config, source, sources))),
            Tokenizer(target.tokenizer(_learn(config, target, targets))),
        )
    if source == target:
        both = Tokenizer(source.tokenizer(_learn(config, source, [*sources, *targets])))
        return Tokenizers(both, both)
    pieces = [*source.pieces(sources), *target.pieces(targets)]
    model = _learn(config, _Pieces(), pieces)
    return Tokenizers(Tokenizer(source.tokenizer(model)), Tokenizer(target.tokenizer(model)))


@dataclass(frozen=True)
class _Preprocessing:
    """Normalization and pre-tokenization of a text into pieces, which are then split into tokens."""

    lower: bool
    split: str | None

    def tokenizer(self, model: models.Model) -> tokenizers.Tokenizer:
        """Return a tokenizer with this normalization and pre-tokenization and a model."""
        inner = tokenizers.Tokenizer(model)
        lower = [normalizers.Lowercase()] if self.lower else []
        inner.normalizer = normalizers.Sequence([
            normalizers.NFC(), *lower, normalizers.Replace(_SPACE, "_"),
            normalizers.Replace(Regex(_BLANKS), " "), normalizers.Strip(),
        ])  # fmt: skip
        patterns = [_PIECE] + ([f"{_SPACE}?(?:{self.split})"] if self.split else [])
        inner.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Metaspace(_SPACE, "always", split=False),
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns),
        ])  # fmt: skip
        return inner

    def pieces(self, texts: Sequence[str]) -> list[str]:
        """Return the pieces of each text, one per line."""
        inner = self.tokenizer(models.WordLevel({}, ""))
        normalize, cut = inner.normalizer.normalize_str, inner.pre_tokenizer.pre_tokenize_str
        return ["\n".join(piece for piece, _ in cut(normalize(text))) for text in texts]


@dataclass(frozen=True)
class _Pieces:
    """Pre-tokenization of texts that are already split into pieces, one per line."""

    def tokenizer(self, model: models.Model) -> tokenizers.Tokenizer:
        inner = tokenizers.Tokenizer(model)
        inner.pre_tokenizer = pre_tokenizers.Split("\n", "removed")
        return inner


def _learn(config: TokenizerConfig, preprocessing: _Preprocessing | _Pieces, texts: Iterable[str]) -> models.Model:
    """Train a model of `tokenizers`; return it without the library's matching of special tokens in texts."""
    options = {
        "vocab_size": config.vocabulary, "min_frequency": config.min_frequency,
        "special_tokens": list(SPECIALS), "show_progress": False,
    }  # fmt: skip
    if isinstance(config, Words):
        model, trainer = models.WordLevel(unk_token=SPECIALS[UNK]), trainers.WordLevelTrainer(**options)
    else:
        texts, limit = list(texts), config.vocabulary // 2
        model = models.BPE(unk_token=SPECIALS[UNK])
        alphabet = _alphabet(preprocessing.tokenizer(model), texts, limit)
        trainer = trainers.BpeTrainer(**options, limit_alphabet=limit, initial_alphabet=alphabet)
    inner = preprocessing.tokenizer(model)
    inner.train_from_iterator(texts, trainer)
    plain = json.loads(inner.to_str()) | {"added_tokens": []}
    return tokenizers.Tokenizer.from_str(json.dumps(plain)).model


def _alphabet(inner: tokenizers.Tokenizer, texts: Sequence[str], limit: int) -> list[str]:
    """Return the `limit` most frequent characters; rarer ones become unknown and do not fill the vocabulary.

    Ties are broken by Unicode order (the library breaks them at random).
    """
    counts: Counter[str] = Counter()
    for text in texts:
        normalized = inner.normalizer.normalize_str(text) if inner.normalizer else text
        counts.update("".join(piece for piece, _ in inner.pre_tokenizer.pre_tokenize_str(normalized)))
    return sorted(sorted(counts), key=lambda character: -counts[character])[:limit]


def _display(piece: str) -> str:
    return piece.removeprefix(_SPACE) or piece
