"""Quantisation after training: the published W8A8 protocol, its causes, and the methods that were built against them.

grids, ranges, blocks      levels, range estimators, granularity: pure functions of tensors
quantisers                 their compositions, dynamic and static
decoder, protocol          this package's transformer with a named place at each tensor; the published placement
linears, integers          quantised linear layers of any model, simulated and in integer arithmetic
methods                    SmoothQuant, LLM.int8(), QuaRot, SVDQuant, SplitQuant, AdaDim, block floating point
"""
