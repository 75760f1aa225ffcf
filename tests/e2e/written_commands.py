"""The commands that README and docs show, and how each is made small enough to be tried.

What is appended only shortens: fewer epochs, images, cells, channels or runs, and the last option of a name counts.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [Path("README.md"), *sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$|`((?:dots|pytest|pip|python) [^`]+)`", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "python3 -m venv .venv": "an environment of its own; the test suite runs in one",
    ".venv/bin/pip install '.[torch]'": "installs; tests/interface/test_installs.py holds it against pyproject",
    "python3 -m venv .venv-tests": "the command CI runs, and in it these tests",
    ".venv-tests/bin/pip install -q tox": "the command CI runs, and in it these tests",
    ".venv-tests/bin/tox": "the command CI runs, and in it these tests",
    "pip install .": "installs; tests/interface/test_installs.py holds such lines against pyproject",
    "pip install '.[torch,study]'": "installs; tests/interface/test_installs.py holds it against pyproject",
    "pip install '.[mindspore]'": "installs; tests/interface/test_installs.py holds it against pyproject",
    "pip install '.[jittor]'": "installs; tests/interface/test_installs.py holds it against pyproject",
    "pip install '.[study]'": "installs; tests/interface/test_installs.py holds it against pyproject",
    "pip install '.[submitit]'": "installs; tests/interface/test_installs.py holds it against pyproject",
    "apt-get install g++ python3-dev libdnnl-dev": "installs packages of the system",
    "pip install -e .": "installs a stranger's engine; tests/plugin/test_out_of_tree_engine.py does",
    "pip install pytest": "installs; the tests run in it",
    "pytest --dots-backend loopback": "tests/plugin/test_pytest_plugin.py runs it",
    "pytest tests/kernels --kernel-sweep whole": "tests of this repository; CI runs the sweep in its sampled form",
    "pytest --dots-backend NAME": "tests/plugin/test_pytest_plugin.py runs it",
    "dots doctor --backend loopback": "tests/plugin/test_out_of_tree_engine.py runs that engine",
    "dots search --backend loopback": "tests/plugin/test_out_of_tree_engine.py runs that engine",
    "pytest --dots-backend plain": "tests/plugin/test_tutorial_engine_page.py runs it",
    "dots doctor --backend plain": "tests/plugin/test_tutorial_engine_page.py runs it",
    "dots search --backend plain": "tests/plugin/test_tutorial_engine_page.py runs it",
    "dots doctor --backend mindspore --device Ascend": "needs an Ascend device",
    "dots search --backend mindspore --device Ascend": "needs an Ascend device",
    "dots search --set operation.level=ahead": "tests/e2e/test_parts_from_outside.py searches by such a level",
    "dots conformance --cases 'steps/levels/ahead-level/*'": "tests/e2e/test_parts_from_outside.py does so",
    "python benchmarks/second_order.py": "a measurement of some minutes",
    "sbatch --array=1-$(wc -l < now.txt) --wrap 'eval \"$(sed -n ${SLURM_ARRAY_TASK_ID}p now.txt)\"'": "needs Slurm",
}
"""Commands that are not run by these tests, and why."""

PYTHON_ELSEWHERE = {
    "docs/adding-an-engine.md": "tests/plugin/test_adding_an_engine_page.py holds them against files and runs them",
    "docs/engines/mindspore.md": "a fragment, with a network of the reader's",
    "docs/parts.md": "tests/interface/test_parts.py imports it and asks the level for its updates",
    "docs/tutorial-engine.md": "tests/plugin/test_tutorial_engine_page.py makes a package of it and runs that",
}
"""Pages whose Python is not run by these tests, and why."""

EXAMPLE = "runs/search-smoke-1"
"""A finished search, which pages suppose to be there."""

PLACEHOLDERS = {
    "A": "darts-v1-cifar10",
    "B": "gdas-cifar10",
    "RUN": EXAMPLE,
    "DIR": "bundle",
    "CELL": "DARTS_V2",
    "KIND": "levels",
    "IMAGENET": "imagenet",
}
"""What stands for words that a reader is to replace."""

_SEARCH = {"train_images": 30, "test_images": 8, "batch": 15, "operation.layers": 3, "topology.layers": 3}
_TRAINING = {"train_images": 16, "test_images": 8, "batch": 8, "layers": 3, "channels": 4}
_CASES = "layers/relu/*"
SHORTENING = {*_SEARCH, *_TRAINING, "image_size"}
"""The only settings that may be appended."""

AS_IT_STANDS = (
    re.compile(r"dots (presets|cells|parts|show|report|env|study list|conformance (cases|compare))\b|dots study$"),
    re.compile(r"dots search --out runs/search-smoke-1 --resume"),
    re.compile(r"dots study paths --out big --resume --commands"),
)
"""Commands that are small by themselves, or go on with something small."""

OTHERWISE = {
    # It splits the images in three.
    "dots search --preset toponas-fixed-mile --data cifar-10-binary.tar.gz": {"batch": 10},
    # A share of the images takes the place of a number of them.
    "dots search --preset smoke --set operation.once_at=1.0 --set train_share=0.5": {
        "train_images": None,
        "batch": 128,
    },
    "dots train --cell DOTS_ImageNet --preset imagenet-mobile-48 --data imagenet/": {"image_size": 32},
    "dots train --preset toponas-imagenet --cell CELL --data IMAGENET": {"image_size": 32},
}
"""Settings of single commands that are to be other than usual; None for none."""


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes
    ----------
    text : str
        As it stands there, without comment and line ends; for ``python``, the block.
    """

    text: str
    python: bool = False

    @property
    def runs_here(self) -> bool:
        return self.text not in ELSEWHERE

    def arguments(self, engine: str | None) -> list[str]:
        """The words after ``dots``, those that make it small appended.

        With an engine, that one is used where another framework's is named, and studies only print their runs.
        """
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(self.text)]
        while "=" in words[0]:
            words.pop(0)
        if ">" in words:
            del words[words.index(">") :]
        return [*words[1:], *self._appended(words[1:], engine)]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the command itself sets."""
        return dict(re.findall(r"^(\w+)=(\S+) ", self.text))

    @property
    def written_to(self) -> str | None:
        """The file its output goes to."""
        found = re.search(r" > (\S+)$", self.text)
        return found[1] if found else None

    def _appended(self, words: list[str], engine: str | None) -> list[str]:
        if any(pattern.match(self.text) for pattern in AS_IT_STANDS):
            return []
        if words[0] in ("search", "train"):
            other = ["--backend", engine] if engine and {"mindspore", "jittor"} & set(words) else []
            return [*other, "--scale", "0.001", *self._settings("--set", self._sizes(words))]
        if words[0] == "study":
            return self._study(words, engine)
        if words[0] == "conformance" and words[1:2] != ["locate"]:
            single = words[1:2] == ["run"]
            other = ["--backend" if single else "--backends", engine] if engine else []
            return [*other, *(["--device", "cpu"] if engine and single else []), "--cases", _CASES]
        # Without a run to look into, every network of the cases is looked into: a minute.
        anywhere = "locate" in words and not {"--checkpoint", "--cases"} & set(words)
        run = ["--checkpoint", EXAMPLE] if engine and anywhere else []
        return ["--backend", engine, *run] if engine else []

    def _sizes(self, words: list[str]) -> dict[str, object]:
        usual: dict[str, object] = dict(_SEARCH if words[0] == "search" else _TRAINING)
        if words[0] == "search" and "--preset" in words and "smoke" not in words:
            usual["channels"] = 4
        return {key: value for key, value in {**usual, **OTHERWISE.get(self.text, {})}.items() if value is not None}

    def _study(self, words: list[str], engine: str | None) -> list[str]:
        resumed = ["--commands"] if engine else []
        if "--resume" in words:
            return resumed
        trainings = self._settings("--train-set", {**_TRAINING, "epochs": 1})
        if words[1] == "paths":
            return [*trainings, "--topologies", "2", "--best", "1", "--seeds", "1", *resumed]
        stages = {"operation.epochs": 1, "operation.warmup": 0, "topology.epochs": 1, "topology.warmup": 0}
        return [*trainings, *self._settings("--set", {**_SEARCH, **stages, "channels": 4}), "--seeds", "1", *resumed]

    @staticmethod
    def _settings(option: str, settings: dict[str, object]) -> list[str]:
        return [part for key, value in settings.items() for part in (option, f"{key}={value}")]


def commands_of(page: Path) -> list[Command]:
    """Return the commands of a page in the order of its text, each once: of blocks, Python too, and within lines."""
    found: dict[Command, None] = {}
    for language, block, inline in _BLOCK.findall((ROOT / page).read_text("utf-8")):
        if language == "python":
            if str(page) not in PYTHON_ELSEWHERE:
                found[Command(block, python=True)] = None
            continue
        lines = re.sub(r"\\\n\s*", "", block).splitlines() if language == "sh" else []
        for line in lines or ([" ".join(inline.split())] if inline else []):
            for text in re.sub(r"\s+#\s.*", "", line).split(" && "):
                found[Command(text.strip().removeprefix(".venv/bin/") if " search" in text else text.strip())] = None
    return [command for command in found if command.text]


def untold_commands(page: Path) -> list[str]:
    """Return what looks like a command in blocks that are not marked as shell."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [
        line
        for language, block in blocks
        if not language
        for line in block.splitlines()
        if re.match(r"(dots|pip|pytest) ", line)
    ]
