"""Cells as Graphviz text and as text for a terminal, and what nodes are called in all pictures.

Nodes carry the names of the figures in the papers: ``c_{k-2}`` and ``c_{k-1}`` are the outputs
of the two cells before, ``0``, ``1``, … the intermediate nodes (number 2 and up in a genotype),
``c_{k}`` the cell's output.
"""

from __future__ import annotations

from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype

TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
OUTPUT = "c_{k}"


def node_name(number: int) -> str:
    """Return the name a cell's node has in pictures, for example ``"c_{k-2}"`` for node 0 and ``"0"`` for node 2."""
    return ("c_{k-2}", "c_{k-1}")[number] if number < 2 else str(number - 2)


def dot_text(genotype: Genotype) -> str:
    """Return both cells as one Graphviz digraph, each in a cluster of its own.

    Equal genotypes give equal text. ``dot -Tpdf`` turns it into a figure.
    """
    lines = [
        "digraph genotype {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=lightblue, fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=11];',
    ]
    for kind in CELL_TYPES:
        cell = genotype.cell(kind)

        def quoted(name: str, kind: str = kind) -> str:
            return f'"{kind} {name}"'

        lines += [f'  subgraph "cluster_{kind}" {{', f'    label="{TITLES[kind]}";']
        for number in range(cell.nodes + 2):
            colour = ", fillcolor=darkseagreen2" if number < 2 else ""
            lines.append(f'    {quoted(node_name(number))} [label="{node_name(number)}"{colour}];')
        lines.append(f'    {quoted(OUTPUT)} [label="{OUTPUT}", fillcolor=palegoldenrod];')
        for edge in cell.edges:
            ends = f"{quoted(node_name(edge.source))} -> {quoted(node_name(edge.target))}"
            lines.append(f'    {ends} [label="{edge.operations[0]}"];')
        lines += [f"    {quoted(node_name(number))} -> {quoted(OUTPUT)};" for number in cell.concat]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def terminal_text(genotype: Genotype) -> str:
    """Return both cells as Unicode text, an edge a line: source, operation and, once, the node they lead to."""
    blocks = []
    for kind in CELL_TYPES:
        cell = genotype.cell(kind)
        wide = max(len(edge.operations[0]) for edge in cell.edges)
        lines = [TITLES[kind]]
        for node in range(2, cell.nodes + 2):
            incoming = [cell.edges[number] for number in cell.incoming(node)]
            for place, edge in enumerate(incoming):
                source = f"{node_name(edge.source)} ".ljust(9, "─")
                if len(incoming) == 1:
                    join = f"─→ {node_name(node)}"
                elif place == 0:
                    join = f"┬→ {node_name(node)}"
                else:
                    join = "┘" if place == len(incoming) - 1 else "┤"
                lines.append(f"  {source} {f'{edge.operations[0]} '.ljust(wide + 1, '─')}─{join}")
        sources = ", ".join(node_name(node) for node in cell.concat)
        lines.append(f"  {f'{sources} '.ljust(wide + 12, '─')}─→ {OUTPUT}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
