"""The methods of the lab, one a module: equations, source, and the functions of tensors that they consist of."""
