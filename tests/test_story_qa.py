"""Stories: the generator against a reading of its own sentences, bAbI's files, the memory network, the task."""

import functools
import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import drawn, parameters

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.models.story_qa import MemoryNetwork as MemoryConfig
from attnlab.config.story_qa import Babi, GeneratedStories
from attnlab.data.records import Splits
from attnlab.data.story_qa import babi, generated
from attnlab.data.story_qa.encoder import Vocabulary
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.text.buckets import Shape
from attnlab.models.memory_network import MemoryNetwork, ages, position_encoding
from attnlab.tasks.story_qa.metrics import story_scores
from attnlab.tasks.story_qa.task import StoryQATask, parse
from attnlab.training.steps import initial_state, make_train_step, shard_batch

FEW = {"train": 300, "dev": 40, "test": 40}


def events(sentences: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Who did what with what: read from the words alone."""
    deeds = (
        dict.fromkeys(generated.GO, "go")
        | dict.fromkeys(generated.TAKE, "take")
        | dict.fromkeys(generated.LEAVE, "leave")
    )
    rows = []
    for sentence in sentences:
        person, verb, what = re.fullmatch(r"(\w+) (.+) (\w+)\.", sentence).groups()
        rows.append((person, deeds[verb], what))
    return rows


def where_things_were(sentences: tuple[str, ...]) -> dict[str, list[str]]:
    """The places of every thing in turn, by following who holds it."""
    place, holder, places = {}, {}, {}
    for person, deed, what in events(sentences):
        if deed == "go":
            place[person] = what
            for thing in [t for t, p in holder.items() if p == person]:
                places[thing].append(what)
        elif deed == "take":
            holder[what] = person
            here = places.setdefault(what, [place[person]])
            assert here[-1] == place[person], "a thing is taken where it lies"
        else:
            assert holder.pop(what) == person, "only who has a thing leaves it"
    return places


@pytest.mark.parametrize("facts", [1, 2, 3])
def test_answers_and_facts_follow_from_the_sentences(facts: int):
    config = GeneratedStories(facts=facts, **FEW)
    for story in generated.generate(config).train:
        deeds = events(story.sentences)
        assert len(story.sentences) <= config.longest_story
        assert len(story.facts) == facts
        if facts == 1:
            person = story.question.removeprefix("Where is ").rstrip("?")
            last = max(n for n, (who, deed, _) in enumerate(deeds) if who == person and deed == "go")
            assert (story.facts, story.answer) == ((last,), deeds[last][2])
            continue
        thing = re.search(r"(?:is|was) the (\w+)", story.question).group(1)
        places = where_things_were(story.sentences)[thing]
        if facts == 2:
            assert story.answer == places[-1]
            handed = max(n for n, (_, deed, what) in enumerate(deeds) if deed != "go" and what == thing)
            assert story.facts[0] == handed
            assert deeds[story.facts[1]] == (deeds[handed][0], "go", story.answer)
        else:
            end = re.search(r"before the (\w+)", story.question).group(1)
            assert places[1:].count(end) == 1
            assert story.answer == places[places.index(end, 1) - 1]
            took, came, before = (deeds[n] for n in story.facts)
            assert took[1:] == ("take", thing)
            assert (came[1:], before[1:]) == (("go", end), ("go", story.answer))
            assert took[0] == came[0] == before[0]


@pytest.mark.parametrize(
    ("facts", "fingerprint"),
    [
        (1, "cd8ce1d3c9410cbcdb90ac4462638668da22f15ddfec786292712331f8557ba4"),
        (2, "2f8799f382c2011c79ceba917169b86da5ddb7a6140f8619e9f50caff8ce9ac2"),
        (3, "b858eaef936a7b8e906551ca0b649b70758a65ecae1a7e5c95ba346780ffcf20"),
    ],
)
def test_a_seed_always_generates_the_same_data(facts: int, fingerprint: str):
    config = GeneratedStories(facts=facts, train=50, dev=5, test=5)
    assert generated.generate(config).fingerprint() == fingerprint


def test_generated_stories_depend_on_the_seed_alone_and_share_nothing_between_splits():
    first, again = (generated.generate(GeneratedStories(facts=2, **FEW)) for _ in range(2))
    other = generated.generate(GeneratedStories(facts=2, seed=1, **FEW))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    longer = generated.generate(GeneratedStories(facts=2, **(FEW | {"train": 400})))
    assert longer.train[:300] == first.train
    texts = [{(s.sentences, s.question) for s in part} for part in (first.train, first.dev, *first.test.values())]
    others = [{(s.sentences, s.question) for s in part} for part in (other.dev, *other.test.values())]
    assert not texts[0] & (texts[1] | texts[2])
    assert not texts[0] & (others[0] | others[1]), "also with another seed"


BABI = "1 Mary moved to the bathroom.\n2 John went to the hallway.\n3 Where is Mary? \tbathroom\t1\n4 Mary left.\n"


def test_babi_files(tmp_path: Path):
    path = tmp_path / "qa1.txt"
    path.write_text(BABI + "5 Where is John?\thallway\t2\n" + "1 Ann sat.\n2 Who sat?\tAnn\t1\n")
    first, second = babi.read_file(path)
    assert [(s.question, s.answer, s.facts, len(s.sentences)) for s in first] == [
        ("Where is Mary?", "bathroom", (0,), 2), ("Where is John?", "hallway", (1,), 3),
    ]  # fmt: skip
    assert second[0].sentences == ("Ann sat.",)
    path.write_text((BABI + "5 Where is John?\thallway\t2\n") * 20)
    splits = babi.read(Babi(train="qa1.txt", test={"test": "qa1.txt"}), tmp_path)
    assert [len(part) for part in splits.splits().values()] == [36, 4, 40]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Mary moved.\n", r"qa.txt:1: expected a number"),
        (BABI.replace("\t1", "\t9"), r"qa.txt:3: the fact '9' is not"),
        ("1 Mary moved.\n", "qa.txt: no question"),
        ("1 Where?\tattic\t1\n", r"qa.txt:1: the fact '1'"),
    ],
)
def test_babi_mistakes_are_reported(tmp_path: Path, text: str, message: str):
    (tmp_path / "qa.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        babi.read_file(tmp_path / "qa.txt")


def test_position_encoding_is_the_papers():
    found = np.asarray(position_encoding(jnp.array([3, 2]), 3, 4))
    for sentence, length in enumerate((3, 2)):
        for j in range(1, length + 1):
            for k in range(1, 5):
                right = (1 - j / length) - (k / 4) * (1 - 2 * j / length)
                assert found[sentence, j - 1, k - 1] == pytest.approx(right, abs=1e-6)


def test_jitter_makes_sentences_older_and_keeps_their_order():
    lengths = jnp.array([6, 3, 0])
    still = np.asarray(ages(lengths, 6, 0.5, None))
    assert still[1].tolist() == [3, 2, 1, 0, 0, 0]
    drawn = np.asarray(ages(lengths, 6, 0.5, jax.random.key(0)))
    assert (drawn >= still).all() and (drawn != still).any()  # noqa: PT018
    assert (np.diff(drawn[0]) < 0).all()
    assert (drawn[2] == 0).all()


STORY = jnp.array([[[2, 3, 0], [4, 5, 6], [7, 3, 2]], [[6, 5, 0], [2, 2, 2], [0, 0, 0]]])


def build(**changes):
    config = MemoryConfig(**({"width": 8, "hops": 3, "time_noise": 0.0} | changes))
    model = MemoryNetwork(config, 9, 10)
    inputs = STORY, jnp.array([3, 2]), jnp.array([[2, 3, 0], [5, 0, 0]])
    return model, drawn(functools.partial(model.init, train=False), *inputs), inputs


def applied(model: MemoryNetwork):
    """The model as a compiled function of its variables and inputs."""
    return jax.jit(functools.partial(model.apply, train=False))


@pytest.mark.parametrize("tying", ["adjacent", "layer_wise"])
@pytest.mark.parametrize("encoding", ["bag", "position"])
@pytest.mark.quick("position-adjacent", "bag-layer_wise")
def test_memory_network_by_the_book(tying: str, encoding: str):
    """Against the paper's equations, word by word."""
    model, variables, inputs = build(tying=tying, encoding=encoding)
    found = applied(model)(variables, *inputs)
    p = jax.tree.map(np.asarray, variables["params"])
    story, sentences, question = map(np.asarray, inputs)

    def sentence(table, words):
        words = words[words > 0]
        total = np.zeros(8)
        for j, word in enumerate(words, start=1):
            k = np.arange(1, 9) / 8
            share = (1 - j / len(words)) - k * (1 - 2 * j / len(words)) if encoding == "position" else 1.0
            total += share * table[word]
        return total

    for b in range(2):
        n = sentences[b]
        state = sentence(p["words"][0], question[b])
        for hop in range(3):
            a, c = (hop, hop + 1) if tying == "adjacent" else (0, 1)
            keys, values = (
                np.stack([sentence(p["words"][t], story[b, i]) + p["times"][t][n - i] for i in range(n)])
                for t in (a, c)
            )
            weights = np.exp(keys @ state) / np.exp(keys @ state).sum()
            np.testing.assert_allclose(found.weights[b, hop, :n], weights, atol=1e-5)
            assert not np.any(found.weights[b, hop, n:])
            state = (state if tying == "adjacent" else state @ p["between"]["kernel"]) + weights @ values
        readout = p["words"][-1].T if tying == "adjacent" else p["answer"]["kernel"]
        np.testing.assert_allclose(found.logits[b], state @ readout, atol=1e-5)


SCORES = ["dot", "scaled_dot", "general", "additive", "cosine", "trilinear"]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.quick("additive", "cosine")
def test_any_score_and_normalizer_serves(score: str):
    kind = "sparsemax" if score == "general" else "softmax"
    model, variables, inputs = build(attention={"score": {"kind": score}, "normalizer": {"kind": kind}})
    apply = applied(model)
    out = apply(variables, *inputs)
    chex.assert_shape(out.weights, (2, 3, 3))
    np.testing.assert_allclose(out.weights.sum(-1), 1.0, atol=1e-5)
    loss = lambda v: jnp.sum(apply(v, *inputs).logits ** 2)  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(variables)
    chex.assert_tree_all_finite(gradients)
    filler = apply(variables, STORY, jnp.array([3, 0]), inputs[2])
    np.testing.assert_allclose(filler.logits[0], out.logits[0], atol=1e-5)
    chex.assert_tree_all_finite(filler)


def experiment(model: dict, steps: int, **training) -> Experiment:
    return Experiment.model_validate({
        "name": "twin",
        "task": {"kind": "story_qa", "data": {"kind": "generated", "max_sentences": 5, **FEW, "train": 2000}},
        "model": model,
        "training": {"steps": steps, "buckets": 1, "evaluate_every": steps, **training},
    })  # fmt: skip


MEMORY = {"kind": "memory_network", "width": 16, "hops": 1, "time_noise": 0.0}
TRANSFORMER = {
    "kind": "transformer_story_reader",
    "encoder": {"layers": 2, "width": 32, "heads": 2, "feed_forward": 64, "token_types": 2, "dropout": 0.0},
}


def trained(config: Experiment):
    splits = StoryQATask.load(config, None)
    task = StoryQATask.prepare(config, splits)
    batches, state = task.training_batches(splits.train).batches, initial_state(task.initialize, config.training, 1)
    step = make_train_step(task.loss, config.training, 1)
    for number in range(config.training.steps):
        state, metrics = step(state, shard_batch(batches.batch(number)))
        jax.block_until_ready(metrics)
    return task, state.params, splits


def test_a_small_memory_network_learns_where_people_are():
    config = experiment(MEMORY, 300, batch_tokens=256, optimizer={"kind": "adamw", "learning_rate": 0.02})
    task, params, splits = trained(config)
    scores = task.test_metrics(params, splits.test["test"])
    assert scores["accuracy"] >= 95.0
    assert scores["fact_mass_max"] >= 80.0
    assert scores["accuracy_ci95"][0] <= scores["accuracy"] <= scores["accuracy_ci95"][1]
    story = "Amira went to the attic. Boris ran to the cellar. Amira walked to the stable. Where is Amira?"
    assert list(task.predict(params, [story, "", "Boris ran to the attic. Where is Boris?"], 0, None)) == [
        "stable", "", "attic",
    ]  # fmt: skip
    (view,) = task.attention_maps(params, task.parse_example([story]))
    assert view.weights.shape == (1, 3)
    assert view.weights.argmax() == 2
    assert view.column_labels[2] == "Amira walked to the stable."
    assert (view.question, view.reference) == ("Where is Amira?", "")
    known = task.attention_maps(params, splits.dev[0])[0]
    assert known.reference == splits.dev[0].answer
    assert known.question == splits.dev[0].question
    with pytest.raises(UserError, match=r"line 8: .* question at the end"):
        list(task.predict(params, ["", "no question"], 6, None))


def test_a_transformer_shows_the_attention_of_its_first_token():
    config = experiment(TRANSFORMER, 3, batch_tokens=512)
    task, params, splits = trained(config)
    scores = task.test_metrics(params, splits.test["test"][:9])
    assert {"fact_mass_1", "fact_mass_2", "fact_mass_max"} <= set(scores)
    (view,) = task.attention_maps(params, splits.dev[0])
    assert view.row_labels == ["layer 1", "layer 2"]
    assert ((view.weights.sum(1) > 0) & (view.weights.sum(1) < 1)).all(), "the question has a share too"


def test_unknown_words_keep_their_spelling():
    config = experiment(TRANSFORMER, 1)
    task = StoryQATask.prepare(config, StoryQATask.load(config, None))
    assert task.unknown_words(["Amira went to the garden. Where is Zoë in the Garden?"]) == [
        "garden",
        "Zoë",
        "in",
        "Garden",
    ]
    assert task.unknown_words(["AMIRA went to the attic. Where is amira?", ""]) == []


FACTS = {**TRANSFORMER, "unit": "sentence"}


@pytest.mark.slow
def test_a_transformer_over_sentences_learns_where_people_are_and_shows_the_attention_of_the_question():
    optimizer = {"kind": "adamw", "learning_rate": 3e-3, "warmup_steps": 20}
    task, params, splits = trained(experiment(FACTS, 200, batch_tokens=256, optimizer=optimizer))
    scores = task.test_metrics(params, splits.test["test"])
    assert scores["accuracy"] >= 95.0
    assert scores["fact_mass_max"] >= 50.0
    story = "Amira went to the attic. Boris ran to the cellar. Amira walked to the stable. Where is Amira?"
    (view,) = task.attention_maps(params, task.parse_example([story]))
    assert view.prediction == "stable"
    assert view.weights.shape == (2, 3)
    assert view.weights.max(axis=0).argmax() == 2


def test_padding_and_filler_change_nothing_of_a_transformer_over_sentences():
    config = experiment(FACTS, 1)
    splits = StoryQATask.load(config, None)
    task = StoryQATask.prepare(config, splits)
    params, encoded = parameters(task), task.encode(splits.dev[:3])
    tight = task.adapter.fill(encoded, Shape(3, 5, 5))
    wide = task.adapter.fill(encoded, Shape(5, 9, 9))
    wide |= {name: np.pad(wide[name], [*[(0, 0)] * (wide[name].ndim - 1), (0, 2)]) for name in ("story", "question")}
    assert {name: array.shape for name, array in wide.items()} != {name: array.shape for name, array in tight.items()}

    @jax.jit
    def forward(params, batch):
        output = task.adapter.forward(params, batch)
        return output.logits, task.adapter.sentence_attention(batch, output.attention)

    (logits, weights), (wide_logits, wide_weights) = (
        forward(params, jax.tree.map(jnp.asarray, batch)) for batch in (tight, wide)
    )
    np.testing.assert_allclose(logits, wide_logits[:3], atol=1e-5)
    for row, story in enumerate(encoded):
        count = len(story.sentences)
        np.testing.assert_allclose(weights[row, :, :count], wide_weights[row, :, :count], atol=1e-5)


@pytest.mark.parametrize(("unit", "enough"), [("sentence", 6), ("word", 60)])
def test_a_story_with_more_words_than_learned_positions_is_refused(unit: str, enough: int):
    model = {**FACTS, "unit": unit}
    model["encoder"] = {**FACTS["encoder"], "positions": {"kind": "learned"}, "max_length": enough}
    config = experiment(model, 1)
    splits = StoryQATask.load(config, None)
    task = StoryQATask.prepare(config, splits)
    assert "accuracy" in task.test_metrics(parameters(task), splits.dev)
    few = config.replace(model=config.model.replace(encoder=config.model.encoder.replace(max_length=3)))
    with pytest.raises(UserError, match=r"positions, and the learned ones hold [23]: .*model\.encoder"):
        StoryQATask.prepare(few, splits).training_batches(splits.train)


@pytest.mark.slow
@pytest.mark.optimized
def test_a_small_transformer_learns_where_people_are():
    encoder = TRANSFORMER["encoder"] | {"heads": 4, "positions": {"kind": "relative_bias", "distance": 32}}
    optimizer = {"kind": "adamw", "learning_rate": 4e-3, "warmup_steps": 50}
    config = experiment({**TRANSFORMER, "encoder": encoder}, 2400, batch_tokens=2048, optimizer=optimizer)
    config = config.replace(task=config.task.replace(data=config.task.data.replace(train=10_000)))
    task, params, splits = trained(config)
    assert task.test_metrics(params, splits.test["test"])["accuracy"] >= 90.0


def test_long_stories_are_cut_at_their_beginning():
    story = StoryQuestion(("A is in x.", "B is in y.", "C is in z."), "Where is A?", "x", (0, 2))
    read = Vocabulary.fit([story]).encode(story, 2)
    assert (len(read.sentences), read.facts, read.left_out) == (2, (1,), 1)


def test_evaluation_uses_no_more_memory_than_training():
    sentences = tuple(f"A is in {'xyz'[n % 3]}." for n in range(20))
    long = StoryQuestion(sentences, "Where is A?", "x", (18,))
    config = experiment(MEMORY, 1)
    config = config.replace(task=config.task.replace(memory=18))
    task = StoryQATask.prepare(config, Splits((long,), (long,), {"test": (long,)}))
    scores = task.test_metrics(parameters(task), [long])
    assert (scores["stories"], scores["stories_cut"]) == (1, 1)


def test_restore_reads_the_vocabulary_of_a_run(tmp_path: Path):
    config = experiment(MEMORY, 1)
    task = StoryQATask.prepare(config, StoryQATask.load(config, None))
    for name, text in task.files().items():
        (tmp_path / name).write_text(text)
    assert StoryQATask.restore(config, tmp_path).fingerprints() == task.fingerprints()


def test_story_scores():
    weights = [np.array([[0.5, 0.5, 0.0], [0.1, 0.1, 0.8]]), np.array([[1.0], [1.0]])]
    scores = story_scores(np.array([True, False]), weights, [(0, 2), (0,)])
    assert scores["accuracy"] == 50.0
    assert scores["fact_mass_1"] == pytest.approx(75.0)
    assert scores["fact_mass_2"] == pytest.approx(95.0)
    assert scores["fact_mass_max"] == pytest.approx(95.0)
    assert "fact_mass_1" not in story_scores(np.array([True]), weights[:1], [()])


@pytest.mark.parametrize("text", ["", "Where is Amira?", "Amira went to the attic."])
def test_a_text_without_question_at_the_end_is_refused(text: str):
    with pytest.raises(UserError, match="with a question at the end"):
        parse(text)
