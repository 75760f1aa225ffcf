"""A process that has loaded what most commands load, and forks for each: loading is most of a small command's time.

Named engines are loaded, too; none has computed, so that the forks can. It reads a JSON object a line: ``arguments``
of ``dots``, or ``python`` to run; ``cwd``; ``env``, all of it; the files its ``stdout`` and ``stderr`` go to. It
answers each with a line, the exit code.
"""

from __future__ import annotations

import json
import os
import sys


def carry_out(request: dict) -> None:
    """Become the process of one command."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    out, err = (os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in ("stdout", "stderr"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    if "python" in request:
        exec(compile(request["python"], "page", "exec"), {"__name__": "__main__"})
    else:
        from dots.cli.main import main

        sys.argv = ["dots", *request["arguments"]]
        main()


def serve(engines: list[str]) -> None:
    import dots.run.api  # noqa: F401
    from dots.report.cell_figure import FORMATS, picture
    from dots_core.engine.registry import load_engine
    from dots_core.search_space.named_cells import named_cell

    for suffix in FORMATS:
        picture(named_cell("DARTS_V2"), suffix)  # Matplotlib reads fonts and builds a parser at its first picture
    for name in engines:
        load_engine(name)
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            carry_out(json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    del sys.path[0]  # the installed command does not see this folder either
    serve(sys.argv[1:])
