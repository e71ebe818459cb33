"""One target under atheris (libFuzzer): inputs that reach new code are kept and changed further.

A process of its own, because libFuzzer ends the process it runs in.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scheduler", "workers"], enable_loader_override=False):
    from fuzz.targets import TARGETS


def main(name: str, inputs: int, seconds: int, seed: int, found: Path) -> None:
    """Run; libFuzzer exits non-zero after it has written what broke the target into `found`."""
    warnings.simplefilter("ignore")  # what libraries say of odd inputs
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate([*target.seeds, *(data for _, data in target.kept())]):
        (corpus / str(number)).write_bytes(data)
    words = folder / "words"
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words if word)
    words.write_text("".join(f'"{line}"\n' for line in lines))

    def one_input(data: bytes) -> None:
        try:
            target.read(data)
        except target.refuses:
            return

    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-runs={inputs}", f"-seed={seed}", f"-max_len={target.max_bytes}", f"-dict={words}", "-timeout=10",
        "-rss_limit_mb=2048", "-malloc_limit_mb=1024", f"-artifact_prefix={found}/{name}-", "-verbosity=0",
        "-print_final_stats=1",
    ]  # fmt: skip
    if seconds:
        options.append(f"-max_total_time={seconds}")
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
