"""Tokens a second of a model, before and after it is patched.

`rope-ref generate [FOLDER]`, or python -m torch_bridge.generate, loads the model of a local folder, or builds a small
one with random weights, fills a cache with the context, generates greedily, patches the model, generates again from
the same context, and prints the tokens per second of both and whether they are the same.
"""

import argparse
import copy
import inspect
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor

from rope_ref.usage import Parser
from torch_bridge import decoding
from torch_bridge.cache import RotaryCache
from torch_bridge.patch import patch

AT_ONCE = 512  # tokens of the context
BAR = 40  # characters of the longest bar


EXAMPLES = """
  rope-ref generate                             a small model with random weights
  rope-ref generate path/to/model --dtype bfloat16
  rope-ref generate path/to/model --prompt 'Once upon a time' --tokens 200
"""


class Run(NamedTuple):
    """What was generated, and how long it took."""

    tokens: Tensor
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens.numel() / self.seconds


def add(one: Parser) -> None:
    """The arguments of `rope-ref generate`."""
    one.show(EXAMPLES)
    one.add_argument("folder", nargs="?", metavar="DIR", help="where a model was saved; by default a small one")
    one.add_argument("--prompt", help="text to go on from (needs the folder's tokenizer)")
    one.add_argument("--tokens", type=int, default=64, metavar="N", help="how many to generate (default: %(default)s)")
    one.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32",
                     help="default: %(default)s")  # fmt: skip
    one.add_argument("--context", type=int, action="append", metavar="N",
                     help="random tokens to go on from; may be repeated (default: 32)")  # fmt: skip
    one.add_argument("--window", type=int, metavar="N", help="generate without end: keep the N latest tokens")
    one.add_argument("--sinks", type=int, default=4, metavar="N",
                     help="and the N first ones (default: %(default)s)")  # fmt: skip
    one.add_argument("-v", "--verbose", action="store_true", help="say how each kind of attention was computed")
    one.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Generate twice from each context and print both speeds, and whether tokens are the same.

    In half types they need not be: the original rounds its tables to them, so near ties may fall another way.
    """
    check(given)
    dtype = getattr(torch, given.dtype)
    if given.folder is None:
        model, tokenizer = small(dtype), None
    else:
        model, tokenizer = load(Path(given.folder), dtype, given.prompt is not None)
    count = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__}, {count / 1e6:.3g} million parameters, {given.dtype}")
    for length in given.context or [32]:
        ids = prompt(model, tokenizer, given.prompt, length)
        print(f"{ids.shape[1]} tokens given, {given.tokens} generated")
        if given.window is None:
            before, after = both(model, ids, given.tokens)
            fastest = max(before.speed, after.speed)
            print(f"unpatched  {before.speed:8.2f} tokens/s  {bar(before.speed / fastest)}")
            print(f"patched    {after.speed:8.2f} tokens/s  {bar(after.speed / fastest)}")
            same = torch.equal(before.tokens, after.tokens)
            print(f"tokens     equal, all {given.tokens}" if same else difference(before, after))
        else:
            after = endless(model, ids, given.tokens, given.window, given.sinks)
            kept = f"the {given.sinks} first and {given.window} latest kept"
            print(f"patched    {after.speed:8.2f} tokens/s, {kept}")
        if given.verbose:
            for (kind, path), times in sorted(decoding.taken.items()):
                print(f"{times:7} x {kind.removeprefix('Patched')}: {path}")
        if tokenizer is not None:
            print(tokenizer.decode(after.tokens, skip_special_tokens=True))
    return 0


def check(given: argparse.Namespace) -> None:
    """Raise ValueError for arguments that do not fit together."""
    contexts = [("context", length) for length in given.context or []]
    for name, number in [("tokens", given.tokens), ("window", given.window), *contexts]:
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; expected at least 1")
    if given.prompt is not None and given.folder is None:
        raise ValueError("prompt is given without a folder; expected one, whose tokenizer reads it")
    if given.prompt is not None and given.context is not None:
        raise ValueError("prompt is given beside a context; expected one of them")


def both(model: Any, ids: Tensor, tokens: int) -> tuple[Run, Run]:
    """Generated from one context, unpatched and patched."""
    cache = fill(model, ids, transformers.DynamicCache(config=model.config))
    generate(model, ids, 2, copy.deepcopy(cache))  # so that the first to be measured does not pay for the first call
    before = generate(model, ids, tokens, copy.deepcopy(cache))
    with patch(model):
        generate(model, ids, 2, copy.deepcopy(cache))
        decoding.taken.clear()
        return before, generate(model, ids, tokens, cache)


def endless(model: Any, ids: Tensor, tokens: int, window: int, sinks: int) -> Run:
    """Generated by a patched model whose cache keeps a window."""
    with patch(model):
        cache = fill(model, ids, RotaryCache(model.config, window=window, sinks=sinks), min(AT_ONCE, window))
        decoding.taken.clear()
        return generate(model, ids, tokens, cache)


@torch.no_grad()
def fill(model: Any, ids: Tensor, cache: Any, at_once: int = AT_ONCE) -> Any:
    """The cache of all ids but the last; says how far it is where somebody looks."""
    for begin in range(0, ids.shape[1] - 1, at_once):
        part = ids[:, begin : min(begin + at_once, ids.shape[1] - 1)]
        model(input_ids=part, use_cache=True, **{cached(model): cache})
        if sys.stderr.isatty():
            print(f"\rcontext: {cache.get_seq_length()} of {ids.shape[1] - 1} tokens ", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return cache


def cached(model: Any) -> str:
    """The name by which a model takes a cache, which transformers is about to change."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def bar(share: float) -> str:
    """As long as a share of the longest."""
    return "#" * max(1, round(BAR * share))


def difference(before: Run, after: Run) -> str:
    """Where two runs part."""
    length = min(len(before.tokens), len(after.tokens))
    parted = (before.tokens[:length] != after.tokens[:length]).nonzero()
    return f"tokens     differ from number {int(parted[0]) + 1 if len(parted) else length + 1} on"


def load(folder: Path, dtype: torch.dtype, read: bool) -> tuple[Any, Any]:
    """The model of a folder and, where a text is to be read or can be, its tokenizer."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"folder is {str(folder)!r}; expected one that holds a config.json")
    options = {"local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options).eval()
    if not read and not list(folder.glob("tokenizer*")):
        return model, None
    return model, transformers.AutoTokenizer.from_pretrained(folder, **options)


def small(dtype: torch.dtype) -> Any:
    """A Llama of 5 million random weights."""
    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=8192, eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def prompt(model: Any, tokenizer: Any, text: str | None, length: int) -> Tensor:
    """The ids (1, seq) to go on from: those of the text, or as many at random."""
    if text is not None:
        ids: Tensor = tokenizer(text, return_tensors="pt").input_ids
        return ids
    vocabulary = model.config.get_text_config().vocab_size
    return torch.randint(vocabulary, (1, length), generator=torch.Generator().manual_seed(0))


def generate(model: Any, ids: Tensor, tokens: int, cache: Any) -> Run:
    """Greedy tokens after ids, exactly so many, and the seconds they took."""
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "num_beams": 1}
    begin = time.perf_counter()
    out = model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, **options, **{cached(model): cache})
    return Run(out[0, ids.shape[1] :], time.perf_counter() - begin)


if __name__ == "__main__":
    from rope_ref.cli import main

    sys.exit(main(["generate", *sys.argv[1:]]))
