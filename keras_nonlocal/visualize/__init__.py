"""Attention of non-local blocks, drawn over the frames (paper, Fig. 3).

maps = attention_maps(model, clips, "res3_1_nonlocal")
query = maps.queries.nearest(3, 40, 60)  # frame 3, row 40, column 60
keys, weights = top_connections(maps.scores[0], query)
figure = draw_arrows(
    clip, maps.queries.centres[query], maps.keys.centres[keys], weights
)
figure.savefig("attention.png")
"""

from keras_nonlocal.visualize.analysis import (
    QueryIndependence,
    interesting_queries,
    query_independence,
)
from keras_nonlocal.visualize.drawing import (
    draw_arrows,
    draw_heat,
    encode_animation,
    strip_coordinates,
)
from keras_nonlocal.visualize.maps import (
    AttentionMaps,
    attention_maps,
    attention_of_blocks,
    non_local_blocks,
    top_connections,
)
from keras_nonlocal.visualize.page import attention_page

__all__ = [
    "AttentionMaps",
    "QueryIndependence",
    "attention_maps",
    "attention_of_blocks",
    "attention_page",
    "draw_arrows",
    "draw_heat",
    "encode_animation",
    "interesting_queries",
    "non_local_blocks",
    "query_independence",
    "strip_coordinates",
    "top_connections",
]
