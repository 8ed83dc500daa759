"""python -m examples.libraries [name ...]: install what is missing under build/libraries, check, print a table."""

import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from examples.libraries import REQUIREMENTS
from rope_ref.conformance import check
from rope_ref.conformance.adapters.arrays import load_torch

BUILD = Path(__file__).parents[2] / "build" / "libraries"


def installed(name):
    """Whether it is under build, or in this environment in its version."""
    package, version = REQUIREMENTS[name][0].split("==")
    try:
        return (BUILD / name).exists() or metadata.version(package) == version
    except metadata.PackageNotFoundError:
        return False


def install(name):
    if not installed(name):
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target"]
        subprocess.run([*pip, str(BUILD / name), *REQUIREMENTS[name]], check=True)


def judge(name):
    """Check all of one library, and print a line for each. Whether each is as it should be."""
    load_torch()  # before a library makes tables
    sys.path.insert(0, str(BUILD / name))
    module = importlib.import_module(f"examples.libraries.{name}")
    version = REQUIREMENTS[name][0].replace("==", " ")
    ok = True
    for group in ("CHECKS", "FAULTS", "MENDED"):
        for label, (implementation, rope, *bug) in getattr(module, group, {}).items():
            report = check(implementation, rope, budget="quick")
            named = {f.bug for f in report.findings if f.severity != "known"}
            right = named == set(bug)
            ok &= right
            verdict = "; ".join(f"{f.bug}: {f.explanation}" for f in report.findings if f.severity != "known")
            what = f"{label}, mended" if group == "MENDED" else label
            print(f"| {version} | {what} | {verdict or 'conforms'} | {report.seconds:.1f} |", flush=True)
            if not right:
                print(f"  expected {bug or 'no finding'}", file=sys.stderr)
    return ok


def main(*names):
    print("| library | what | verdict | s |\n|---|---|---|---|", flush=True)
    failed = []
    for name in names or REQUIREMENTS:
        install(name)
        one = [sys.executable, "-c", f"import examples.libraries.__main__ as m, sys; sys.exit(not m.judge({name!r}))"]
        if subprocess.run(one).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"not as expected: {', '.join(failed)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
