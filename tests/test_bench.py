"""The PyTorch models take the same training steps as attnlab's, on the same batches."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.bench import synthetic_pairs, training, worker
from attnlab.bench.budget import Budget
from attnlab.bench.process import Process
from attnlab.bench.training import Comparison, Round, Worker, compare
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.models.transformer import TransformerSeq2Seq
from attnlab.tasks.translation.task import TranslationTask
from attnlab.training.steps import TrainState, initial_state, make_train_step

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `bench` is not installed")
SOURCES, TARGETS = 13, 11


def experiment(
    *, score: str | None = "additive", variant: str = "bahdanau", cell: str = "gru", **model: Any
) -> Experiment:
    settings = {"kind": score} | ({"hidden": 5} if score == "additive" else {})
    tree = {
        "name": "small",
        "task": {
            "kind": "translation",
            "data": {"kind": "dates", "train": 60, "dev": 5, "test": 5, "max_items": 2},
            "tokenizer": {"kind": "words"},
        },
        "model": {
            "kind": "recurrent_seq2seq",
            "embedding": 6,
            "encoder": {"cell": cell, "hidden": 4},
            "decoder": {"cell": cell, "hidden": 8, "variant": variant},
            "attention": None if score is None else {"score": settings},
        }
        | model,
        "training": {
            "steps": 8,
            "batch_tokens": 128,
            "buckets": 2,
            "optimizer": {"kind": "adamw", "learning_rate": 0.01, "warmup_steps": 3, "weight_decay": 0.1},
            "label_smoothing": 0.1,
        },
    }
    return Experiment.model_validate_json(json.dumps(tree))


def batch(seed: int) -> dict[str, np.ndarray]:
    """A batch of four rows of different lengths, the last one padding."""
    rng = np.random.default_rng(seed)
    source_lengths, target_lengths = np.array([7, 3, 1, 0], np.int32), np.array([2, 5, 4, 0], np.int32)

    def tokens(lengths: np.ndarray, width: int, vocabulary: int) -> np.ndarray:
        drawn = rng.integers(4, vocabulary, (len(lengths), width), dtype=np.int32)
        return np.where(np.arange(width) < lengths[:, None], drawn, 0).astype(np.int32)

    return {
        "source": tokens(source_lengths, 8, SOURCES),
        "source_lengths": source_lengths,
        "target_in": tokens(target_lengths, 5, TARGETS),
        "target_out": tokens(target_lengths, 5, TARGETS),
        "target_lengths": target_lengths,
    }


def torch_names(params: dict, config: Any) -> dict[str, np.ndarray]:
    """Return the parameters of attnlab under the names and in the layouts of the PyTorch model."""
    decoder, named = params["decoder"], {}
    for layer in range(config.encoder.layers):
        for direction, ending in (("forward", ""), ("backward", "_reverse")):
            ours = params["encoder"][f"layer_{layer}"][direction]
            for name, torch_name in (("input", "ih"), ("recurrent", "hh")):
                named[f"encoder.weight_{torch_name}_l{layer}{ending}"] = ours[name]["kernel"].T
                named[f"encoder.bias_{torch_name}_l{layer}{ending}"] = ours[name]["bias"]
    named |= {
        "bridge.weight": decoder["bridge"]["kernel"].T,
        "bridge.bias": decoder["bridge"]["bias"],
        "cell.weight_ih": np.concatenate([decoder["input"]["kernel"], decoder["feed"]]).T,
        "cell.bias_ih": decoder["input"]["bias"],
        "cell.weight_hh": decoder["cell"]["kernel"].T,
        "cell.bias_hh": decoder["cell"]["bias"],
        "readout.weight": decoder["w_readout"].T,
        "readout.bias": decoder["b_readout"],
        "target_embedding.weight": params["target_embedding"]["embedding"],
        "source_embedding.weight": params.get("source_embedding", params["target_embedding"])["embedding"],
        "output.weight": params["output"]["kernel"].T
        if "output" in params
        else params["target_embedding"]["embedding"],
        "output.bias": params["output_bias"],
    }
    if config.decoder.cell == "lstm":
        for name in [name for name in named if "bias_hh" in name]:
            discard = np.repeat([0.0, 1.0, 0.0, 0.0], len(named[name]) // 4)  # attnlab adds this 1 in the cell
            named[name] = np.asarray(named[name]) + discard
    if config.attention is not None and config.attention.score.kind == "additive":
        score = decoder["attention"]["attend"]["score"]
        named |= {"attend.w_query.weight": score["w_query"][0].T, "attend.v": score["v"]}
        named["attend.w_key.weight"] = score["w_key"][0].T
    if config.attention is not None and config.attention.score.kind == "general":
        named["attend.w_key.weight"] = decoder["attention"]["attend"]["score"]["w"][0]
    return {name: np.asarray(array, np.float32) for name, array in named.items()}


def transformer_names(params: dict, config: Any) -> dict[str, np.ndarray]:
    """Return the parameters of a Transformer likewise."""
    named: dict[str, np.ndarray] = {}

    def linear(name: str, ours: dict) -> None:
        named[f"{name}.weight"] = ours["kernel"].T
        named.update({f"{name}.bias": ours["bias"]} if "bias" in ours else {})

    def norm(name: str, ours: dict) -> None:
        named.update({f"{name}.weight": ours["scale"], f"{name}.bias": ours["bias"]})

    for stack in ("encoder", "decoder"):
        for layer, ours in params[stack].items():
            if layer == "final_norm":
                norm(f"{stack}_norm", ours)
                continue
            at = f"{stack}.{layer.removeprefix('layer_')}"
            for attention in ("self_attention", "cross_attention"):
                for part, projection in ours.get(attention, {}).items():
                    linear(f"{at}.{attention}.{part}", projection)
            for part in ("self_norm", "cross_norm", "feed_forward_norm"):
                if part in ours:
                    norm(f"{at}.{part}", ours[part])
            linear(f"{at}.hidden", ours["feed_forward"]["hidden"])
            linear(f"{at}.output", ours["feed_forward"]["output"])
    target = params["target_embedding"]["embedding"]
    named |= {
        "target_embedding.weight": target,
        "source_embedding.weight": params.get("source_embedding", params["target_embedding"])["embedding"],
        "readout.weight": target,
        "readout.bias": params["readout"]["bias"],
    }
    return {name: np.asarray(array, np.float32) for name, array in named.items()}


def both_sides(config: Experiment) -> tuple[TrainState, Any, Any]:
    """Return the state and step of attnlab, and a PyTorch trainer that starts from the same parameters."""
    import torch

    from attnlab.bench.torch_trainer import Trainer

    sides = [SimpleNamespace(vocabulary_size=size) for size in (SOURCES, TARGETS)]
    task = TranslationTask(config, SimpleNamespace(source=sides[0], target=sides[1]))  # type: ignore[arg-type]
    state = initial_state(task.initialize, config.training, config.seed)
    trainer = Trainer(config, SOURCES, TARGETS)
    names = torch_names if config.model.kind == "recurrent_seq2seq" else transformer_names
    named = names(jax.device_get(state.params), config.model)
    assert set(named) == set(trainer.model.state_dict())
    trainer.model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in named.items()})
    return state, make_train_step(task.loss, config.training, config.seed), trainer


@needs_torch
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"variant": "luong"},
        {"score": "general", "variant": "luong", "tie_embeddings": "none"},
        {"score": "scaled_dot"},
        {"score": "dot", "cell": "lstm", "variant": "luong"},
        {"score": None},
        {"cell": "lstm", "encoder": {"cell": "lstm", "hidden": 4, "layers": 2}},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()) or "default",
)
def test_pytorch_takes_the_same_steps(settings):
    """Losses of training steps agree: model, objective, clipping, AdamW, weight decay and schedule are the same."""
    config = experiment(**settings)
    state, train_step, trainer = both_sides(config)
    for number in range(6):
        state, metrics = train_step(state, batch(number))
        assert trainer.step(batch(number)) == pytest.approx(float(metrics["loss"]), rel=2e-4)


@needs_torch
def test_pytorch_takes_the_same_steps_of_sgd():
    tree = experiment().model_dump(mode="json")
    tree["training"]["optimizer"] = {"kind": "sgd", "learning_rate": 0.5, "nesterov": True, "weight_decay": 0.1}
    state, train_step, trainer = both_sides(Experiment.model_validate_json(json.dumps(tree)))
    for number in range(6):
        state, metrics = train_step(state, batch(number))
        assert trainer.step(batch(number)) == pytest.approx(float(metrics["loss"]), rel=2e-4)


@needs_torch
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_pytorch_follows_the_same_schedule(schedule):
    from attnlab.bench.torch_trainer import _relative_rate
    from attnlab.config import AdamW
    from attnlab.training.optimizer import schedule as ours

    for warmup in (0, 4):
        config = AdamW(learning_rate=0.5, schedule=schedule, warmup_steps=warmup)
        rate = ours(config, 10)
        for step in range(10):
            assert 0.5 * _relative_rate(config, 10, step) == pytest.approx(
                float(rate(jnp.asarray(step))), rel=1e-5, abs=1e-7
            )


TRANSFORMER = {
    "kind": "transformer_seq2seq", "width": 8, "heads": 2, "feed_forward": 12, "max_length": 200, "dropout": 0.0,
    "encoder": {"layers": 2}, "decoder": {"layers": 2}, "tie_embeddings": "output",
}  # fmt: skip


@needs_torch
@pytest.mark.parametrize(
    "changes",
    [{}, {"norm_position": "post", "activation": "gelu"}, {"positions": {"kind": "none"}, "biases": False}],
    ids=["pre", "post-gelu", "no positions"],
)
def test_pytorch_takes_the_same_steps_with_a_transformer(changes):
    config = experiment().model_copy(update={"model": TransformerSeq2Seq.model_validate(TRANSFORMER | changes)})
    state, train_step, trainer = both_sides(config)
    for number in range(4):
        state, metrics = train_step(state, batch(number))
        assert trainer.step(batch(number)) == pytest.approx(float(metrics["loss"]), rel=3e-4)


@needs_torch
def test_settings_that_the_pytorch_transformer_does_not_support_are_refused_by_name():
    from attnlab.bench.torch_transformer import Transformer

    for change, place in (
        ({"positions": {"kind": "rotary"}}, "model.positions"),
        ({"kv_heads": 1}, "model.kv_heads"),
        ({"decoder": {"cross_attention": {"score": {"kind": "additive"}}}}, "model.decoder.cross_attention"),
    ):
        with pytest.raises(UserError, match=place):
            Transformer(TransformerSeq2Seq.model_validate(TRANSFORMER | change), SOURCES, TARGETS)


@needs_torch
def test_pytorch_drops_out_in_training():
    config = experiment(dropout=0.5)
    _, _, trainer = both_sides(config)
    assert trainer.loss(batch(0)).item() != trainer.loss(batch(0)).item()
    trainer.model.eval()
    assert trainer.loss(batch(0)).item() == trainer.loss(batch(0)).item()


def test_workers_read_the_measured_batches_and_warm_up_every_shape(tmp_path):
    config = experiment()
    work = training._pairs(config, None, tmp_path, synthetic=False) | {"device": "cpu"}
    batches, warm_up, real = training._prepare(config, work, tmp_path, count=3, row_multiple=2)
    read = worker._load(tmp_path / "batches.npz")
    assert len(read) == len(batches) == 3 + len(warm_up)
    for written, loaded in zip(batches, read, strict=True):
        assert {n: a.tolist() for n, a in written.items()} == {n: a.tolist() for n, a in loaded.items()}
    shapes = {(b["source"].shape, b["target_in"].shape) for b in batches}
    assert shapes == {(batches[n]["source"].shape, batches[n]["target_in"].shape) for n in warm_up}
    assert len(warm_up) == len(shapes)
    measured = batches[:3]
    assert real == sum(b["target_lengths"].sum() for b in measured) / sum(b["target_in"].size for b in measured)
    assert all(b["source"].shape[0] % 2 == 0 for b in batches)


def test_medians_and_ratio():
    rounds = (Round(1000, 1.0, 2.0), Round(1000, 2.0, 2.0), Round(3000, 4.0, 6.0))
    comparison = Comparison("x", "jax 1", "torch 2", 0.9, rounds)
    assert comparison.jax_tokens_per_second == 750.0
    assert comparison.torch_tokens_per_second == 500.0
    assert comparison.ratio == 1.5
    *table, line = str(comparison).splitlines()
    assert json.loads(line)["ratio"] == 1.5
    assert json.loads(line)["rounds"][0] == {"tokens": 1000, "jax_seconds": 1.0, "torch_seconds": 2.0}
    assert table[2].split()[:4] == ["attnlab", "750", "500", "1,000"]
    assert table[4].split()[:4] == ["ratio", "1.50", "1.00", "2.00"]


def process_of(code: str) -> subprocess.Popen[str]:
    """Start a process that replaces a worker."""
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_side_that_ends_is_reported():
    with process_of('print(\'{"runtime": "x"}\', flush=True); exit(7)') as process:
        side = Worker("jax", Process(process))
        with pytest.raises(UserError, match="jax: process ended with code 7"):
            side.run([0])


def test_a_side_that_is_too_slow_is_reported():
    with process_of('print(\'{"runtime": "x"}\', flush=True); input(); import time; time.sleep(60)') as process:
        side = Worker("torch", Process(process))
        with pytest.raises(UserError, match="torch: no response within 0 s"):
            side.run([0], Budget(0.2))


def test_synthetic_pairs_are_as_long_as_those_of_multi30k():
    pairs = synthetic_pairs.pairs(5000, 4000)
    source, target = (np.array([len(pair[side]) for pair in pairs]) for side in (0, 1))
    assert (source.mean(), source.std()) == pytest.approx((15.9, 6.0), rel=0.05)
    assert (target.mean(), target.std()) == pytest.approx((15.1, 5.2), rel=0.05)
    assert np.corrcoef(source, target)[0, 1] == pytest.approx(0.87, abs=0.03)
    assert min(map(min, (side for pair in pairs for side in pair))) > 3
    assert pairs[:50] == synthetic_pairs.pairs(5000, 4000)[:50]
    with pytest.raises(UserError, match=r"task\.tokenizer\.vocabulary"):
        synthetic_pairs.vocabulary_of(experiment().model_copy(update={"task": None}))


def test_a_loss_that_is_not_finite_is_reported():
    with process_of(
        'print(\'{"runtime": "x"}\'); print(\'{"seconds": 1.0, "losses": [1.0, NaN]}\'); input()'
    ) as process:
        side = Worker("torch", Process(process))
        with pytest.raises(UserError, match="torch is not finite: nan"):
            side.run([0, 1])


def test_without_torch_the_error_has_the_install_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"-e '\.\[bench\]'"):
        compare(experiment(), None)


@needs_torch
@pytest.mark.slow
def test_both_sides_take_turns_in_their_own_processes():
    lines: list[str] = []
    comparison = compare(experiment(dropout=0.1), None, rounds=2, steps=3, log=lines.append)
    assert len(comparison.rounds) == 2
    assert all(r.tokens > 0 and r.jax_seconds > 0 and r.torch_seconds > 0 for r in comparison.rounds)
    assert "jax" in comparison.jax
    assert "torch" in comparison.torch
    assert len(lines) == 4
    assert not list(Path.cwd().glob("*.npz"))


@needs_torch
@pytest.mark.slow
def test_synthetic_pairs_train_without_any_data():
    config = experiment().model_copy(update={"model": TransformerSeq2Seq.model_validate(TRANSFORMER)})
    tree = config.model_dump(mode="json")
    tree["task"]["tokenizer"] = {"kind": "bpe", "vocabulary": 100}
    config = Experiment.model_validate_json(json.dumps(tree))
    comparison = compare(config, None, rounds=1, steps=1, log=lambda line: None, synthetic=True, budget=Budget(600.0))
    assert comparison.rounds[0].tokens > 0
