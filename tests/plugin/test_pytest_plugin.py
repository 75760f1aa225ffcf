"""``pytest --dots-backend``: only when asked, whatever the folder's settings, and with clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from stranger import pytest_run

FEW = "homemade or versions or devices"
"""Of the suite two tests, and the one that stands in the folder."""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dots-backend", "refrence"], ["unknown backend 'refrence'", "did you mean 'reference'"]),
        (["--dots-backend", "reference", "--dots-device", "abacus"], ["no device 'abacus'"]),
        (["--dots-backend", "reference", "--dots-precision", "float8"], ["unknown precision 'float8'", "float64"]),
        (["--dots-precision", "float64"], ["--dots-backend, which is not given"]),
        (["--dots-device", "cpu"], ["--dots-backend, which is not given"]),
    ],
)
def test_refusals(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    done = pytest_run(*arguments, cwd=tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("framework", "engine", "words"),
    [
        (
            "no_such_framework",
            "",
            "needs no_such_framework, which is not installed; install it with: pip install ghost",
        ),
        ("", "raise OSError('libghost.so is too old')", "does not load: OSError: libghost.so is too old"),
    ],
)
def test_an_engine_that_cannot_run_is_refused_and_not_skipped(
    framework: str, engine: str, words: str, tmp_path: Path
) -> None:
    metadata = tmp_path / "ghost-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ghost\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[dots.backends]\nghost = ghost_engine:engine\n[dots.backend_info]\nghost = ghost_info:info\n"
    )
    (tmp_path / "ghost_info.py").write_text(f"info = {{'framework': '{framework}', 'install': 'pip install ghost'}}\n")
    (tmp_path / "ghost_engine.py").write_text(engine)
    done = pytest_run("--dots-backend", "ghost", cwd=tmp_path, site=tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr


def test_without_the_option_it_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own(pytestconfig):\n"
        "    assert 'dots_conformance.pytest_plugin' in sys.modules\n"
        "    assert not pytestconfig.pluginmanager.has_plugin('dots-engine-suite')\n"
        "    assert not {'numpy', 'dots_core', 'dots_conformance.engine_suite'} & set(sys.modules)\n"
    )
    done = pytest_run("-q", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A project whose settings are nothing like ours."""
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ntestpaths = checks\npython_files = check_*.py\npython_classes = Check* *Suite\n"
        "python_functions = check_*\naddopts = --strict-markers --import-mode=importlib\n"
    )
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "check_homemade.py").write_text("def check_homemade(): pass\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], "2 passed"), (["checks"], "3 passed"), (["checks", "-n", "2"], "3 passed"), (["-n", "2"], "2 passed")],
)
def test_paths_are_added_to_and_settings_do_not_matter(arguments: list[str], expected: str, elsewhere: Path) -> None:
    done = pytest_run("--dots-backend", "reference", "-q", "-k", FEW, *arguments, cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert expected in done.stdout


def test_one_test_of_the_suite_runs_by_its_name(tmp_path: Path) -> None:
    from dots_conformance.pytest_plugin import SUITE

    done = pytest_run("--dots-backend", "reference", "-q", f"{SUITE}::TestInstalledEngine::test_versions", cwd=tmp_path)
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_device_and_precision_reach_the_suite(workers: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pathlib, pytest\n"
        "@pytest.fixture(autouse=True)\n"
        "def seen(request, engine):\n"
        "    yield\n"
        "    suite = request.instance\n"
        "    state = suite.build(engine).export_state()\n"
        "    found = f'{suite.backend} {suite.device} {suite.precision}'\n"
        "    pathlib.Path('seen').write_text(f'{found} {state[\"weights/stem.conv.weight\"].dtype}')\n"
    )
    arguments = ["--dots-backend", "reference", "--dots-precision", "float64", "-k", "versions", "-n", workers]
    done = pytest_run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "dots engine: reference on cpu in float64" in done.stdout
    assert (tmp_path / "seen").read_text() == "reference cpu float64 float64"
