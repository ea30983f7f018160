"""Jobs on their way to a sealed trace: the kinds there are, the worker process of one, and the queue of many."""
