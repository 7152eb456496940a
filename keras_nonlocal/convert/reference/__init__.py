"""What the projects' own networks compute, in plain NumPy by their own names.

Written from their published code, and on purpose without the tables and the models
that convert their weights: the two check one another.
"""

from keras_nonlocal.convert.reference.details import details_of
from keras_nonlocal.convert.reference.names import NAMES
from keras_nonlocal.convert.reference.network import Network

__all__ = ["NAMES", "Network", "details_of"]
