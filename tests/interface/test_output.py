"""What is said on stderr besides what dots says itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

WARNING = """
import logging, warnings
from dots.console.output import hush_libraries
hush_libraries()
warnings.filterwarnings("always")  # as a library may do when it is imported
warnings.warn("of Python's")
logging.getLogger("library").warning("logged")
logging.getLogger("library").error("an error")
"""


@pytest.mark.parametrize(("options", "said"), [([], "an error\n"), (["-W", "default"], "of Python's")])
def test_libraries_are_hushed_but_for_errors_and_what_was_asked_for(options, said):
    done = subprocess.run([sys.executable, *options, "-c", WARNING], capture_output=True, text=True, check=True)
    assert said in done.stderr
    assert (done.stderr == said) is not bool(options)
    assert "logged" not in done.stderr


def test_the_presets_are_listed_with_whole_sentences(monkeypatch, capsys):
    from dots.cli.main import list_presets
    from dots.config.presets import preset_about, preset_names

    list_presets(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    for kind in ("search", "train"):
        for name in preset_names(kind):
            about = preset_about(kind, name)
            assert about.endswith((".", ").")), f"{kind} preset {name}: its first paragraph is no sentence: {about}"
            assert f"  {name:24} {about}" in lines


def test_on_a_terminal_paragraphs_are_wrapped_beside_their_labels(monkeypatch):
    from dots.console.output import beside

    words = " ".join(f"word{number}" for number in range(60))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    first, *others = beside("label ", words).splitlines()
    assert first.startswith("label word0 ")
    assert others
    assert all(line.startswith("      word") and len(line) <= 70 for line in others)
    assert " ".join([first, *others]).split() == ["label", *words.split()]
