"""Check that a built wheel holds the package, all of it and nothing else."""

import sys
import zipfile
from pathlib import Path

NEEDED = {
    "windlass/py.typed",
    "windlass/migrations/0001_initial.py",
    "windlass/management/commands/windlass.py",
    "windlass/compat/management/commands/run_worker.py",
    "windlass/compat/migrations/0001_initial.py",
}
IGNORED = {".pyc"}


def main(path: str) -> int:
    """Print what is wrong with the wheel, or how much is in it."""
    names = {name for name in zipfile.ZipFile(path).namelist() if name[-1] != "/"}
    packaged = {name for name in names if name.startswith("windlass/")}
    source = {
        str(file)
        for file in Path("windlass").rglob("*")
        if file.is_file() and file.suffix not in IGNORED
    }
    foreign = {
        name for name in names - packaged if not name.split("/")[0].endswith("-info")
    }
    tests = {name for name in packaged if "/tests/" in name or "/test_" in name}
    problems = {
        "not in the wheel": (NEEDED | source) - packaged,
        "in the wheel and not in windlass/": packaged - source,
        "outside of windlass/": foreign,
        "tests": tests,
        "no licence": set() if any("LICENSE" in each for each in names) else {path},
    }
    for problem, found in problems.items():
        for name in sorted(found):
            print(f"{problem}: {name}")
    print(f"{Path(path).name}: {len(names)} files")
    return any(problems.values())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
