"""`attnlab claims`."""

import argparse
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command, add_data, data_dir_of
from attnlab.config.errors import UserError
from attnlab.system.interrupt import interruptible_import
from attnlab.training.signals import Interrupted, graceful_shutdown

OUT, QUICK_OUT = Path("runs/claims"), Path("runs/claims-quick")
"""Directories of the full and the quick version."""
RUNS = "runs"
"""Folder of the output directory with the studies' runs."""


def add_commands(commands: Any) -> None:
    """Add the command of this file to the parser."""
    purpose = "examine claims about attention: train what they need, and write a page with a verdict for each"
    parser = add_command(commands, "claims", _claims, purpose)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="names of claims, see attnlab list claims (default: all)")
    add("--quick", action="store_true", help="at most 4 minutes a claim: generated data, 2 seeds, no verdict")
    add("--out", type=Path, metavar="DIR", help=f"directory of pages and runs (default: {OUT}, or {QUICK_OUT})")
    text = "train nothing: read the runs, or archives of runs, of a directory that --out or --save has written"
    add("--from", type=Path, dest="source", metavar="DIR", help=text)
    add("--save", type=Path, metavar="DIR", help="archive the numbers of all runs in DIR")
    add("--jobs", type=int, metavar="N", help="runs at a time (default: one for each core)")
    add("--tiny", action="store_true", help="quick check of the programs: shrink all models, data and steps")
    add_data(parser)


def _claims(options: argparse.Namespace) -> int:
    if options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: must be at least 1")
    if options.source is not None and not options.source.is_dir():
        raise UserError(f"--from {options.source}: no such directory")
    data_dir, out = data_dir_of(options), options.out or (QUICK_OUT if options.quick else OUT)
    with interruptible_import():
        from attnlab.claims import claims
        from attnlab.claims.plans import Version, find_claims
        from attnlab.claims.training import Runner

    chosen = find_claims(options.names)
    source = out / RUNS if options.source is None else options.source
    version, complete = Version(source, options.quick, options.tiny), True
    if options.source is None:
        with graceful_shutdown() as stop:
            runner = Runner(version, options.jobs, data_dir, stop.poll, _log)
            try:
                complete = claims.train(chosen, runner)
            except Interrupted as interrupted:
                return _stopped(interrupted)
    if options.save is not None:
        claims.save(chosen, version, options.save, lambda path: _log(f"archived: {path}"))
    for finding in claims.report(chosen, version, out):
        print(f"{finding.claim.number}. {finding.claim.claim} {finding.verdict}: {out / finding.claim.name}.md")
    print(f"page: {out / 'index.md'}")
    return 0 if complete else 1


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _stopped(interrupted: Interrupted) -> int:
    with suppress(OSError):  # the terminal may be closed; the exit code is still returned
        again = shlex.join(["attnlab", *sys.argv[1:]])
        print(f"stopped; the state of every run was saved. To go on: {again}", file=sys.stderr, flush=True)
    return 128 + interrupted.signal_number
