"""The network a cell is stacked into: layers, canonical names, initial weights, counts."""
