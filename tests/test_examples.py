"""Every example of the documents runs, and every example of the original's README with its import line changed."""

import contextlib
import importlib.metadata
import io
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# code, and a block of text right below it, which is what it prints
PRINTING = r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?"


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    for block, said in re.findall(PRINTING, path.read_text(), re.DOTALL | re.MULTILINE):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, path.name, "exec"), {"__name__": "example"})  # each stands alone
        assert not said or printed.getvalue() == said


def test_the_examples_of_the_original_give_the_same():
    text = importlib.metadata.metadata("rotary-embedding-torch").get_payload()
    # the example of its Triton kernel for attention needs CUDA, and is no rotary embedding's business
    examples = [example for example in blocks(text) if "flash_attn_with_rotary" not in example]
    assert len(examples) >= 5
    mine, theirs = {"torch": torch}, {"torch": torch}
    for number, example in enumerate(examples):
        changed = example.replace("from rotary_embedding_torch import", "from torch_bridge import")
        for names, code in ((mine, changed), (theirs, example)):
            torch.manual_seed(number)
            exec(compile(code, "README", "exec"), names)
        for name in ("q", "k"):
            # angles up to 1,024 rad, or 128 pi, are float32 products of rounded frequencies in the original, four
            # roundings; vectors of a pair are shorter than 8, and xPos multiplies by at most 3.5^(512/512)
            assert (mine[name] - theirs[name]).abs().max() <= 4 * 1024 * 2.0**-24 * 8 * 3.5
    assert mine["RotaryEmbedding"].__module__.startswith("torch_bridge")
