"""The properties with examples drawn anew, round after round, until one fails: python -m tests.forever

    --minutes M  the last round begins before these have passed (10)
    --seed S     only the round that printed this seed, which draws the same examples again
"""

import argparse
import os
import random
import subprocess
import sys
import time

CALLS = "20000"  # hostile calls a round


def commands(seed):
    yield ["-m", "pytest", "-x", "-m", "hypothesis", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", "tests"]
    yield ["-m", "tests.numba_kernels.fuzz", "--calls", CALLS, "--seed", str(seed)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int)
    wanted, environment = parser.parse_args(), {**os.environ, "ROPE_REF_EXAMPLES": "anew"}
    until = time.monotonic() + 60 * wanted.minutes
    while True:
        seed = random.SystemRandom().randrange(2**32) if wanted.seed is None else wanted.seed
        print(f"seed {seed}", flush=True)
        for command in commands(seed):
            if code := subprocess.run([sys.executable, *command], env=environment).returncode:
                sys.exit(f"failed with {code}; again by: make fuzz SEED={seed}")
        if wanted.seed is not None or time.monotonic() > until:
            return


if __name__ == "__main__":
    main()
