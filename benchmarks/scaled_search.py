"""A whole search at a scale a CPU manages, and its cell against random ones.

Searches with the dots-cifar10 preset, scaled down, on the given images; then trains the found
cell and random cells of the same space from scratch with the same budget, several seeds each,
and prints test accuracies. Resumable: run it again with the same --out.

    python benchmarks/scaled_search.py --data cifar10-folder --out scaled-search
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev

import dots
from dots_core.random import Stream
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.operations import DARTS, NONE
from dots_core.storage.atomic import to_json
from dots_core.storage.metrics import read_metrics

SEARCH = {
    "train_images": 4000,
    "test_images": 2000,
    "batch": 32,
    "channels": 8,
    "weights.learning_rate": 0.025,
    "weights.final_learning_rate": 0.001,
    # A few hundred steps must decide what the preset decides in some fifteen thousand.
    "architecture.learning_rate": 0.006,
    "operation.epochs": 5,
    "operation.warmup": 2,
    "operation.layers": 4,
    "topology.epochs": 6,
    "topology.warmup": 2,
    "topology.warmup_split": "all",
    "topology.layers": 6,
    "topology.temperature.rate": 0.25,
}
TRAINING = {
    "train_images": 4000,
    "test_images": 2000,
    "batch": 32,
    "channels": 12,
    "layers": 6,
    "epochs": 8,
    "weights.learning_rate": 0.05,
    "augmentation.cutout": 0,
    "auxiliary": False,
    "drop_path": 0.0,
    "evaluate_every": 8,
}


def random_genotype(seed: int, nodes: int = 4) -> Genotype:
    """Draw a cell of the searched space uniformly: two incoming edges a node, any operation but none."""
    operations = [operation for operation in DARTS if operation != NONE]
    fields = {}
    for kind in ("normal", "reduce"):
        stream = Stream(seed, f"random cell/{kind}")
        fields[kind] = tuple(
            tuple(
                (operations[int(u * len(operations))], int(source))
                for u, source in zip(
                    stream.uniform((2,), target), stream.permutation(target, target, 1)[:2], strict=True
                )
            )
            for target in range(2, nodes + 2)
        )
    concat = tuple(range(2, nodes + 2))
    return Genotype(fields["normal"], concat, fields["reduce"], concat)


def main() -> None:
    """Search, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = arguments.data
    begin = time.monotonic()
    found = dots.search("dots-cifar10", data=data, out=arguments.out / "search", resume=True, settings=SEARCH)
    seconds = time.monotonic() - begin
    accuracies: dict[str, list[float]] = {"found": [], "random": []}
    for seed in range(arguments.seeds):
        for name, cell in (("found", found.genotype), ("random", random_genotype(seed))):
            out = arguments.out / f"{name}-{seed}"
            trained = dots.train(cell, "cifar", data=data, out=out, seed=seed, resume=True, settings=TRAINING)
            accuracies[name].append(trained.accuracy)
    rows = read_metrics(arguments.out / "search" / "metrics.jsonl")
    result = {
        "search_seconds": seconds,
        "supernet_accuracy": {row["stage"]: row["validation_accuracy"] for row in rows},
        "genotype": found.genotype.to_record(),
        "accuracies": accuracies,
    }
    (arguments.out / "result.json").write_text(to_json(result))
    print(json.dumps(result["supernet_accuracy"]), f"search {seconds:.0f} s")
    for name, values in accuracies.items():
        print(f"{name:7} {mean(values):.2%} ± {stdev(values):.2%}   {', '.join(f'{value:.2%}' for value in values)}")


if __name__ == "__main__":
    main()
