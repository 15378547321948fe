"""What one does with an experiment: train it, evaluate it, translate with it, look at its attention."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from attnlab import plots, report
from attnlab.analysis.alignment import Attended, alignment_score, gold_pairs, hard
from attnlab.config import Decoding, Experiment
from attnlab.config.errors import UserError
from attnlab.data.corpus import Pair
from attnlab.data.corpus import load as load_corpus
from attnlab.data.tokenizer import Tokenizers, train_tokenizers
from attnlab.runs import Run
from attnlab.tasks.metrics import exact_match_by_length, translation_scores
from attnlab.tasks.translation import Hypothesis, Translator, average
from attnlab.training.loop import fit
from attnlab.training.progress import Progress
from attnlab.training.signals import graceful
from attnlab.training.steps import TrainState, fingerprint, initial_state, make_train_step, replicated

LINES_AT_ONCE = 1024
"""Lines that `predict` reads before it answers."""
SHOWN = 3
"""Hypotheses on a page where the config asks for one."""
EXAMPLES = 3
"""Test sentences whose attention `evaluate` keeps in the run."""


def train(config: Experiment, directory: Path, data_dir: Path | None) -> Path:
    """Train an experiment into a run directory, or go on where it was broken off.

    Returns: the directory. Raises `Interrupted` (state saved) when asked to stop, `UserError` for bad data, or when
    the directory holds another run.
    """
    corpus = load_corpus(config.task.data, data_dir)
    tokenizers = train_tokenizers(config.task.tokenizer, corpus)
    identity = {
        "data": corpus.fingerprint(),
        "tokenizer": tokenizers.fingerprint(),
        "devices": str(jax.device_count()),  # batches are cut, and dropout is drawn, device by device
    }
    with Run.open(directory, config, identity) as run, graceful() as stop:
        for name, text in tokenizers.files().items():
            run.write_text(f"tokenizer/{name}", text)
        translator = Translator(config, tokenizers)
        batches = translator.batches(corpus.train)
        state = initial_state(translator.model, config.training, config.seed)
        if (restored := run.restore(state)) is not None:
            state = restored[1]
        with Progress(config.training.steps, int(state.step)) as progress:
            for line in (f"run {directory}", *translator.describe(batches, len(corpus.train)), *_describe(state)):
                progress.say(line)
            run.say = progress.say
            state = fit(
                state,
                make_train_step(translator.model, config.training, config.seed),
                batches.iterate(int(state.step)),
                training=config.training,
                evaluate=lambda params, poll: translator.dev_scores(params, corpus.dev, poll),
                run=run,
                watcher=progress,
                poll=stop.poll,
            )
            progress.say(f"parameters after step {int(state.step)}: sha256 {fingerprint(state.params)}")
    return directory


def _describe(state: TrainState) -> list[str]:
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = f"{jax.device_count()} {jax.devices()[0].platform} device{'s' if jax.device_count() > 1 else ''}"
    lines = [f"model: {count:,} parameters, on {devices}"]
    return [*lines, f"going on from step {int(state.step)}"] if int(state.step) else lines


@dataclass(eq=False)
class Trained:
    """A run with what it takes to use it."""

    run: Run
    translator: Translator

    @property
    def params(self) -> PyTree:
        """The run's answer: the mean of the last checkpoints where the config says so, else the best by dev BLEU."""
        return self._chosen[1]

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that `params` come from."""
        return self._chosen[0]

    @cached_property
    def _chosen(self) -> tuple[list[int], PyTree]:
        config = self.run.config
        state = jax.eval_shape(lambda: initial_state(self.translator.model, config.training, config.seed))
        everywhere = replicated()
        like = {
            "params": jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=everywhere), state.params)
        }
        if config.training.average_last:
            found = self.run.checkpoints.last(like, config.training.average_last)
        else:
            best = self.run.checkpoints.best(like)
            found = [] if best is None else [best]
        if not found:
            raise UserError(
                f"{self.run.directory}: no good checkpoint yet; attnlab train {self.run.directory}/config.yaml"
            )
        last = max(self.run.checkpoints.steps())
        if last < config.training.steps and not config.training.patience:
            self.run.say(f"{self.run.directory}: the training is at step {last} of {config.training.steps}")
        if len(found) < config.training.average_last:
            self.run.say(f"{self.run.directory}: the mean is of {len(found)} checkpoints: there are no more good ones")
        return [step for step, _ in found], average([tree["params"] for _, tree in found])

    def predict(self, texts: Sequence[str], decoding: Decoding | None = None) -> list[list[Hypothesis]]:
        """Translate texts; hypotheses of each, best first."""
        return self.translator.translate(self.params, texts, decoding or self.run.config.task.decoding)

    def attended(self, text: str, hypothesis: Hypothesis) -> Attended:
        """A translation of `text` with names for its tokens and those of the source, end tokens included."""
        tokenizers = self.translator.tokenizers
        return Attended(
            source_tokens=[*tokenizers.source.encode(text).surface, report.END],
            target_tokens=[*(tokenizers.target.token(i) for i in hypothesis.tokens), report.END],
            weights=hypothesis.weights,
            translation=hypothesis.text,
            score=hypothesis.score,
        )


def load(directory: Path | str) -> Trained:
    """Open a trained run."""
    run = Run.read(Path(directory))
    tokenizers = Tokenizers.load(run.path("tokenizer"))
    if tokenizers.fingerprint() != run.fingerprint["tokenizer"]:
        raise UserError(f"{run.path('tokenizer')}: is not the tokenizer that the run was trained with")
    return Trained(run, Translator(run.config, tokenizers))


def evaluate(directory: Path, data_dir: Path | None, splits: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Score a run on its test sets, write results.json and the attention of fixed examples.

    Args:
        directory: the run.
        data_dir: as it was for training.
        splits: names of test sets, or "dev"; None is all test sets.

    Returns: {split: {metric: value}}.
    """
    trained = load(directory)
    corpus = load_corpus(trained.run.config.task.data, data_dir)
    if (found := corpus.fingerprint()) != trained.run.fingerprint["data"]:
        raise UserError(
            f"{directory}: was trained on other data ({trained.run.fingerprint['data'][:12]}, here {found[:12]})"
        )
    known = {name: pairs for name, pairs in corpus.splits().items() if name != "train"}
    for name in splits or ():
        if name not in known:
            raise UserError(f"{name}: no such split; there are {', '.join(known)}")
    chosen = splits or list(corpus.test)
    for name in chosen:
        trained.run.write_results(name, _scores(trained, known[name]))
    for number, pair in enumerate(known[chosen[0]][:EXAMPLES], start=1):
        _show(trained, pair.source, f"attention/{chosen[0]}_{number}")
    if log := trained.run.metrics():
        plots.training_curve(log, trained.run.path("training.png"))
    return {name: trained.run.results()[name] for name in chosen}


def _scores(trained: Trained, pairs: Sequence[Pair]) -> dict[str, Any]:
    sources, references = [p.source for p in pairs], [p.target for p in pairs]
    texts = [hypotheses[0].text for hypotheses in trained.predict(sources)]
    scores = translation_scores(texts, references)
    lengths = [len(e.ids) for e in trained.translator.tokenizers.source.encode_batch(sources)]
    if len(pairs) >= 3:
        thirds = exact_match_by_length(texts, references, lengths)
        scores |= dict(zip(("exact_match_short", "exact_match_middle", "exact_match_long"), thirds, strict=True))
    scores |= {"checkpoints": trained.steps, "decoding": trained.run.config.task.decoding.model_dump()}
    if all(pair.alignment is not None for pair in pairs) and trained.run.config.model.attention is not None:
        scores |= _alignment(trained, pairs)
    return scores


def _alignment(trained: Trained, pairs: Sequence[Pair]) -> dict[str, float]:
    """Error rate of the attention when it writes the reference, token by token, against gold."""
    tokenizers = trained.translator.tokenizers
    sources = tokenizers.source.encode_batch([p.source for p in pairs])
    targets = tokenizers.target.encode_batch([p.target for p in pairs])
    weights = trained.translator.attention(trained.params, pairs)
    found = [hard(w, len(s.ids), len(t.ids)) for w, s, t in zip(weights, sources, targets, strict=True)]
    gold = [
        gold_pairs(p.alignment or (), s.offsets, t.offsets) for p, s, t in zip(pairs, sources, targets, strict=True)
    ]
    score = alignment_score(found, gold)
    return {"aer": score.aer, "alignment_precision": score.precision, "alignment_recall": score.recall}


def predict(directory: Path, lines: Iterable[str], n_best: int | None = None) -> Iterator[str]:
    """Translate line by line: one line out for every line in, an empty one for an empty one.

    With `n_best` (None is the config's) above 1, so many lines for each instead, as Moses writes them:
    `line number ||| translation ||| score`, the number counted from 0.
    """
    trained, lines, number = load(directory), iter(lines), 0
    decoding = trained.run.config.task.decoding
    if n_best is not None:
        if not 1 <= n_best <= decoding.beam:
            raise UserError(f"--n-best {n_best}: must be between 1 and the run's beam, {decoding.beam}")
        decoding = decoding.model_copy(update={"n_best": n_best})
    while chunk := list(islice(lines, LINES_AT_ONCE)):
        for hypotheses in trained.predict([line.rstrip("\r\n") for line in chunk], decoding):
            if decoding.n_best == 1:
                yield hypotheses[0].text
            else:
                yield from (f"{number} ||| {found.text} ||| {found.score:.4f}" for found in hypotheses)
            number += 1


def show(directory: Path, text: str) -> tuple[Path, Path]:
    """Translate one sentence and draw where the model looked: a picture and a page. Returns their paths."""
    if not text.split():
        raise UserError('the sentence is empty: attnlab show RUN "ein Satz"')
    trained = load(directory)
    return _show(trained, text, "show/attention")


def _show(trained: Trained, text: str, name: str) -> tuple[Path, Path]:
    decoding = trained.run.config.task.decoding
    if decoding.n_best == 1:
        decoding = decoding.model_copy(update={"n_best": min(decoding.beam, SHOWN)})
    attended = [trained.attended(text, hypothesis) for hypothesis in trained.predict([text], decoding)[0]]
    page = trained.run.write_text(f"{name}.html", report.page(text, attended, title=trained.run.config.name))
    picture = trained.run.path(f"{name}.png")
    plots.alignment(attended[0], picture)
    return picture, page


def resume_command(directory: Path, data_dir: Path | None) -> str:
    """The command that goes on with a run."""
    data = "" if data_dir is None else f" --data {shlex.quote(str(data_dir))}"
    command = shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == "attnlab" else "attnlab"
    return f"{command} train {shlex.quote(str(directory / 'config.yaml'))}{data}"
