"""The records of `bench gpu`: one file per card, rewritten after every part, and a page of tables made from them."""

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
NONE = "No GPU has been measured yet."
REUSE_KEYS = ("devices", "source", "packages")
"""Entries of the environment that must be equal for the results of an earlier run to be reused."""


@dataclass
class Part:
    """The outcome of a part."""

    status: str
    """"done", "cut" (the time was used up; the saved results are valid), "failed" or "skipped"."""
    reason: str = ""
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
        """Name of the device, as jax reports it."""
        return str(self.environment["devices"][0]).partition(": ")[2]

    @property
    def file_name(self) -> str:
        """File name made from the card's name, such as `nvidia_h100_80gb_hbm3.json`."""
        return re.sub(r"[^a-z0-9]+", "_", self.card.lower()).strip("_") + ".json"

    def save(self, directory: Path) -> Path:
        """Write the record to a directory and return its file."""
        path = directory / self.file_name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
        return path

    def restore(self, directory: Path) -> None:
        """Reuse the parts that an earlier run of the same source completed on the same card."""
        path = directory / self.file_name
        if path.is_file():
            earlier = read(path)
            if all(earlier.environment.get(name) == self.environment.get(name) for name in REUSE_KEYS):
                self.parts = {n: p for n, p in earlier.parts.items() if p.status in ("done", "cut")} | self.parts


def read(path: Path) -> Record:
    """Read a record that `Record.save` wrote."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: Part(**part) for name, part in data["parts"].items()}
        return Record(data["environment"], data["minutes"], parts)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path}: is not a record of attnlab bench gpu ({error!r})") from None


def page(directory: Path) -> str:
    """Return a Markdown page with a section for every card of a directory."""
    records = [read(path) for path in sorted(directory.glob("*.json"))]
    return "\n".join(line for record in records for line in _section(record)) + "\n" if records else f"{NONE}\n"


def insert(directory: Path, path: Path) -> None:
    """Write the page between the markers of a file."""
    marked_text.insert(page(directory), path, MARK)


def _section(record: Record) -> Iterator[str]:
    packages, commit = record.environment.get("packages", {}), record.environment.get("commit") or "unknown"
    versions = ", ".join(f"{name} {packages[name]}" for name in ("jax", "flax", "torch") if packages.get(name))
    changed = " with changes" if record.environment.get("dirty") else ""
    begin = record.environment.get("begun", "at an unknown time")
    yield f"### {record.card}"
    yield f"\nCommit {commit[:10]}{changed}, {versions}, started {begin}.\n"
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
    summary = summarize(part.result) if part.result else ""
    status = part.status if part.status != "done" or not summary else ""
    return "; ".join(filter(None, [status, summary, part.reason])) or part.status


def _conformance(result: Mapping[str, Any]) -> str:
    failures = ", ".join(f"`{failure['test'].rpartition('::')[2]}`" for failure in result["failures"][:5])
    return f"{result['passed']} passed, {result['failed']} failed" + (f" ({failures})" if failures else "")


def _training(result: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{name}`: {comparison['reason']}"
        if "reason" in comparison
        else f"`{name}` ({comparison['data']}): {comparison['ratio']:.2f} times PyTorch's speed, "
        f"{comparison['jax_tokens_per_second']:,.0f} target tokens/s"
        for name, comparison in result.items()
    )


def _resume(result: Mapping[str, Any]) -> str:
    if result["same_bits"]:
        return f"stopped after step {result['stopped_after']}; final parameters identical bit for bit"
    return f"final parameters differ; largest relative difference of logged losses {result['loss_difference']:.1e}"


def _count(result: Mapping[str, Any]) -> str:
    count = len(result.get("results", ()))
    return f"{count} case{'s' if count != 1 else ''}"


def _measured(part: Part | None) -> Sequence[Result]:
    return Report.of(part.result).results if part is not None and part.result else ()


def _times(title: str, results: Sequence[Result]) -> Iterator[str]:
    for mode in dict.fromkeys(result.case.mode for result in results):
        reasons: dict[str, int] = {}
        of_mode = [result for result in results if result.case.mode == mode]
        setting = f"{mode.replace('_', ' + ')}, {of_mode[0].case.dtype}"
        yield f"**{title}, {setting}:** relative to the peer in the second column\n"
        yield from tables.ratios(of_mode, reasons)
        yield ""
        yield from (f"{number}. {reason}" for reason, number in reasons.items())
        yield ""
