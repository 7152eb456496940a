"""AlexHex7/Non-local_pytorch: single non-local blocks, for a layer of ours."""

from keras_nonlocal.convert.sources.names import BN, DENSE, TRACKED
from keras_nonlocal.convert.sources.source import Source


def _block_options(state, _):
    """With sub-sampling g and its pooling are a pair: `g.0` and `g.1`."""
    return {"sub_sample": any(name.startswith("g.0.") for name in state)}


SOURCE = Source(
    name="alexhex7",
    convention="paper",
    names={
        "{one}.{w}": "{one}/{w}",
        "W.1.{bn}": "norm/{bn}",
        "concat_project.0.weight": "concat_projection/kernel",
    },
    fields={
        "one": {
            "theta": "theta",
            "phi": "phi",
            "phi.0": "phi",  # followed by sub-sampling
            "g": "g",
            "g.0": "g",
            "W": "w_z",
            "W.0": "w_z",  # followed by batch normalisation
        },
        "bn": BN,
        "w": DENSE,
    },
    ignored=(TRACKED,),
    block_options=_block_options,
)
