"""The paper's metrics of a model: what it shows at its named points, reduced to numbers. Needs no trainer."""
