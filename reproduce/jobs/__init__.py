"""Jobs on their way to a sealed trace: the worker process of one, the queue of many, and the work of each kind.

    kind       configuration     work                      what it does
    train      RunConfig         `reproduce.jobs.train`    optimiser steps from a seed, probed and evaluated on the way
    measure    MeasureConfig     `reproduce.jobs.measure`  the metrics of weights that a training has kept

A job is a configuration with a key. Some jobs have a parent, whose result they start from: a measurement needs the
weights of a training. All kinds go the same way: the queue makes a run folder, a worker process does the work in it,
and what that leaves is sealed as one trace. A new kind is a configuration in `reproduce.config`, an entry of
`JOB_KINDS` there, and a module here with a function `work`, which `reproduce.jobs.worker` names.
"""
