"""Generate with a model before and after it is patched: rope-ref generate [FOLDER], or python -m torch_bridge.generate.

Loads the model of a local folder, or builds a small one with random weights, generates greedily, patches it, generates
again, and prints the tokens per second of both and whether they are the same.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor

from torch_bridge.patch import patch


class Run(NamedTuple):
    """What was generated, and how long it took."""

    tokens: Tensor
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens.numel() / self.seconds


def run(given: argparse.Namespace) -> int:
    """Generate twice and print both speeds, and whether tokens are the same.

    In half types they need not be: the original rounds its tables to them, so near ties may fall another way.
    """
    if given.tokens < 1:
        raise ValueError(f"tokens is {given.tokens}; expected at least 1")
    if given.prompt is not None and given.folder is None:
        raise ValueError("prompt is given without a folder; expected one, whose tokenizer reads it")
    dtype = getattr(torch, given.dtype)
    if given.folder is None:
        model, tokenizer = small(dtype), None
    else:
        model, tokenizer = load(Path(given.folder), dtype, given.prompt is not None)
    ids = prompt(model, tokenizer, given.prompt)
    generate(model, ids, 2)  # so that the first to be measured does not pay for the first call
    before = generate(model, ids, given.tokens)
    with patch(model):
        generate(model, ids, 2)
        after = generate(model, ids, given.tokens)
    same = torch.equal(before.tokens, after.tokens)
    count = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__}, {count / 1e6:.3g} million parameters, {given.dtype}, {ids.shape[1]} tokens given")
    print(f"unpatched  {before.speed:8.2f} tokens/s")
    print(f"patched    {after.speed:8.2f} tokens/s")
    print(f"tokens     equal, all {given.tokens}" if same else difference(before, after))
    if tokenizer is not None:
        print(tokenizer.decode(after.tokens, skip_special_tokens=True))
    return 0


def difference(before: Run, after: Run) -> str:
    """Where two runs part."""
    length = min(len(before.tokens), len(after.tokens))
    parted = (before.tokens[:length] != after.tokens[:length]).nonzero()
    return f"tokens     differ from number {int(parted[0]) + 1 if len(parted) else length + 1} on"


def load(folder: Path, dtype: torch.dtype, read: bool) -> tuple[Any, Any]:
    """The model of a folder and, where a text is to be read or can be, its tokenizer."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"folder is {str(folder)!r}; expected one that holds a config.json")
    words = {"local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **words).eval()
    if not read and not list(folder.glob("tokenizer*")):
        return model, None
    return model, transformers.AutoTokenizer.from_pretrained(folder, **words)


def small(dtype: torch.dtype) -> Any:
    """A Llama of 5 million random weights."""
    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=8192, eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def prompt(model: Any, tokenizer: Any, text: str | None) -> Tensor:
    """The ids (1, seq) to go on from: those of the text, or 32 at random."""
    if text is not None:
        ids: Tensor = tokenizer(text, return_tensors="pt").input_ids
        return ids
    vocabulary = model.config.get_text_config().vocab_size
    return torch.randint(vocabulary, (1, 32), generator=torch.Generator().manual_seed(0))


def generate(model: Any, ids: Tensor, tokens: int) -> Run:
    """Greedy tokens after ids, exactly so many, and the seconds they took."""
    words = {"attention_mask": torch.ones_like(ids), "do_sample": False, "num_beams": 1}
    begin = time.perf_counter()
    out = model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, **words)
    return Run(out[0, ids.shape[1] :], time.perf_counter() - begin)


if __name__ == "__main__":
    from rope_ref.cli import main

    sys.exit(main(["generate", *sys.argv[1:]]))
