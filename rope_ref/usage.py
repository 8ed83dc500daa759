"""Usage as every command has it: examples and exit status below its options, and what is wrong in one line."""

import argparse
import ast
import contextlib
import difflib
import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
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

rope-ref COMMAND --help has examples of each.
""",
    "rope-ref explain": """
  rope-ref explain config.json                  every layer of a model
  rope-ref explain path/to/model --layer 5      one of them, counted from 0
  rope-ref explain config.json --length 100000  dynamic NTK or LongRoPE at this length
  rope-ref explain config.json --overrides '{"rope_scaling": {"rope_type": "linear", "factor": 2.0}}'
                                                as vLLM serves it with the same --hf-overrides
  rope-ref explain model.onnx --json -          read off the caches of a graph, for programs
  rope-ref explain config.json --plot out.png   wavelengths, and the decay of the score with distance
""",
    "rope-ref diff": """
  rope-ref diff config.json model.gguf          exit status 0 if they turn alike, 1 if not
  rope-ref diff path/to/model params.json --length 100000
  rope-ref diff config.json inv_freq.npy --json difference.json
  rope-ref diff config.json config.json --overrides '{"rope_theta": 1e6}'

Formats are told by content: config.json of transformers, GGUF, ONNX and genai_config.json, params.json of Meta and
Mistral, DeepSeek's own config, TensorRT-LLM's and Megatron's, that of a transformer of diffusers, inv_freq or cos and
sin in .npy, safetensors and files of torch.save.
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
Implementation, which has further adapters: decode, tables, cache, ...; or what makes one of these when it is
called with no arguments. Modules are looked for in the current folder first.
""",
    "rope-ref vectors": """
  rope-ref vectors golden
  rope-ref vectors tests/data/rope
""",
    "rope-ref completion": """
  eval "$(rope-ref completion bash)"            in ~/.bashrc
  eval "$(rope-ref completion zsh)"             in ~/.zshrc, after compinit
  rope-ref completion fish > ~/.config/fish/completions/rope-ref.fish
""",
}


class Parser(argparse.ArgumentParser):
    """Keeps the lines of its examples, takes no shortened options, and says in one line what is wrong.

    brings   the function of another package that gives a command its arguments: called once they are asked for, so
             that nothing is imported before
    """

    def __init__(self, brings: EntryPoint | None = None, **options: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**usual | options)
        self.brings = brings
        if self.prog in EXAMPLES:
            self.show(EXAMPLES[self.prog])

    def show(self, examples: str) -> None:
        """Print these behind the options."""
        self.epilog = f"examples:{examples}{STATUS}"

    def load(self) -> None:
        """Take the arguments that another package brings. Raises ImportError that names the extra it needs."""
        brings, self.brings = self.brings, None
        if brings is not None:
            with extra(*brings.extras):
                brings.load()(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.load()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        near = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), 1) if wrong else []
        message += f"; perhaps {near[0]}" if near else ""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that need an extra of the package. Raises ImportError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise ImportError(f"{missing} is not installed; pip install 'rope-ref[{name}]'") from error


def summary(point: EntryPoint) -> str:
    """The first line of the module that brings a command, read without running it: it may import much."""
    package, *rest = point.module.split(".")
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, *rest).with_suffix(".py")
        if file.is_file():
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            first = docstring.partition("\n")[0].rstrip(".")
            return first[:1].lower() + first[1:]
    return f"of {package}"
