"""Translations with their word alignment, for `attnlab predict --alignment`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import PyTree

from attnlab.analysis.alignment.attention import Choice, attention_links
from attnlab.analysis.alignment.sentences import attended_sentences, tokenized_hypothesis
from attnlab.data.translation.alignment_files import pharaoh
from attnlab.tasks.hypotheses import Hypothesis, output_lines, with_n_best
from attnlab.tasks.seq2seq import Seq2SeqTask


@dataclass(frozen=True, eq=False)
class AlignedPrediction:
    """Translates lines and aligns each translation with its source.

    Attributes:
        task: a translation task whose model has attention.
        choice: which attention is read as alignment.
    """

    task: Seq2SeqTask
    choice: Choice

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield what `task.predict` does, each line with the field `||| 0-0 1-2`: links source-target, from 0.

        Words are what spaces separate in the line and in the translation. The attention is that of the finished
        translation as the decoder's input.
        """
        decoding = with_n_best(self.task.decoding, n_best)
        lines = [line.strip() for line in lines]
        generated = list(self.task.hypotheses_of_lines(params, lines, decoding))
        aligned = iter(self._links(params, list(zip(lines, generated, strict=True))))
        for number, hypotheses in enumerate(generated, start=first):
            yield from output_lines(number, hypotheses, decoding.n_best, [next(aligned) for _ in hypotheses])

    def _links(self, params: PyTree, generated: Sequence[tuple[str, Sequence[Hypothesis]]]) -> list[str]:
        """Return the links of each hypothesis, one line after the other; those of an empty text are empty."""
        hypotheses = [(line, hypothesis) for line, some in generated for hypothesis in some]
        pairs = [tokenized_hypothesis(self.task, *pair) for pair in hypotheses if pair[1].text.strip()]
        attended = iter(attended_sentences(self.task, params, pairs) if pairs else [])
        return [
            pharaoh(attention_links(next(attended), self.choice)) if hypothesis.text.strip() else ""
            for _, hypothesis in hypotheses
        ]
