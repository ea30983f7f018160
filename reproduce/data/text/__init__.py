"""Text becomes exact sequences of tokens: how it is tokenised, sharded, packed and read.

documents     what a source of text offers: documents of each split, or documents that are tokens already
local         documents of the user's own or of this machine: what is held out, and those that fit in memory
tokeniser     a byte-level BPE trained on documents, and documents turned into tokens
shards        tokens of whole documents on disk, written so that a stop costs little
prepare       from a source to a prepared folder
corpus        chunk packing, and what every packing offers
stream        stream packing
opening       from a configuration to its fingerprint and to its prepared corpus
"""
