"""The explained prediction of a model that generates a text: all of it or one of its tokens, alone or in contrast."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.tree_util import Partial

from attnlab.config.errors import UserError
from attnlab.data.text.tokenizer import Encoding, Tokenizer
from attnlab.tasks.explained_prediction import (
    ExplainedPrediction,
    TargetSelection,
    text_contrast,
    text_target,
    token_contrast,
    token_target,
)
from attnlab.tasks.hypotheses import END, Hypothesis
from attnlab.tasks.input_parts import InputSequence


def explained_output(
    source: Any,
    inputs: InputSequence,
    best: Hypothesis,
    tokenizer: Tokenizer,
    encode: Callable[[str], Encoding],
    selection: TargetSelection,
) -> ExplainedPrediction:
    """Return the explained prediction of a generated text.

    Args:
        source: the source as the adapter's `fill` takes it, beside the token numbers of an output.
        inputs: the labels of the source.
        best: the model's own output.
        tokenizer: of the output.
        encode: encodes an output text.
        selection: the target; its texts are outputs, or with a position and a contrast the contrast is one token.
    """
    tokens = best.tokens if selection.target is None else _tokens(encode, selection.target, "target")
    output = (*map(tokenizer.token, tokens), END)
    text = best.text if selection.target is None else selection.target
    examples, rows = [(source, tokens)], range(len(output))
    if selection.position is None:
        target, description = Partial(text_target), f"log-probability of the output {text!r}"
        if selection.contrast is not None:
            others = _tokens(encode, selection.contrast, "contrast")
            if list(others) == list(tokens):
                raise UserError(f"contrast {selection.contrast!r} is the target itself; name another output")
            examples.append((source, others))
            target, description = Partial(text_contrast), f"{description} minus that of {selection.contrast!r}"
    else:
        index = _index(selection.position, output)
        target = Partial(token_target, position=np.int32(index))
        description = f"log-probability of the output's token {selection.position}, {output[index]!r}"
        if selection.contrast is not None:
            other = _single(encode, selection.contrast, selection.position)
            if index < len(tokens) and other == tokens[index]:
                raise UserError(f"contrast {selection.contrast!r} is the token itself; name another one")
            target = Partial(token_contrast, position=np.int32(index), other=np.int32(other))
            description += f", minus that of {tokenizer.token(other)!r}"
        rows = (index,)
    return ExplainedPrediction(tuple(examples), inputs, target, description, best.text, output, tuple(rows))


def _tokens(encode: Callable[[str], Encoding], text: str, option: str) -> list[int]:
    encoding = encode(text)
    if encoding.unknown:
        raise UserError(f"{option} {text!r}: the vocabulary of the output lacks {encoding.unknown_words[0]!r}")
    return list(encoding.ids)


def _single(encode: Callable[[str], Encoding], text: str, position: int) -> int:
    tokens = _tokens(encode, text, "contrast")
    if len(tokens) != 1:
        raise UserError(
            f"contrast {text!r} has {len(tokens)} tokens; with position {position} it is one token of the output"
        )
    return tokens[0]


def _index(position: int, output: Sequence[str]) -> int:
    if not 1 <= position <= len(output):
        raise UserError(f"position {position}: the output has tokens 1 to {len(output)}, the last of them {END}")
    return position - 1
