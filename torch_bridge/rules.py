"""How DTensors are rotated: which splits of x, cos and sin need no communication, told to torch as rules.

A rotation sees one head of one token. So x may be split along any axis but head_dim, and whoever
holds a part of it needs the same part of the tables: split along that axis where they have it,
whole where they broadcast. Anything else, torch redistributes first.

torch.distributed.tensor takes half a second to import, so its rules wait until somebody else imports it.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch

Split = tuple[list[Any], list[Any]]  # placements of outputs, and of inputs, None for what is no tensor


def register() -> None:
    """Tell DTensor the rules of all operators."""
    from torch.distributed.tensor import Partial, Replicate, Shard, experimental

    register_sharding = experimental.register_sharding
    whole, operators = Replicate(), torch.ops.rope_ref

    def splits(x: Any, table: Any) -> list[tuple[Any, Any]]:
        """Every placement of x, and that of a table which goes with it."""
        found: list[tuple[Any, Any]] = [(whole, whole)]
        for dim in range(x.ndim - 1):
            axis = dim - (x.ndim - table.ndim)
            shared = axis < 0 or table.shape[axis] == 1
            found.append((Shard(dim), whole if shared else Shard(axis)))
        return found

    def of_rotate(x: Any, cos: Any, sin: Any, *form: Any) -> list[Split]:
        return [([mine], [mine, table, table, *nothing(form)]) for mine, table in splits(x, cos)]

    def of_rotate_(x: Any, cos: Any, sin: Any, *form: Any) -> list[Split]:
        return [([], [mine, table, table, *nothing(form)]) for mine, table in splits(x, cos)]

    def of_norm(x: Any, weight: Any, cos: Any, sin: Any, *form: Any) -> list[Split]:
        return [([mine], [mine, whole, table, table, *nothing(form)]) for mine, table in splits(x, cos)]

    def of_rotate_qk(query: Any, key: Any, cos: Any, sin: Any, *form: Any) -> list[Split]:
        return [
            ([q, k], [q, k, table, table, *nothing(form)])
            for q, table in splits(query, cos)
            for k, same in splits(key, cos)
            if same == table
        ]

    for rule, names in (
        (of_rotate, ("rotate", "rotate_kernel")), (of_rotate_, ("rotate_", "rotate_kernel_")),
        (of_rotate_qk, ("rotate_qk", "rotate_qk_kernel")),
        (of_norm, ("normalise_and_rotate", "normalise_and_rotate_kernel")),
    ):  # fmt: skip
        for name in names:
            register_sharding(getattr(operators, name).default)(rule)

    @register_sharding(operators.rotate_backward.default)
    def of_rotate_backward(grad: Any, x: Any, cos: Any, sin: Any, *form: Any) -> list[Split]:
        """Where ranks share a table, each has a term of its gradient."""
        rules = []
        for mine, table in splits(x, cos):
            term = Partial() if mine != table and table == whole else table
            rules.append(([term, term], [mine, mine, table, table, *nothing(form)]))
        return rules


def nothing(form: tuple[Any, ...]) -> list[None]:
    return [None] * len(form)


class Afterwards(MetaPathFinder):
    """Does something once, as soon as a module has been imported."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name, self.act = name, act

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self.name else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    self.act()

            spec.loader.exec_module = then  # type: ignore[method-assign]
        return spec


def when_imported(name: str, act: Callable[[], None]) -> None:
    """Do it now where the module was imported already."""
    if name in sys.modules:
        act()
    else:
        sys.meta_path.insert(0, Afterwards(name, act))
