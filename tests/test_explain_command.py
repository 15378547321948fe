"""`attnlab explain` on a run: the pages it writes, the order of its arguments, and one line for every mistake."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnlab import cli, lab
from attnlab.config.errors import UserError
from attnlab.lab import explaining
from attnlab.lab.trained import TrainedModel

CONFIG = Path(__file__).parents[1] / "experiments/classification/synthetic_sentiment_transformer.yaml"
TEXT = "The plot is good."
QUICK = "raw_attention,random_attribution"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "sentiment"
    assert cli.main(["train", str(CONFIG), "--tiny", "--out", str(directory), "training.steps=2"]) == 0
    return directory


@pytest.fixture(scope="module", autouse=True)
def compiled_once(run: Path) -> Iterator[None]:
    """Load the run once for all tests, so that every method is compiled once."""
    trained: list[TrainedModel] = []
    load = explaining.load

    def cached(directory: Path, *, trust: bool = False) -> TrainedModel:
        if directory != run:
            return load(directory, trust=trust)
        if not trained:
            trained.append(load(directory, trust=trust))
        return trained[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "load", cached)
        yield


def explain(run: Path, *arguments: str) -> int:
    return cli.main(["explain", str(run), *arguments])


def test_it_writes_a_page_and_prints_prediction_and_path(run: Path, capsys: pytest.CaptureFixture[str]):
    assert explain(run, TEXT) == 0
    printed = capsys.readouterr()
    prediction, path = re.fullmatch(r"prediction: (.*)\npage: (.*)\n", printed.out).groups()  # type: ignore[union-attr]
    assert prediction in ("positive", "negative")
    assert Path(path) == run / "explain/explanation_1.html"
    html = (run / "explain/explanation_1.html").read_text(encoding="utf-8")
    for method in ("raw_attention", "attention_relevance", "input_x_gradient", "integrated_gradients", "leave_one_out"):
        assert f"<h3>{method}</h3>" in html
    assert "completeness gap" in html
    assert f"attnlab explain {run} &#39;{TEXT}&#39;" in html
    lines = printed.err.splitlines()
    assert lines[0] == "attnlab: prediction"
    assert lines[1].startswith("attnlab: 7 methods: raw_attention, ")


def test_pages_get_the_next_number_and_options_may_come_first(run: Path, capsys: pytest.CaptureFixture[str]):
    (run / "explain").mkdir(exist_ok=True)
    (run / "explain/explanation_7.html").write_text("")
    assert explain(run, "--methods", QUICK, TEXT) == 0
    assert f"page: {run / 'explain/explanation_8.html'}" in capsys.readouterr().out


def test_target_contrast_granularity_and_file(run: Path, tmp_path: Path):
    page = tmp_path / "new" / "page.html"
    options = ["--methods", QUICK, "--target", "negative", "--contrast", "positive", "--granularity", "token"]
    assert explain(run, TEXT, *options, "--out", str(page)) == 0
    html = page.read_text(encoding="utf-8")
    assert "log-probability of the class &#39;negative&#39; minus that of &#39;positive&#39;" in html
    assert ">good</span> <span" in html
    assert ">.</span>" in html
    for option in (f"--methods={QUICK}", "--target=negative", "--granularity=token"):
        assert option in html


def test_without_input_the_first_examples_of_the_test_set_are_explained(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert explain(run, "--methods", QUICK, "--out", str(tmp_path / "page.html")) == 0
    pages = [tmp_path / name for name in ("page.html", "page_2.html", "page_3.html")]
    assert all(page.is_file() for page in pages)
    assert capsys.readouterr().out.count("prediction: ") == 3


def test_one_example_that_cannot_be_explained_does_not_stop_the_others(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    original, failing = explaining.explanation_page, {2}
    calls: list[int] = []

    def page(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) in failing:
            raise UserError("the text has no tokens")
        return original(*arguments)

    monkeypatch.setattr(explaining, "explanation_page", page)
    assert explain(run, "--methods", QUICK, "--out", str(tmp_path / "page.html")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "page_3.html"]
    assert "example 2 of 3 was not explained: the text has no tokens" in capsys.readouterr().err
    failing |= {4, 5, 6}
    assert explain(run, "--methods", QUICK, "--out", str(tmp_path / "none.html")) == 2


def test_slow_methods_come_with_an_estimate(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--methods", f"{QUICK},greedy_leave_one_out,attention_flow", "--out", str(tmp_path / "page.html")]
    assert explain(run, "good film", *options) == 0
    estimates = re.findall(r"attnlab: (\w+): about [\d,]+ s, and its compilation\n", capsys.readouterr().err)
    assert estimates == ["greedy_leave_one_out", "attention_flow"]


def test_all_methods_are_those_that_the_model_can_have(run: Path):
    trained = explaining.load(run)
    assert trained.chosen_methods(["all"]) == trained.chosen_methods("all") == trained.explanation_methods
    assert "greedy_leave_one_out" in trained.explanation_methods
    assert trained.chosen_methods([])[-1] == "random_attribution"
    with pytest.raises(UserError, match="cross_attention_relevance: is not computed for the models of tasks"):
        trained.chosen_methods(["cross_attention_relevance"])


def test_in_python(run: Path):
    trained = explaining.load(run)
    several = trained.explain_together(TEXT, methods=["raw_attention", "random_attribution"])
    assert [one.method for one in several] == ["raw_attention", "random_attribution"]
    assert several["raw_attention"].parts[0].unit == "word"
    alone = trained.explain(TEXT, method="raw_attention", granularity="word")
    assert several["raw_attention"]["text"].attributions == pytest.approx(alone["text"].attributions, abs=1e-6)
    page = lab.explanation_page(
        trained, trained.task.parse_example([TEXT]), lab.ExplanationSettings(("raw_attention",))
    )
    assert "raw_attention" in page.html


MISTAKES = {
    "a method that the model cannot have": (
        [TEXT, "--methods", "encoder_decoder_relevance"],
        ["encoder_decoder_relevance needs", "use attention_relevance"],
    ),
    "an unknown method": ([TEXT, "--methods", "leave_one_uot"], ["leave_one_uot", "leave_one_out"]),
    "no method": ([TEXT, "--methods", "raw_attention,"], ["--methods"]),
    "all with others": ([TEXT, "--methods", "all,raw_attention"], ["--methods"]),
    "an unknown target": ([TEXT, "--methods", QUICK, "--target", "neutral"], ["neutral", "positive"]),
    "a contrast that is the target": (
        [TEXT, "--methods", QUICK, "--target", "positive", "--contrast", "positive"], ["contrast 'positive'"],
    ),
    "a position": ([TEXT, "--methods", QUICK, "--position", "1"], ["position 1"]),
    "a granularity": ([TEXT, "--granularity", "letter"], ["--granularity", "sentence"]),
    "an empty text": ([" "], ["the text is empty"]),
    "a folder as file": ([TEXT, "--out", "."], ["--out ."]),
    "an unknown option": ([TEXT, "--method", "all"], ["--method"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, run: Path, capsys: pytest.CaptureFixture[str]):
    arguments, expected = MISTAKES[mistake]
    before = sorted(run.glob("explain/*"))
    assert explain(run, *arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line != "attnlab: prediction"]
    assert line.startswith("attnlab: ")
    for text in expected:
        assert text in line
    assert sorted(run.glob("explain/*")) == before


def test_a_missing_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert explain(tmp_path / "nothing", TEXT) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_data_the_message_asks_for_an_input(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    trained = explaining.load(run)
    monkeypatch.setitem(trained.run.fingerprint, "data", "0" * 64)
    assert explain(run, "--methods", QUICK) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was trained on different data" in line
    assert "give an INPUT: a text" in line
