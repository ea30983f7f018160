"""Where data come from: the registry of sources, and a module for each source or family of sources.

registry          what `data.source` may name
python_library    text: python-stdlib, python-prose
python_packages   text: python-packages
folder            text: folder
codeparrot        text: codeparrot
languini          text: languini-books
hub_text          text: hub, fineweb-edu, public-domain-books
photo_patches     images: photo-patches
cifar10           images: cifar10
imagenet          images: imagenet-1k
"""
