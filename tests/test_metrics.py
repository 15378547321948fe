"""Scores of translations against sacrebleu's own command and against hand counts."""

import json
import subprocess
import sys

import chex
import pytest

from attnlab.tasks.translation import metrics

ONCE = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Two dogs are playing in the snow.",
    "A little girl climbing into a wooden playhouse.",
    "Ein Straßenmusiker spielt für Fußgänger.",
]
REFERENCES = ONCE * 5
HYPOTHESES = [
    "a man in a blue shirt stands on a ladder and cleans a window.",
    "Two dogs are playing in the snow.",
    "A girl is climbing into a wooden house.",
    "",
] * 5


def sacrebleu_command(tmp_path, hypothesis_lines: list[str], *options: str) -> dict:
    references, hypotheses = tmp_path / "references", tmp_path / "hypotheses"
    references.write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    hypotheses.write_text("\n".join(hypothesis_lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(references), "-i", str(hypotheses), "-w", "6", *options]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.parametrize(
    ("name", "options"),
    [("bleu", ["-m", "bleu"]), ("bleu_lowercase", ["-m", "bleu", "-lc"]), ("chrf", ["-m", "chrf"])],
)
def test_scores_equal_sacrebleus_command(tmp_path, name, options):
    hypotheses = [*HYPOTHESES[:3], "Ein Straßenmusiker spielt für fremde Fußgänger."] * 5
    scores = metrics.translation_scores(hypotheses, REFERENCES, bootstrap=200)
    printed = sacrebleu_command(tmp_path, hypotheses, *options, "--confidence", "--confidence-n", "200")
    assert scores[name] == pytest.approx(printed["score"], abs=1e-5)
    assert scores[f"{name}_signature"] == printed["signature"]
    low, high = scores[f"{name}_ci95"]
    assert low < printed["confidence_mean"] < high
    assert (high - low) / 2 == pytest.approx(printed["confidence_var"], abs=1e-5)


def test_an_interval_may_reach_down_to_no_match_at_all():
    hypotheses, references = ["a b c d e", *["nothing alike in it"] * 19], ["a b c d e", *["1 2 3 4 5"] * 19]
    low, high = metrics.translation_scores(hypotheses, references, bootstrap=100)["bleu_ci95"]
    assert low == 0.0 < high


def test_a_signature_contains_case_tokenizer_and_version():
    scores = metrics.translation_scores(HYPOTHESES, REFERENCES, bootstrap=10)
    assert "case:mixed" in scores["bleu_signature"]
    assert "tok:13a" in scores["bleu_signature"]
    assert "case:lc" in scores["bleu_lowercase_signature"]
    assert "version:" in scores["bleu_lowercase_signature"]


def test_scores_are_plain_json_and_the_same_each_time():
    first, again = (metrics.translation_scores(HYPOTHESES, REFERENCES, bootstrap=50) for _ in range(2))
    chex.assert_trees_all_equal(first.pop("per_example"), again.pop("per_example"))
    assert json.loads(json.dumps(first)) == again
    assert first["sentences"] == 20
    assert first["exact_match"] == 25.0


def test_quick_bleu_equals_the_full_one():
    scores = metrics.translation_scores(HYPOTHESES, REFERENCES, bootstrap=2)
    assert metrics.bleu(HYPOTHESES, REFERENCES) == scores["bleu"]
    assert metrics.bleu(HYPOTHESES, REFERENCES, lowercase=True) == scores["bleu_lowercase"] > scores["bleu"]


def test_bleu_of_perfect_and_of_empty_translations():
    assert metrics.bleu(REFERENCES, REFERENCES) == 100.0
    assert metrics.bleu([""] * 20, REFERENCES) == 0.0


def test_exact_match_is_exact_but_for_white_space():
    thirds = metrics.exact_match_by_length(["a b", "a  b ", "A b", "ab"], ["a b"] * 4, [1] * 4, parts=1)
    assert thirds == [50.0]


def test_exact_match_by_length_orders_by_length_and_leaves_no_sentence_out():
    hypotheses, references = list("abcdefg"), list("abcxefx")
    lengths = [1, 2, 3, 9, 2, 3, 8]  # shares: a b e | c f | g d
    assert metrics.exact_match_by_length(hypotheses, references, lengths) == [100.0, 100.0, 0.0]
    assert metrics.exact_match_by_length(hypotheses, references, lengths, parts=1) == [pytest.approx(500 / 7)]


@pytest.mark.parametrize("score", [metrics.bleu, metrics.translation_scores])
def test_unequal_counts_and_empty_corpora_are_refused(score):
    with pytest.raises(ValueError, match="1 translations for 2 references"):
        score(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="no sentences"):
        score([], [])


def test_lengths_and_parts_must_fit():
    with pytest.raises(ValueError, match="1 lengths for 2"):
        metrics.exact_match_by_length(["a", "b"], ["a", "b"], [1])
    with pytest.raises(ValueError, match="3 parts"):
        metrics.exact_match_by_length(["a", "b"], ["a", "b"], [1, 2], parts=3)
    with pytest.raises(ValueError, match="at least 2"):
        metrics.translation_scores(["a"], ["a"], bootstrap=1)


@pytest.mark.parametrize(
    ("references", "undefined"),
    [
        (["July 27"] * 30, {"bleu", "bleu_lowercase"}),
        (["one, two"], {"bleu", "bleu_lowercase"}),  # the comma is a token: three
        (["", " "], {"bleu", "bleu_lowercase", "chrf", "exact_match"}),
        (["July 27", "one, two, three"], set()),
    ],
)
def test_a_score_that_no_translation_can_change_is_a_note(references, undefined):
    for hypotheses in (references, ["a much longer translation than that"] * len(references)):
        scores = metrics.translation_scores(hypotheses, references, bootstrap=10)
        assert {name for name in scores if name.endswith("_note")} == {f"{name}_note" for name in undefined}
        for name in undefined:
            assert scores[name] is None
            assert scores.get(f"{name}_ci95") is None
        assert set(scores["per_example"]) == {*metrics.METRICS, "exact_match"} - undefined
        assert all(isinstance(scores[name], float) for name in scores["per_example"])
    json.dumps({name: value for name, value in scores.items() if name != "per_example"}, allow_nan=False)


def test_a_bad_translation_of_long_references_keeps_its_score():
    scores = metrics.translation_scores(["", "no"] * 10, ["The cat sat on the mat."] * 20, bootstrap=10)
    assert (scores["bleu"], scores["bleu_ci95"]) == (0.0, [0.0, 0.0])
