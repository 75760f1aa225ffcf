"""How a search stands: skip counts, entropies, margins of its decisions, and signs of collapse in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.network.spec import NetworkSpec
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.derivation import RETENTIONS, Architecture, decide, derive, edge_strengths, operation_scores
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import SoftmaxGroups, Temperature, entropy, group_softmax
from dots_core.search_space.operations import NONE, OPERATIONS, Operation

LARGE_GAP = 0.1
"""A discretisation gap that is worth a warning: a tenth of all images. The bound is ours."""

SMALL_MARGIN = 1e-3
"""A margin that decides nothing: the spread α′ and β′ start with. The bound is ours."""

UNDECIDED = 0.99
"""An entropy, as a share of the largest possible, at which a search has hardly begun to decide. The bound is ours."""

_DIGITS = 6


@dataclass(frozen=True)
class Decision:
    """One choice that deriving a cell makes.

    Attributes
    ----------
    cell : str
        ``"normal"`` or ``"reduce"``.
    by : str
        What decides: ``"alpha"``, T·ln α of an edge's operations, which within a group differs as α′
        does (`dots_core.search_space.derivation.operation_scores`); ``"beta"``, the β′ of a node's combinations;
        ``"edges"``, the weights of a node's edges under the DARTS policy.
    place : str
        The edge (``"0-2"``) or the node (``"3"``).
    chosen, rival : str
        What was chosen and what came next: an operation, or edges by their sources (``"0,1"``).
    margin : float
        How much more the chosen one has of what decides; 0 is a tie.
    """

    cell: str
    by: str
    place: str
    chosen: str
    rival: str
    margin: float


def decisions(
    cells: Mapping[str, CellSpec],
    architecture: Architecture,
    kinds: Sequence[str],
    temperature: Temperature | None = None,
    genotype: Genotype | None = None,
) -> list[Decision]:
    """Return every choice between two candidates or more that `dots_core.search_space.derivation.derive` makes.

    Parameters
    ----------
    cells, architecture, temperature
        As `derive` takes them.
    kinds : sequence of str
        The cell types to look at.
    genotype : Genotype, optional
        What `derive` gives, where it is at hand.
    """
    genotype = genotype or derive(cells, architecture, temperature)
    found: list[Decision] = []
    for kind in kinds:
        cell, alpha = cells[kind], np.asarray(architecture[f"alpha.{kind}"], np.float64)
        beta = None if cell.matrix is None else np.asarray(architecture[f"beta.{kind}"], np.float64)
        scores = operation_scores(cell, alpha, temperature)
        kept = {(edge.source, edge.target): edge.operations[0] for edge in genotype.cell(kind).edges}
        for number, edge in enumerate(cell.edges):
            if (edge.source, edge.target) in kept:
                candidates = {o: float(scores[number, cell.column(o)]) for o in edge.operations if o != NONE}
                found += _decided(kind, "alpha", edge.name, candidates, kept[edge.source, edge.target])
        if beta is not None and cell.topology.kind.decides_by_beta:
            found += _combination_decisions(kind, cell, beta)
        else:
            found += _edge_decisions(kind, cell, edge_strengths(cell, alpha, beta, temperature), set(kept))
    return found


def _decided(kind: str, by: str, place: str, candidates: Mapping[str, float], chosen: str) -> list[Decision]:
    others = {name: value for name, value in candidates.items() if name != chosen}
    if not others:
        return []
    rival = max(others, key=lambda name: others[name])
    return [Decision(kind, by, place, chosen, rival, candidates[chosen] - others[rival])]


def _edge_decisions(
    kind: str, cell: CellSpec, strengths: Sequence[float], kept: set[tuple[int, int]]
) -> list[Decision]:
    found = []
    for node in range(2, cell.nodes + 2):
        incoming = {cell.edges[n].source: strengths[n] for n in cell.incoming(node)}
        dropped = {source: value for source, value in incoming.items() if (source, node) not in kept}
        if dropped:
            weakest = min((source for source in incoming if source not in dropped), key=lambda s: incoming[s])
            rival = max(dropped, key=lambda s: dropped[s])
            margin = incoming[weakest] - dropped[rival]
            found.append(Decision(kind, "edges", str(node), str(weakest), str(rival), margin))
    return found


def _combination_decisions(kind: str, cell: CellSpec, beta: NDArray[np.float64]) -> list[Decision]:
    assert cell.combination_groups is not None
    found = []
    beta = cell.combination_groups.shifted(beta)
    for members in cell.combination_groups.members:
        candidates = {combination_name(cell, int(n)): float(beta[n]) for n in members}
        chosen = combination_name(cell, cell.topology.kind.chosen(members, beta))
        found += _decided(kind, "beta", combination_place(cell, int(members[0])), candidates, chosen)
    return found


def combination_name(cell: CellSpec, number: int) -> str:
    """Return a combination's edges by their other ends, for example ``"0,1"``.

    These are the sources of a node's input edges, or the targets of its output edges. An edge that
    competes with its absence is ``"kept"`` or ``"dropped"``.
    """
    assert cell.matrix is not None
    edges = [cell.edges[n] for n in cell.matrix.combinations[number]]
    return cell.topology.kind.combination_name(cell.topology, edges)


def combination_place(cell: CellSpec, number: int) -> str:
    """Return whose edges a combination is of: the node, or the edge that is kept or not by itself."""
    assert cell.matrix is not None
    return cell.topology.kind.place(int(cell.matrix.groups[number]), cell.edges)


def retention_margin(
    cell: CellSpec, alpha: NDArray[np.floating], rule: str, temperature: Temperature | None = None
) -> float | None:
    """Return by how little what `dots_core.search_space.derivation.retain` keeps is ahead of what it drops, in T·ln α.

    Parameters
    ----------
    alpha : array, shape (edges, operations)
        α′.

    Returns
    -------
    float or None
        None if nothing is dropped.
    """
    gaps = []
    scores = operation_scores(cell, alpha, temperature)
    for number, edge in enumerate(cell.edges):
        row = scores[number]
        for group, kept in RETENTIONS[rule].rivals(edge):
            values = sorted((float(row[cell.column(o)]) for o in group), reverse=True)
            if len(values) > kept:
                gaps.append(values[kept - 1] - values[kept])
    return min(gaps, default=None)


def smallest_margins(found: Sequence[Decision]) -> dict[str, float]:
    """Return the smallest margin for each ``<what decides>.<cell type>``, for example ``"alpha.normal"``."""
    margins: dict[str, float] = {}
    for decision in found:
        key = f"{decision.by}.{decision.cell}"
        margins[key] = min(margins.get(key, decision.margin), decision.margin)
    return margins


@dataclass(frozen=True)
class ArchitectureSummary:
    """What a search's architecture weights say at one moment.

    Attributes
    ----------
    genotype : Genotype
        What would be derived now.
    decisions : list of Decision
        Of the cell types the network holds; another type's cell is never trained, and arbitrary.
    metrics : dict
        For the row of an epoch: temperatures, entropies, skip counts, smallest margins.
    record : dict
        For the architecture file: the genotype, the decisions, α, β and γ by name, and under
        ``competing`` what competes in β: a node's ``"input"`` or ``"output"`` edges, or each edge
        ``"alone"`` with its absence.
    """

    genotype: Genotype
    decisions: list[Decision]
    metrics: dict[str, Any]
    record: dict[str, Any]


def summarise_architecture(
    spec: NetworkSpec, architecture: Architecture, temperature: Temperature
) -> ArchitectureSummary | None:
    """Read the architecture weights of a network; None if it has none.

    Parameters
    ----------
    architecture : mapping
        α′ and β′ as ``Network.architecture`` returns them.
    """
    kinds = [kind for kind in spec.kinds() if spec.cell(kind).mixed]
    if not kinds:
        return None
    cells = {kind: spec.cell(kind) for kind in CELL_TYPES}
    complete = completed(cells, architecture)
    derived = decide(cells, complete, temperature)
    genotype = derived.genotype
    found = decisions(cells, complete, kinds, temperature, genotype)
    metrics: dict[str, Any] = {"alpha_temperature": temperature.alpha}
    record: dict[str, Any] = {
        "genotype": genotype.to_record(),
        "decisions": [{**asdict(each), "margin": round(each.margin, _DIGITS)} for each in found],
        "alpha": {},
    }
    for kind in kinds:
        cell = cells[kind]
        weights = _weights(architecture[f"alpha.{kind}"], cell.operation_groups, temperature.alpha)
        metrics[f"alpha_entropy_{kind}"] = entropy(weights, cell.operation_groups)
        record["alpha"][kind] = {
            edge.name: {o: _rounded(weights[n, cell.column(o)]) for o in edge.operations}
            for n, edge in enumerate(cell.edges)
        }
    for kind in kinds:
        cell = cells[kind]
        if cell.matrix is None or cell.combination_groups is None:
            continue
        metrics.setdefault("beta_temperature", temperature.beta)
        weights = _weights(architecture[f"beta.{kind}"], cell.combination_groups, temperature.beta)
        metrics[f"beta_entropy_{kind}"] = entropy(weights, cell.combination_groups)
        beta: dict[str, dict[str, float]] = {}
        for n, weight in enumerate(weights):
            beta.setdefault(combination_place(cell, n), {})[combination_name(cell, n)] = _rounded(weight)
        shares = cell.matrix.shares @ weights
        record.setdefault("beta", {})[kind] = beta
        competing = "alone" if cell.topology.kind.alone else cell.topology.side
        record.setdefault("competing", {})[kind] = competing
        record.setdefault("gamma", {})[kind] = {
            edge.name: _rounded(share) for edge, share in zip(cell.edges, shares, strict=True)
        }
    metrics.update({f"skip_count_{kind}": genotype.skip_count(kind) for kind in kinds})
    for key, margin in smallest_margins(found).items():
        by, _, kind = key.partition(".")
        metrics[f"{by}_margin_{kind}"] = margin
    repairs = [str(repair) for repair in derived.repairs if repair.cell in kinds]
    if repairs:
        metrics["repairs"] = repairs
    return ArchitectureSummary(genotype, found, metrics, record)


def completed(cells: Mapping[str, CellSpec], architecture: Architecture) -> dict[str, NDArray[np.floating]]:
    """Return the architecture weights of both cell types; those of a type the network does not hold are all equal.

    Names and shapes are those of `dots_core.network.spec.architecture_shapes`.
    """
    complete = dict(architecture)
    for kind in CELL_TYPES:
        complete.setdefault(f"alpha.{kind}", np.zeros(cells[kind].operation_groups.shape))
        groups = cells[kind].combination_groups
        if groups is not None:
            complete.setdefault(f"beta.{kind}", np.zeros(groups.shape))
    return complete


def _weights(logits: NDArray[np.floating], groups: SoftmaxGroups, temperature: float) -> NDArray[np.floating]:
    return group_softmax(np.asarray(logits, np.float64), groups, temperature)


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


_CELL_NAMES = {"normal": "normal cell", "reduce": "reduction cell"}
_COLLAPSED = "the search has collapsed"


def unusable(genotype: Genotype, rows: Sequence[Mapping[str, Any]]) -> str:
    """Say in a few words why a found cell is not to be used, or nothing if nothing speaks against it.

    Parameters
    ----------
    genotype, rows
        As for `warnings`, which says the same at length.
    """
    held = _held(rows)
    untrained = [_CELL_NAMES[kind] for kind in CELL_TYPES if held and kind not in held]
    if untrained:
        return f"the {untrained[0]} was never trained"
    return _COLLAPSED if "normal" in held and _collapsed(genotype) else ""


def _held(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The cell types the network held last. Rows of earlier releases do not tell: nothing follows from that."""
    return [kind for kind in CELL_TYPES if rows and f"alpha_entropy_{kind}" in rows[-1]]


def warnings(genotype: Genotype, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in plain words what makes a search's result doubtful; nothing if nothing does.

    Parameters
    ----------
    genotype : Genotype
        What was derived, or would be now.
    rows : sequence of mappings
        The run's metrics, one row an epoch.
    """
    if not rows:
        return []
    last, said = rows[-1], []
    held = _held(rows)
    if held:
        said += [
            f"the network holds no {_CELL_NAMES[kind]}, so that cell was never trained: it is arbitrary"
            for kind in CELL_TYPES
            if kind not in held
        ]
    if "normal" in held:
        said += _collapse(genotype)
    if last.get("repairs"):
        said.append(
            "what the search chose is no valid cell, and was repaired: without input was " + ", ".join(last["repairs"])
        )
    for row in _last_of_stages(rows):
        if row.get("discretisation_gap", 0.0) >= LARGE_GAP:
            said.append(
                f"the {row['stage']} supernet loses {100 * row['discretisation_gap']:.1f} points of accuracy when "
                "it is reduced to the derived cell: its accuracy says little about that cell"
            )
    for kind in held:
        for group, what in (("alpha", "operations"), ("beta", "combinations of edges")):
            share = last.get(f"{group}_entropy_{kind}", 0.0)
            if share >= UNDECIDED:
                said.append(
                    f"the {_CELL_NAMES[kind]}'s {what} weigh nearly the same (entropy {share:.3f} of 1): "
                    "the search has hardly decided"
                )
        for by, what in (("alpha", "operation"), ("beta", "edges"), ("edges", "edges")):
            margin = last.get(f"{by}_margin_{kind}")
            if margin is not None and margin < SMALL_MARGIN:
                said.append(
                    f"a choice of {what} in the {_CELL_NAMES[kind]} rests on a margin of {margin:.1g}: "
                    "as good as chance"
                )
    return said


def _last_of_stages(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({row["stage"]: row for row in rows}.values())


def _normal_operations(genotype: Genotype) -> list[Operation]:
    return [OPERATIONS[edge.operations[0]] for edge in genotype.cell("normal").edges]


def _collapsed(genotype: Genotype) -> bool:
    operations = _normal_operations(genotype)
    return not any(each.learnable for each in operations) or 2 * genotype.skip_count("normal") > len(operations)


def _collapse(genotype: Genotype) -> list[str]:
    operations, skips = _normal_operations(genotype), genotype.skip_count("normal")
    holds = f"the normal cell holds {skips} skip connection{'' if skips == 1 else 's'} of {len(operations)} edges"
    if _collapsed(genotype):
        without = "" if any(each.learnable for each in operations) else " and no convolution"
        return [f"{holds}{without}: {_COLLAPSED}"]
    return [f"{holds}: a sign of collapse"] if skips > 2 else []
