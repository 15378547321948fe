"""Attention maps of a translation: cross-attention of each hypothesis, and a selected layer and head."""

from dataclasses import replace
from typing import Any

from attnlab.config.models.transformer import TransformerSeq2Seq
from attnlab.data.text.tokenizer import Tokenizers
from attnlab.tasks.attention_map import AttentionMap, RowGroup
from attnlab.tasks.hypotheses import END, START, Hypothesis
from attnlab.tasks.layer_attention import SelectedAttention, self_attention_map, title


def hypothesis_map(text: str, hypothesis: Hypothesis, tokenizers: Tokenizers, model: Any) -> AttentionMap:
    """Return the attention of a hypothesis to the source text, end tokens included.

    Args:
        text: the source text.
        hypothesis: a translation with its attention.
        tokenizers: of source and target.
        model: the config of the model.
    """
    source = tokenizers.source.encode(text)
    groups: tuple[RowGroup, ...] = ()
    if isinstance(model, TransformerSeq2Seq):
        layer = title("cross", model.decoder.reported_layer + 1, model.decoder.layers, model.heads)
        groups = (RowGroup(len(hypothesis.weights), layer, "target"),)
    return AttentionMap(
        column_labels=[*source.surface, END],
        row_labels=[*(tokenizers.target.token(token) for token in hypothesis.tokens), END],
        weights=hypothesis.weights,
        prediction=hypothesis.text,
        score=hypothesis.score,
        input=text,
        row_label="target",
        column_label="source",
        row_groups=groups,
        unknown_words=tuple(dict.fromkeys(source.unknown_words)),
    )


def selected_map(best: AttentionMap, selected: SelectedAttention) -> AttentionMap:
    """Return the attention map of a selected layer and head while the model decodes the best hypothesis."""
    source, target = best.column_labels, best.row_labels
    if selected.kind == "encoder":
        return self_attention_map(best, source, selected)
    columns, row_label, column_label = {
        "cross": (source, "target", "source"),
        "decoder": ([START, *target[:-1]], "next token", "previous tokens"),
    }[selected.kind]
    return replace(
        best,
        column_labels=columns,
        weights=selected.weights[: len(target), : len(columns)],
        column_label=column_label,
        row_label=row_label,
        row_groups=(RowGroup(len(target), selected.title, row_label),),
    )
