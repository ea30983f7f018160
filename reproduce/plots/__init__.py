"""Figures, tables and drawings from sealed traces; `reproduce.plots.rendering.render` writes the files of one of them.

Matplotlib is used without pyplot, so that drawing needs no display and changes no global state.
"""
