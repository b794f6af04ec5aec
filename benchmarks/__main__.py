"""`python -m benchmarks`: every measure, or some; JSON, a table and pictures."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.finding import markdown
from benchmarks.machine import facts
from benchmarks.setting import Setting
from benchmarks.worker import NotRun

RESULTS = Path(__file__).parent / "results"
MEASURES = ("tutorial", "training", "attainable", "start", "growth", "ranks", "scaling", "waiting")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measures; write NAME.json for each, table.md and pictures from all that is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="few laps: to see that it works")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a contender")
    parser.add_argument("--data", default="digits", help="data set, as for `vaegan train`")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write into")
    for peer in ("pythae", "tensorflow"):
        variable = f"BENCHMARK_{peer.upper()}"
        text = f"a Python that has {peer}; ${variable} when left out"
        default = os.environ.get(variable)
        parser.add_argument(f"--{peer}", metavar="PYTHON", default=default, help=text)
    options = parser.parse_args(arguments)
    setting = Setting(
        threads=options.threads,
        data=options.data,
        quick=options.quick,
        pythae=options.pythae,
        tensorflow=options.tensorflow,
    )
    options.results.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.only:
        print(f"measuring {name}", file=sys.stderr)
        try:
            finding = importlib.import_module(f"benchmarks.{name}").measure(setting)
        except NotRun as reason:
            print(f"benchmarks: {name}: {reason}", file=sys.stderr)
            failed = True
            continue
        command = " ".join(["python -m benchmarks", *_flags(setting), "--only", name])
        tree = {"command": command, "quick": setting.quick, "machine": facts(setting.threads)}
        tree |= finding.tree()
        path = options.results / f"{name}.json"
        path.write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
        print(markdown(tree))
    _write_up(options.results)
    return int(failed)


def _flags(setting: Setting) -> list[str]:
    """What the command line said, without the paths of other Pythons."""
    flags = [f"--threads {setting.threads}", f"--data {setting.data}"]
    return flags + ["--quick"] * setting.quick


def _write_up(folder: Path) -> None:
    """table.md and the pictures, from the JSON files of all measures in a folder."""
    from benchmarks.pictures import draw

    paths = [folder / f"{name}.json" for name in MEASURES]
    trees = [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
    lines = ["# Benchmarks", ""]
    for tree in trees:
        about = tree["machine"]
        where = f"{about['processor']}, {about['threads']} of {about['cores']} cores"
        lines += [
            markdown(tree),
            f"`{tree['command']}`; {where}, torch {about['torch']}, {about['date']}.",
            "",
        ]
    (folder / "table.md").write_text("\n".join(lines), "utf-8")
    draw(trees, folder)


if __name__ == "__main__":
    sys.exit(main())
