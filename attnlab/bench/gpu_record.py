"""What `bench gpu` found: one file for each card, written anew after every part, and a page of tables made of them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnlab.bench import tables
from attnlab.bench.results import Report, Result
from attnlab.config.errors import UserError
from attnlab.results import marked_text

MARK = "gpu"
NONE = "No GPU was measured yet."
SAME = ("devices", "source", "packages")
"""What must be the same for a part that was done before to stand."""


@dataclass
class Part:
    """What became of a part."""

    status: str
    """"done", "cut" (time was up: what is there holds), "failed" or "skipped"."""
    why: str = ""
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class Record:
    """All parts of one card."""

    environment: Mapping[str, Any]
    minutes: float
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def card(self) -> str:
        """The name that the device gives itself."""
        return str(self.environment["devices"][0]).partition(": ")[2]

    @property
    def file_name(self) -> str:
        """The card's name in letters, digits and underscores, as `nvidia_h100_80gb_hbm3.json`."""
        return re.sub(r"[^a-z0-9]+", "_", self.card.lower()).strip("_") + ".json"

    def save(self, directory: Path) -> Path:
        """Write the file of this card into a directory."""
        path = directory / self.file_name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            writing = path.with_suffix(".writing")
            writing.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            writing.replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
        return path

    def take_up(self, directory: Path) -> None:
        """Take over the parts that were done before by the same code on the same card."""
        path = directory / self.file_name
        if path.is_file():
            before = read(path)
            if all(before.environment.get(name) == self.environment.get(name) for name in SAME):
                self.parts = {n: p for n, p in before.parts.items() if p.status in ("done", "cut")} | self.parts


def read(path: Path) -> Record:
    """Read what `Record.save` wrote."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: Part(**part) for name, part in data["parts"].items()}
        return Record(data["environment"], data["minutes"], parts)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path}: not written by attnlab bench gpu ({error!r})") from None


def page(directory: Path) -> str:
    """Write a section for every card of a directory."""
    found = [read(path) for path in sorted(directory.glob("*.json"))]
    return "\n".join(line for record in found for line in _section(record)) + "\n" if found else f"{NONE}\n"


def insert(directory: Path, path: Path) -> None:
    """Put the page between the marks of a file."""
    marked_text.insert(page(directory), path, MARK)


def _section(record: Record) -> Iterator[str]:
    packages, commit = record.environment.get("packages", {}), record.environment.get("commit") or "unknown"
    versions = ", ".join(f"{name} {packages[name]}" for name in ("jax", "flax", "torch") if packages.get(name))
    changed = " with changes" if record.environment.get("dirty") else ""
    begun = record.environment.get("begun", "at a time not kept")
    yield f"### {record.card}"
    yield f"\nCommit {commit[:10]}{changed}, {versions}, begun {begun}.\n"
    yield "| part | outcome | seconds |"
    yield "|---|---|---:|"
    for name, part in record.parts.items():
        yield f"| {name} | {_outcome(name, part)} | {part.seconds:.0f} |"
    yield ""
    for title, name in (("Attention, time", "attention"), ("Blocks of `block_sparse`, time", "blocks")):
        if measured := _measured(record.parts.get(name)):
            yield from _times(title, measured)


def _outcome(name: str, part: Part) -> str:
    summarize = {"conformance": _conformance, "training": _training, "resume": _resume}.get(name, _count)
    what = summarize(part.result) if part.result else ""
    status = part.status if part.status != "done" or not what else ""
    return "; ".join(filter(None, [status, what, part.why])) or part.status


def _conformance(result: Mapping[str, Any]) -> str:
    failures = ", ".join(f"`{failure['test'].rpartition('::')[2]}`" for failure in result["failures"][:5])
    return f"{result['passed']} passed, {result['failed']} failed" + (f" ({failures})" if failures else "")


def _training(result: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{name}`: {one['why']}"
        if "why" in one
        else f"`{name}` ({one['data']}): {one['ratio']:.2f} times PyTorch's speed, "
        f"{one['jax_tokens_per_second']:,.0f} target tokens/s"
        for name, one in result.items()
    )


def _resume(result: Mapping[str, Any]) -> str:
    if result["same_bits"]:
        return f"stopped after step {result['stopped_after']}, ended with the same bits"
    return f"ended with other bits: logged losses differ by {result['loss_difference']:.1e} of their size at most"


def _count(result: Mapping[str, Any]) -> str:
    count = len(result.get("results", ()))
    return f"{count} case{'s' if count != 1 else ''}"


def _measured(part: Part | None) -> Sequence[Result]:
    return Report.of(part.result).results if part is not None and part.result else ()


def _times(title: str, results: Sequence[Result]) -> Iterator[str]:
    for mode in dict.fromkeys(result.case.mode for result in results):
        whys: dict[str, int] = {}
        of_mode = [result for result in results if result.case.mode == mode]
        how = f"{mode.replace('_', ' + ')}, {of_mode[0].case.dtype}"
        yield f"**{title}, {how}:** relative to the peer of the second column\n"
        yield from tables.ratios(of_mode, whys)
        yield ""
        yield from (f"{number}. {why}" for why, number in whys.items())
        yield ""
