"""Every adapter of this folder through the kit: python -m examples.report [budget] [name ...]"""

import importlib
import sys

from rope_ref.conformance import check

NAMES = (
    "hf_llama", "hf_qwen2_vl", "hf_deepseek_v3", "hf_gpt_neox", "lucidrains", "ort", "mlx_fast", "vllm_cpu",
    "our_kernels", "our_bridge",
)  # fmt: skip


def checks(name, group="CHECKS"):
    """name of a check -> (implementation, rope). Raises ImportError where the library is not installed."""
    module = importlib.import_module(f"examples.{name}")
    if group == "CHECKS":
        return getattr(module, group, None) or {"": (module.implementation, module.rope)}
    return getattr(module, group, {})


def row(name, report):
    """A line of the table, in Markdown."""
    findings = [f"{f.bug} ({f.severity}, {f.adapter}: {f.explanation})" for f in report.findings]
    cells = (name, "conforms" if report.passed else "does not", "; ".join(findings),
             "; ".join(dict.fromkeys(r.explanation for r in report.remarks)), f"{report.seconds:.1f}")  # fmt: skip
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def main(budget="quick", *names):
    print("| adapter | verdict | findings | remarks | seconds |\n|---|---|---|---|---|")
    for name in names or NAMES:
        for group in ("CHECKS", "FAULTS"):
            try:
                found = checks(name, group)
            except ImportError as error:
                print(f"| {name} | left out | | {error} | |")
                break
            for each, (implementation, rope) in found.items():
                label = f"{name}: {each}" if each else name
                print(row(label, check(implementation, rope, budget=budget)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
