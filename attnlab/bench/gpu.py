"""`attnlab bench gpu`: checks and measurements that need a GPU, in parts that share a time budget.

The record is written after every part, so that completed parts are kept when the command is interrupted.
"""

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

MIN_SECONDS = 5.0
"""Remaining seconds without which no part starts."""


def bench(
    minutes: float,
    parts: Sequence[str],
    out: Path,
    into: Path | None,
    data_dir: Path | None,
    tiny: bool = False,
    restart: bool = False,
) -> Path:
    """Run the parts in their order until the time budget is used up.

    Args:
        minutes: time budget of all parts together.
        parts: names of the parts to run.
        out: directory of the records, one file per card.
        into: file that receives the tables of all cards between its markers; None for no tables.
        data_dir: directory of the datasets; a missing one is replaced by synthetic pairs.
        tiny: use small sizes on any device, to check the command.
        restart: repeat measurements that the same source already made on the same card.

    Returns: the file of the record.
    """
    budget = Budget(60.0 * minutes)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    begin = time.strftime("%Y-%m-%d %H:%M:%S %z")
    environment = attention.machine("bfloat16") | {"command": sys.argv, "begun": begin, "source": _source()}
    if environment["backend"] == "cpu" and not tiny:
        raise UserError("bench gpu: jax sees no GPU on this machine; --tiny checks the command on the CPU")
    setting = Setting(environment, tiny, data_dir, _log)
    record = Record(environment, minutes)
    if not restart:
        record.restore(out)
    path = record.save(out)
    selected = [name for name in PARTS if name in parts]
    for number, name in enumerate(selected):
        share = PARTS[name][0] / sum(PARTS[later][0] for later in selected[number:])
        _run(name, setting, budget.part(budget.left() * share), record, out)
        if into is not None:
            gpu_record.insert(out, into)
    print("\n".join([gpu_record.page(out), f"written: {path}" + (f", {into}" if into is not None else "")]))
    return path


def _run(name: str, setting: Setting, budget: Budget, record: Record, out: Path) -> None:
    """Run a part and write its outcome to the record, also when it fails."""
    before = record.parts.get(name, Part("skipped"))
    if before.status == "done":
        _log(f"{name}: already done; --restart repeats it")
        return
    if budget.left() < MIN_SECONDS:
        record.parts[name] = before if before.result else Part("skipped", "time budget used up")
        record.save(out)
        return
    _log(f"{name}: at most {budget.left():.0f} s")
    earlier = dict(before.result)
    part = record.parts[name] = Part("cut", "interrupted", before.seconds, earlier)

    def save_result(result: Mapping[str, Any]) -> None:
        part.result, part.seconds = dict(result), before.seconds + budget.spent()
        record.save(out)

    try:
        PARTS[name][1](setting, budget, save_result, earlier)
        part.status, part.reason = "done", ""
    except BudgetExceeded as error:
        part.status, part.reason = "cut", str(error)
    except UserError as error:
        part.status, part.reason = "failed", str(error)
    except Exception as error:  # the other parts still run
        traceback.print_exc()
        part.status, part.reason = "failed", f"{type(error).__name__}: {error}"
    part.seconds = before.seconds + budget.spent()
    _log(f"{name}: {part.status}{f', {part.reason}' if part.reason else ''}, {budget.spent():.0f} s")
    record.save(out)


def _source() -> str:
    """Return a hash of the source; measurements are reused only by the same source."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "attnlab").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _log(line: str) -> None:
    print(f"attnlab: {line}", file=sys.stderr, flush=True)
