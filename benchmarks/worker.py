"""What a worker costs before it holds anything: time and modules of its import."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from common import quartiles, write_result

FORBIDDEN = ("onnx", "onnx_ir", "onnxscript", "scipy", "ortools")
COUNT = "import sys; print(len(sys.modules)); print(*sys.modules)"


def start(code: str, runs: int) -> tuple[list[float], list[str]]:
    """Seconds of each run of a fresh interpreter, and the modules that it held at its end."""
    times: list[float] = []
    text = ""
    for _ in range(runs):
        start_s = time.perf_counter()
        text = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        times.append(time.perf_counter() - start_s)
    return times, text.splitlines()[1].split()


def main(quick: bool = False) -> None:
    """Measure and write the result, unless quick."""
    runs = 3 if quick else 15
    bare_s, bare = start(COUNT, runs)
    import_s, modules = start(f"import cutset.runtime.worker; {COUNT}", runs)
    found = {
        "bare_s": quartiles(bare_s),
        "import_s": quartiles(import_s),
        "bare_modules": len(bare),
        "modules": len(modules),
        "forbidden": sorted({m.partition(".")[0] for m in modules} & set(FORBIDDEN)),
    }
    print(found)
    if not quick:
        write_result("worker", "measured", found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs, writes nothing")
    main(parser.parse_args().quick)
