"""The child process that reads pickled weights: a script of its own, run apart from the rest with limits on memory and time.

Each line on stdin is JSON: {"file": …, "out": …}. `torch.load(weights_only=True)` reads the file, whose tensors are written to
`out` as safetensors; one line of JSON answers, {} or {"error": …}. Nothing else of hubcli is imported here.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file

ROOM = 512 << 20  # bytes of memory beyond four times the file


def limit(size: int) -> None:
    """Bound this process's memory, and what it writes, to what a file of `size` bytes may need; no bound where there is none."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        bound = pages * resource.getpagesize() + 4 * size + ROOM
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY or bound < hard:
            resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * size + ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    except (ImportError, OSError, ValueError):
        return


def convert(file: Path, out: Path) -> None:
    """Read one file and write its tensors."""
    limit(file.stat().st_size)
    found = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise TypeError(f"expected a dictionary of tensors, found a {type(found).__name__}")
    for key, tensor in found.items():
        if not isinstance(key, str) or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise TypeError(f"{str(key)[:80]!r}: expected a tensor by name, found a {type(tensor).__name__}")
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise TypeError(f"{key[:80]!r}: expected a plain tensor, found {tensor.layout}")
    save_file({key: tensor.detach().clone().contiguous() for key, tensor in found.items()}, out)


def reason(error: Exception) -> str:
    """Why a file is refused, in one line; torch's own words also say how to run it all the same."""
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "it needs more memory than a file of this size may"
    if isinstance(error, UnpicklingError):
        asked = re.search(r"GLOBAL ([\w.]{1,100})", text)
        return f"it asks for {asked[1]}, which is no tensor" if asked else "it is no pickle of tensors"
    return f"{type(error).__name__}: {text}".splitlines()[0][:300]


def main() -> None:
    """Answer until stdin ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            convert(Path(order["file"]), Path(order["out"]))
            answer = {}
        except Exception as error:
            answer = {"error": reason(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
