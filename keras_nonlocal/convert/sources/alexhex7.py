"""AlexHex7/Non-local_pytorch: single non-local blocks, for a layer of ours."""

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
            **dict.fromkeys(["phi", "phi.0"], "phi"),  # .0: followed by sub-sampling
            **dict.fromkeys(["g", "g.0"], "g"),
            **dict.fromkeys(["W", "W.0"], "w_z"),  # .0: by batch normalisation
        }
    },
    block_options=_block_options,
)
