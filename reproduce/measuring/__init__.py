"""Measurement of the paper's metrics on the activations of a model. No trainer is needed."""
