"""Which real bugs the kit finds, and what it calls them.

    python -m tests.conformance.wrong        prints the table of docs/cases.md
"""

import time
import warnings

from rope_ref.conformance import check
from tests.conformance.wrong.case import load


def told(case):
    """(found, named, what it says, seconds) of one case."""
    began = time.monotonic()
    implementation, rope = case.make(True)
    report = check(implementation, rope, budget="quick")
    said = [*report.findings, *(r for r in report.remarks if r.bug == case.bug)]
    classes = list(dict.fromkeys(finding.bug for finding in said))
    return bool(said), case.bug in classes, said, time.monotonic() - began


def row(case):
    found, named, said, seconds = told(case)
    verdict = "named" if named else "found" if found else "missed"
    own = [f for f in said if f.bug == case.bug] or said
    words = f"{own[0].property}: {own[0].explanation}".replace("|", "/")[:140] if own else ""
    others = ", ".join(sorted({f.bug for f in said} - {case.bug}))
    return f"| [{case.link}]({case.address}) | {case.bug} | {verdict} | {words} | {others} | {seconds:.1f} |", verdict


def main():
    warnings.simplefilter("ignore")
    print("| seen in | class | verdict | what the kit says | also | s |\n|---|---|---|---|---|---|")
    verdicts = []
    for case in sorted(load(), key=lambda case: (case.bug, case.link)):
        line, verdict = row(case)
        verdicts.append(verdict)
        print(line, flush=True)
    named, found = verdicts.count("named"), verdicts.count("found")
    print(f"\n{len(verdicts)} cases: {named + found} found, {named} named by their class.")


if __name__ == "__main__":
    main()
