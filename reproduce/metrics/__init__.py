"""The paper's metrics as functions of tensors, outside of autograd and in float32 or better.

A residual stream is a float tensor (..., d) whose leading axes are all inputs. Each metric returns a tensor without
axes. `reproduce.metrics.stream.measure_stream` gives all metrics of a stream for little more than the dearest of them
costs. `reproduce.metrics.table` lists the metrics without loading torch, which is why nothing is imported here.
"""
