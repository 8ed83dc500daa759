"""Usage as every command has it: examples and exit status below its options, and what is wrong in one line."""

import argparse
import difflib
import re
from typing import Any, NoReturn

STATUS = """
exit status: 0 done, and what was checked conforms; 1 it does not; 2 wrong usage, wrong input, or a fault
"""

EXAMPLES = {
    "rope-ref": """
  rope-ref explain config.json                  what a model's config means
  rope-ref diff config.json model.gguf          whether a converted model still turns as before
  rope-ref show yarn                            the code that computes a variant
  rope-ref check my.model:apply_rope --variant llama3 --head-dim 128 --set factor=8.0
                                                what is wrong with an implementation
  rope-ref vectors golden                       right answers in files, for tests in any language
  rope-ref generate path/to/model               its tokens per second, before and after it is patched
  rope-ref bench --quick                        speed of the kernels on this machine

rope-ref COMMAND --help has examples of each.
""",
    "rope-ref explain": """
  rope-ref explain config.json                  every layer of a model
  rope-ref explain path/to/model --layer 5      one of them, counted from 0
  rope-ref explain config.json --length 100000  dynamic NTK or LongRoPE at this length
  rope-ref explain config.json --plot out.png   wavelengths, and the decay of the score with distance
""",
    "rope-ref diff": """
  rope-ref diff config.json model.gguf          exit status 0 if they turn alike, 1 if not
  rope-ref diff path/to/model params.json --length 100000
  rope-ref diff config.json inv_freq.npy --json difference.json

Formats are told by content: config.json of transformers, GGUF, params.json of Meta and Mistral, DeepSeek's own config,
TensorRT-LLM's and Megatron's, that of a transformer of diffusers, inv_freq or cos and sin in .npy and safetensors.
""",
    "rope-ref show": """
  rope-ref show default
  rope-ref show yarn | less
""",
    "rope-ref check": """
  rope-ref check my.model:apply_rope --variant llama3 --head-dim 128 --set factor=8.0
  rope-ref check my.model:apply_rope --config config.json --layer 0 --layout bshd --arrays torch
  rope-ref check my.model:implementation --variant default --head-dim 64 --budget deep --json report.json
  rope-ref check --command './my_rope' --variant yarn --head-dim 64 --set factor=4 \\
      --set original_max_position_embeddings=4096

The object is a function (x, positions) -> y, with a third argument, the layer, where layers differ; or an
Implementation, which has further ways in: decode, tables, cache, ...; or what makes one of these when it is
called with no arguments. Modules are looked for in the current folder first.
""",
    "rope-ref vectors": """
  rope-ref vectors golden
  rope-ref vectors tests/data/rope
""",
    "rope-ref generate": """
  rope-ref generate                             a small model with random weights
  rope-ref generate path/to/model --dtype bfloat16
  rope-ref generate path/to/model --prompt 'Once upon a time' --tokens 200
""",
    "rope-ref bench": """
  rope-ref bench                                all tables, in some minutes
  rope-ref bench --quick                        fewer rows and rounds, in less than one
  rope-ref bench --only decode --only peers     two of them
  rope-ref bench --rounds 50 --json mine.json --png mine.png

Ratios of calls that are taken in turn, each with its spread and the number of runs. Every result is compared with
torch's own operations before it is timed; other implementations are compared where they are installed.
""",
    "rope-ref completion": """
  eval "$(rope-ref completion bash)"            in ~/.bashrc
  eval "$(rope-ref completion zsh)"             in ~/.zshrc, after compinit
  rope-ref completion fish > ~/.config/fish/completions/rope-ref.fish
""",
}


class Parser(argparse.ArgumentParser):
    """Keeps the lines of its examples, takes no shortened options, and says in one line what is wrong."""

    def __init__(self, **words: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**usual | words)
        if self.prog in EXAMPLES:
            self.epilog = f"examples:{EXAMPLES[self.prog]}{STATUS}"

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        near = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), 1) if wrong else []
        message += f"; perhaps {near[0]}" if near else ""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")
