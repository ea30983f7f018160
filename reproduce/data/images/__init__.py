"""Images become batches: sets of labelled images, decoding, and the normalisation of their inputs.

image_set       labelled images that are in memory, and what every set of images offers
decoding        images that are read, cropped and resized one by one while the step before is trained
whitening       standardisation of the channels, or PCA-whitening
plain_pickle    pickles of plain data, read without trusting them
opening         from a configuration to its fingerprint and to its prepared images
"""
