"""`attnlab bench gpu`: what only a GPU can show, part by part within a budget, each written when it is done."""

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlab.bench import attention, gpu_record
from attnlab.bench.budget import Budget
from attnlab.bench.gpu_parts import PARTS, ROOT, BudgetExceeded, Setting
from attnlab.bench.gpu_record import Part, Record
from attnlab.config.errors import UserError

LEAST = 5.0
"""Seconds that must be left for a part to begin."""


def bench(
    minutes: float,
    parts: Sequence[str],
    out: Path,
    into: Path | None,
    data_dir: Path | None,
    tiny: bool = False,
    restart: bool = False,
) -> Path:
    """Run the parts, in their order, until the time is used up.

    Args:
        minutes: for all parts together.
        parts: their names.
        out: directory of the records, one file for each card.
        into: file that gets the tables of all cards between its marks; None for no table.
        data_dir: where data sets are; what is missing is made up.
        tiny: small sizes, on whatever device there is, to try the command.
        restart: measure again what was measured before by the same source on the same card.
    Returns: the record's file.
    """
    budget = Budget(60.0 * minutes)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    begun = time.strftime("%Y-%m-%d %H:%M:%S %z")
    environment = attention.machine("bfloat16") | {"command": sys.argv, "begun": begun, "source": _source()}
    if environment["backend"] == "cpu" and not tiny:
        raise UserError("bench gpu: jax sees no GPU here; --tiny tries the command on the CPU")
    setting = Setting(environment, tiny, data_dir, _tell)
    record = Record(environment, minutes)
    if not restart:
        record.take_up(out)
    path = record.save(out)
    rest = [name for name in PARTS if name in parts]
    for number, name in enumerate(rest):
        share = PARTS[name][0] / sum(PARTS[later][0] for later in rest[number:])
        _run(name, setting, budget.part(budget.left() * share), record, out)
        if into is not None:
            gpu_record.insert(out, into)
    print("\n".join([gpu_record.page(out), f"written: {path}" + (f", {into}" if into is not None else "")]))
    return path


def _run(name: str, setting: Setting, budget: Budget, record: Record, out: Path) -> None:
    """Run a part and write what became of it, whatever that is."""
    before = record.parts.get(name, Part("skipped"))
    if before.status == "done":
        _tell(f"{name}: done before; --restart does it again")
        return
    if budget.left() < LEAST:
        record.parts[name] = before if before.result else Part("skipped", "no time was left")
        record.save(out)
        return
    _tell(f"{name}: at most {budget.left():.0f} s")
    earlier = dict(before.result)
    part = record.parts[name] = Part("cut", "was ended from outside", before.seconds, earlier)

    def keep(result: Mapping[str, Any]) -> None:
        part.result, part.seconds = dict(result), before.seconds + budget.spent()
        record.save(out)

    try:
        PARTS[name][1](setting, budget, keep, earlier)
        part.status, part.why = "done", ""
    except BudgetExceeded as error:
        part.status, part.why = "cut", str(error)
    except UserError as error:
        part.status, part.why = "failed", str(error)
    except Exception as error:  # the other parts are still worth running
        traceback.print_exc()
        part.status, part.why = "failed", f"{type(error).__name__}: {error}"
    part.seconds = before.seconds + budget.spent()
    _tell(f"{name}: {part.status}{f', {part.why}' if part.why else ''}, {budget.spent():.0f} s")
    record.save(out)


def _source() -> str:
    """Return a hash of the source: what another source measured does not stand."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "attnlab").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _tell(line: str) -> None:
    print(f"attnlab: {line}", file=sys.stderr, flush=True)
