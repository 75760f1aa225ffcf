"""What `import dots` shows."""

from __future__ import annotations

import rlcompleter
import subprocess
import sys
from itertools import count, takewhile


def test_dir_and_vars_show_public_names_only():
    """Asked of a fresh interpreter: submodules appear in a package once something imports them."""
    script = "import dots; print([n for n in [*dir(dots), *vars(dots)] if n[0] != '_' and n not in dots.__all__])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_completed():
    import dots

    assert set(dots.__all__) <= set(dir(dots))
    assert all(getattr(dots, name) is not None for name in dots.__all__)
    completer = rlcompleter.Completer({"dots": dots})
    offered = takewhile(lambda text: text is not None, (completer.complete("dots.", n) for n in count()))
    assert {str(text).removeprefix("dots.").rstrip("()") for text in offered} == set(dots.__all__)
