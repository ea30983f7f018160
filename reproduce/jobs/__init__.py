"""Jobs from their configuration to a sealed trace: the work of each kind, the worker process, and the queue of many.

    kind       configuration     work                      what it does
    train      RunConfig         `reproduce.jobs.train`    optimiser steps from a seed, probed and evaluated on the way
    measure    MeasureConfig     `reproduce.jobs.measure`  the metrics of weights that a training has kept
    quantise   QuantiseConfig    `reproduce.jobs.quantise` what such weights lose on grids of few bits

A job is a configuration with a key. Some jobs start from the result of a parent: a measurement needs the weights of a
training. All kinds are handled alike. The queue creates a run folder, a worker process does the work in it, and the
trace that the work has written is sealed. A new kind of job needs a configuration in `reproduce.job_config`, an entry
in `JOB_KINDS` there, a module here with a function `work`, and an entry in `WORK` of `reproduce.jobs.worker`.
"""
