"""The process that reads one checkpoint file; imports no other part of the package.

It runs with few rights (see `limits`). Modules import each other relatively: the
process starts without keras_nonlocal, and so without Keras.
"""
