"""Processes of torch.distributed on gloo, which stay and run one function after another."""

import datetime
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIME_LIMIT = 120  # seconds until a rank that waits for the others is given up


class Ranks:
    """`run` calls a function of a module on every rank at once and gives what each returned."""

    def __init__(self, world_size: int, store: str) -> None:
        context = mp.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, world_size, store, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What function(*args) returned on each rank. Raises RuntimeError with the traceback of one that failed."""
        for pipe in self.pipes:
            pipe.send((function, args))
        results = []
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(2 * TIME_LIMIT):
                raise RuntimeError(f"rank {rank} gave no answer")
            results.append(pipe.recv())
        for rank, (error, _) in enumerate(results):
            if error:
                raise RuntimeError(f"rank {rank}: {error}")
        return [value for _, value in results]

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            process.kill()


def serve(rank: int, world_size: int, store: str, pipe: Any) -> None:
    """The life of one rank."""
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=TIME_LIMIT)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=limit)
    while True:
        try:
            function, args = pipe.recv()
        except (EOFError, OSError):
            break
        try:
            pipe.send(("", function(*args)))
        except Exception:
            pipe.send((traceback.format_exc(), None))
    dist.destroy_process_group()
