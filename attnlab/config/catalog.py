"""The available experiments and studies: those in the current directory and those packaged with attnlab."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path

from attnlab.config.choices import choices
from attnlab.config.errors import UserError
from attnlab.config.expected import expected

FOLDER = Path("experiments")
"""First part of every experiment's path, in the current directory or inside the package."""
STUDIES = FOLDER / "studies"
"""First part of every study's path; the other files of `FOLDER` are experiments."""
CLAIMS = STUDIES / "claims"
"""First part of every claim's path; the other files of `STUDIES` are studies."""
FIRST = FOLDER / "translation/dates_additive.yaml"
"""The experiment recommended to new users: it takes two minutes and needs no data."""


def experiments() -> Iterator[tuple[Path, str]]:
    """Yield the path of every experiment, and its question (the first line of its card).

    All paths begin with `experiments/`; `find_config` returns the file.
    """
    return ((path, question) for path, question in _files() if not path.is_relative_to(STUDIES))


def studies() -> Iterator[tuple[Path, str]]:
    """Yield the path of every study, and its question, as `experiments` does."""
    files = ((path, question) for path, question in _files() if path.is_relative_to(STUDIES))
    return ((path, question) for path, question in files if not path.is_relative_to(CLAIMS))


def claims() -> Iterator[tuple[Path, str]]:
    """Yield the path of every claim about attention, and its question, as `experiments` does."""
    return ((path, question) for path, question in _files() if path.is_relative_to(CLAIMS))


def find_config(config: Path) -> Path:
    """Return the file of a config: the path itself, or else the packaged experiment with that path.

    Raises:
        UserError: neither exists, but there are experiments or studies with that name; the error suggests them.
    """
    if config.exists():
        return config
    if config.parts[:1] == FOLDER.parts and (packaged := _packaged().joinpath(*config.parts[1:])).is_file():
        return packaged
    named = [str(path) for path, _ in _files() if path.stem == config.name.removesuffix(".yaml")]
    if named:
        raise UserError(f"{config}: no such file; did you mean {' or '.join(named)}?")
    return config


def describe(topics: Sequence[str]) -> Iterator[str]:
    """Yield the lines of `attnlab list`.

    Args:
        topics: names of folders of experiments, "studies", "claims", "settings" or "all"; an empty sequence yields a
            summary.
    """
    folders = _by_folder(experiments())
    valid = [*folders, "studies", "claims", "settings", "all"]
    for topic in topics:
        if topic not in valid:
            raise UserError(f"list {topic}: unknown topic; {nearest(topic, valid)}valid: {', '.join(valid)}")
    if not topics:
        yield from _summary(folders)
    chosen = valid if "all" in topics else topics
    for name in (name for name in folders if name in chosen):
        yield f"Experiments of {name} (attnlab train FILE):"
        for path, question in folders[name]:
            yield from (f"  {path}", f"      {question}")
            with suppress(UserError):  # a file that cannot be trained is listed too
                if results := expected(find_config(path)):
                    yield f"      {results.summary()}"
        yield ""
    if "studies" in chosen:
        yield "Studies of several runs (attnlab sweep FILE):"
        for path, question in studies():
            yield from (f"  {path}", f"      {question}")
        yield ""
    if "claims" in chosen:
        yield "Claims about attention (attnlab claims NAME, the name of the file):"
        for path, question in claims():
            yield from (f"  {path}", f"      {question}")
        yield ""
    if "settings" in chosen:
        yield from _settings()


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint at the valid name nearest to a name; "" if none is near.

    >>> nearest("studiez", ["studies", "claims"])
    'did you mean studies? '
    """
    near = get_close_matches(name, list(valid), n=1)
    return f"did you mean {near[0]}? " if near else ""


def _by_folder(files: Iterator[tuple[Path, str]]) -> dict[str, list[tuple[Path, str]]]:
    folders: dict[str, list[tuple[Path, str]]] = {}
    for path, question in files:
        folders.setdefault("/".join(path.parent.parts[1:]) or ".", []).append((path, question))
    return folders


def _files() -> Iterator[tuple[Path, str]]:
    paths = {FOLDER / path.relative_to(folder) for folder in (_packaged(), FOLDER) for path in folder.rglob("*.yaml")}
    for path in sorted(paths):
        first = find_config(path).read_text(encoding="utf-8").partition("\n")[0]
        yield path, first.removeprefix("#").strip() if first.startswith("#") else ""


def _packaged() -> Path:
    """Return the folder of the packaged experiments: inside the package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


def _summary(folders: Mapping[str, Sequence[tuple[Path, str]]]) -> Iterator[str]:
    sweeps, examined = _by_folder(studies()), {CLAIMS.name: list(claims())}
    width = max(map(len, [*folders, *sweeps, *examined]), default=0)
    rows = lambda group: (  # noqa: E731
        f"  {name:<{width}}  {len(paths):>3}  {', '.join(_prefixes([path.stem for path, _ in paths]))}"
        for name, paths in group.items()
    )
    yield f"{sum(map(len, folders.values()))} experiments, each trained by attnlab train FILE:"
    yield from rows(folders)
    if sweeps:
        yield "Studies of several runs, trained by attnlab sweep FILE:"
        yield from rows(sweeps)
    if examined[CLAIMS.name]:
        yield "Claims about attention, examined by attnlab claims NAME:"
        yield from rows(examined)
    yield ""
    yield f"To begin with: attnlab train {FIRST}"
    yield f"attnlab list {next(iter(folders), 'NAME'):<12} questions and results of the experiments of a folder"
    yield "attnlab list studies      questions of the studies"
    yield "attnlab list claims       questions of the claims about attention"
    yield "attnlab list settings     all settings that are selected by name, by task"
    yield "attnlab list all          all of these"


def _prefixes(names: Sequence[str]) -> list[str]:
    """Return the first word of each name, with the second word if all names with that first word share it.

    >>> _prefixes(["easy_vqa_concat", "easy_vqa_image_only", "scenes_cross_attention"])
    ['easy_vqa', 'scenes']
    """
    prefixes = []
    for first, group in groupby(sorted(name.split("_") for name in names), key=lambda words: words[0]):
        same_first = list(group)
        seconds = {word for words in same_first for word in words[1:2]}
        prefixes.append("_".join((first, *seconds)) if len(seconds) == 1 < len(same_first) else first)
    return prefixes


def _settings() -> Iterator[str]:
    yield "Settings that are selected by name (attnlab train FILE key=value):"
    for heading, settings in choices():
        yield from ("", f"  {heading}")
        width = max(len(key) for key, _ in settings)
        yield from (f"    {key:<{width}}  {', '.join(names)}" for key, names in settings)
