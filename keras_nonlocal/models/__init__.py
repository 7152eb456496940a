"""Video networks with non-local blocks."""

from keras_nonlocal.models.c2d import C2D
from keras_nonlocal.models.conventions import CONVENTIONS, Convention
from keras_nonlocal.models.fully_convolutional import fully_convolutional
from keras_nonlocal.models.i3d import I3D

__all__ = ["C2D", "CONVENTIONS", "Convention", "I3D", "fully_convolutional"]
