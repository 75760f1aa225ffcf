"""A process that has loaded what most commands load, and forks for each: loading is most of a small command's time.

It reads a JSON object a line: ``arguments`` of ``dots``, or ``python`` to run; ``cwd``; ``env``; ``said``, the file
its stdout and stderr go to. It answers each with a line, the exit code.
"""

from __future__ import annotations

import json
import os
import sys


def carry_out(request: dict) -> None:
    """Become the process of one command."""
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if "python" in request:
        exec(compile(request["python"], "page", "exec"), {"__name__": "__main__"})
    else:
        from dots.cli.main import main

        sys.argv = ["dots", *request["arguments"]]
        main()


def serve() -> None:
    import matplotlib.figure  # noqa: F401
    import torch  # noqa: F401

    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            carry_out(json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
