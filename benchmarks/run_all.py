"""Runs the benchmarks, each as its own process, then makes docs/benchmarks.md's tables anew."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import sections
from common import RESULTS

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def run(names: list[str], quick: bool) -> list[str]:
    """Run the benchmarks; the names of those that failed."""
    failed = []
    for i, name in enumerate(names):
        print(f"[{i + 1}/{len(names)}] {name}", flush=True)
        start_s = time.perf_counter()
        command = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        took_s = time.perf_counter() - start_s
        print(f"[{i + 1}/{len(names)}] {name}: {took_s:.0f} s", flush=True)
    return failed


def document(text: str, results: Path) -> tuple[str, dict[str, str]]:
    """docs/benchmarks.md with every section made anew whose benchmark has a result, and the plots
    by file name."""
    paths = {name: results / f"{name}.json" for name in sections.TABLES}
    found = {name: json.loads(p.read_text()) for name, p in paths.items() if p.exists()}
    drawn = {}
    for name, result in found.items():
        text = sections.fill(text, name, result)
        if name in sections.PLOTS:
            drawn[f"benchmark-{name}.svg"] = sections.PLOTS[name](result)
    for file, (name, draw) in sections.PICTURES.items():
        if name in found:
            drawn[file] = draw(found[name])
    return sections.fill_goals(text, found), drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(sections.TABLES))
    parser.add_argument("--quick", action="store_true", help="small runs that write no results")
    parser.add_argument("--tables", action="store_true", help="only the tables and plots")
    options = parser.parse_args()
    if unknown := set(options.names) - set(sections.TABLES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    start_s = time.perf_counter()
    failed = []
    if not options.tables:
        failed = run(options.names or list(sections.TABLES), options.quick)
    if not options.quick:
        text, drawn = document((DOCS / "benchmarks.md").read_text(), RESULTS)
        (DOCS / "benchmarks.md").write_text(text)
        for name, svg in drawn.items():
            (DOCS / name).write_text(svg)
    print(f"all: {time.perf_counter() - start_s:.0f} s" + f"; failed: {failed}" * bool(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
