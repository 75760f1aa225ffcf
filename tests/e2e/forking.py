"""A process that has loaded what most commands load, and forks for each: loading is most of a small command's time.

Named engines are loaded, too; none has computed, so that the forks can. It reads a JSON object a line: ``arguments``
of ``dots``, or ``python`` to run; ``cwd``; ``env``, all of it; the files its ``stdout`` and ``stderr`` go to. It
answers each with a line, the exit code.
"""

from __future__ import annotations

import io
import json
import os
import sys


def carry_out(request: dict) -> None:
    """Become the process of one command."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    # What the interpreter does with it when it starts.
    sys.path[:0] = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part not in ("", *sys.path)]
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    import dots.run.api  # noqa: F401
    from dots_core.engine.registry import load_engine

    # Matplotlib reads fonts and builds a parser at its first picture. A cell would read the registries, too,
    # to which a command's own packages add.
    figure = Figure()
    figure.text(0.5, 0.5, "$c_{k}$")
    FigureCanvasAgg(figure).print_png(io.BytesIO())
    FigureCanvasSVG(figure).print_svg(io.BytesIO())
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
