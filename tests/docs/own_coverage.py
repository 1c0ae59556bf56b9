"""Coverage of each module by its own test file: `make coverage`, about ten minutes.

The file is the unit test of the same name, or the one that `SHOWN_BY` in test_house.py gives. Only lines that run in
the tests' own process count: modules shown by programs that tests start have an entry in `ELSEWHERE`.
"""

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from coverage import Coverage

from tests.docs.test_house import MODULES, ROOT, SHOWN_BY, inside

__all__ = ["main"]

LEAST = 0.85  # share of the statements of a module
ELSEWHERE: Mapping[str, str] = {
    "cli/main.py": "runs in processes of its own",
    "cli/banner.py": "runs in processes of its own",
    "cli/forget.py": "runs in processes of its own",
    "cli/reindex.py": "runs in processes of its own",
    "cli/serving.py": "runs in processes of its own",
    "cli/stranded.py": "runs in processes of its own",
    "cli/transfer.py": "runs in processes of its own",
    "storage/scan.py": "runs in processes of its own",
}


def main() -> int:
    """Run each test file under coverage, print the modules below the limit, and return their number."""
    by_test: dict[str, list[Path]] = defaultdict(list)
    for path in MODULES:
        by_test[SHOWN_BY.get(inside(path), f"unit/{Path(inside(path)).parent}/test_{path.name}")].append(path)
    below = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (test, modules) in enumerate(sorted(by_test.items())):
            for module, share in _measure(Path(folder) / str(number), test, modules).items():
                if share < LEAST and module not in ELSEWHERE:
                    below += 1
                    print(f"{share:5.0%}  {module}  by tests/{test}", flush=True)
    print(f"{len(MODULES)} modules, {below} covered by less than {LEAST:.0%} by their own tests")
    return below


def _measure(data: Path, test: str, modules: Sequence[Path]) -> dict[str, float]:
    """The covered share of each of some modules by one test file."""
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={data}", "--source=gateway", "-m", "pytest", "-q"]
    result = subprocess.run([*command, f"tests/{test}"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"tests/{test} failed: {result.stdout[-500:]}", flush=True)
    coverage = Coverage(data_file=str(data))
    coverage.load()
    shares = {}
    for module in modules:
        _, statements, _, missing, _ = coverage.analysis2(str(module))
        shares[inside(module)] = 1 - len(missing) / len(statements) if statements else 1.0
    return shares


if __name__ == "__main__":
    sys.exit(bool(main()))
