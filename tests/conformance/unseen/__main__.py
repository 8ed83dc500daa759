"""A table of how `check` fares: name, class, found, named as, seconds. Names given are the cases to run."""

import sys
import time
import traceback

from rope_ref.conformance import check
from tests.conformance.unseen.case import load


def fared(case, broken):
    """(the classes named, seconds)."""
    start = time.perf_counter()
    try:
        report = check(*case.make(broken), budget="quick")
        named = ", ".join(dict.fromkeys(f.bug for f in report.findings))
    except Exception as error:  # noqa: BLE001 - a check that raises is a result like others
        named = f"raised {type(error).__name__}: {error}"
        traceback.print_exc()
    return named, time.perf_counter() - start


def main(chosen):
    counts = dict.fromkeys(("wrong", "found", "named", "right", "false alarms"), 0)
    wrongs, rights = load()
    for case in wrongs + rights:
        if chosen and case.name not in chosen:
            continue
        for broken in (True, False) if case.bug else (False,):
            named, seconds = fared(case, broken)
            if broken:
                counts["wrong"] += 1
                counts["found"] += bool(named)
                counts["named"] += named == case.bug
                verdict = "named" if named == case.bug else "MISNAMED" if named else "MISSED"
            else:
                counts["right"] += 1
                counts["false alarms"] += bool(named)
                verdict = "FALSE ALARM" if named else "conforms"
            label = case.name if broken or not case.bug else f"{case.name} (mended)"
            print(f"{label:45} {case.bug if broken else '':9} {verdict:12} {named:30} {seconds:6.1f}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


main(sys.argv[1:])
