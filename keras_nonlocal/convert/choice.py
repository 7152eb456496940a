"""Which network to build: what the file tells, what was asked for, and the rest."""

from keras_nonlocal.convert.convention import stem_of
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.models.conventions import CONVENTIONS
from keras_nonlocal.models.placement import STAGES, place
from keras_nonlocal.models.resnet import DEPTHS

# No name tells these apart.
_EMBEDDED = ("embedded_gaussian", "dot_product")


def choose(facts, asked, skip_head=False):
    """Completes what a file tells of its network.

    What is asked for overrides nothing that the file tells: it confirms it, or is
    an error.

    Args:
        facts: Arguments of C2D and I3D that the file tells, and `"model"`: see
            `infer`.
        asked: The same as the user wants them, and `"mode"`.
        skip_head: The classifier will not be loaded.

    Returns:
        `(arguments, notes)`: `"model"` with all arguments of its builder, and lines
        on what was assumed.

    Raises:
        CheckpointError: What is asked for contradicts the file, or does not suffice.

    Example:
    >>> facts = {"model": "c2d", "depth": 50, "width": 64, "num_classes": 400}
    >>> facts |= {"non_local": {}, "convention": "video_nonlocal_net"}
    >>> arguments, notes = choose(facts, {"depth": 50})
    >>> notes
    ("stem='8x8' is assumed: the weights do not tell",)
    """
    is_image = "model" not in facts
    asked = {name: value for name, value in asked.items() if value is not None}
    chosen = {
        "model": _choose_model(facts, asked),
        "depth": _agree("depth", facts, asked),
        "width": facts["width"],
        "num_classes": _choose_classes(facts, asked, is_image or skip_head),
        "non_local": _choose_blocks(facts, asked) or None,
    }
    if "stride_in_1x1" in facts:
        chosen["stride_in_1x1"] = facts["stride_in_1x1"]
    notes = []
    _choose_convention(chosen, facts, asked, notes)
    _choose_kernel(chosen, facts, asked)
    _choose_mode(chosen, facts, asked, notes)
    _choose_stem(chosen, facts, asked, notes)
    _drop_usual_options(chosen)
    _note_new_blocks(chosen, facts, notes)
    return chosen, tuple(notes)


def _agree(name, facts, asked, default=None):
    """The value that the file and the user agree on."""
    told, wanted = facts.get(name), asked.get(name)
    if None not in (told, wanted) and told != wanted:
        raise _contradiction(name, told, wanted)
    return next((x for x in (told, wanted) if x is not None), default)


def _contradiction(name, told, wanted, advice="leave it out, or take another file"):
    return CheckpointError(
        f"The file has {name}={told!r}, and {name}={wanted!r} was asked for: {advice}."
    )


def _choose_model(facts, asked):
    model = _agree("model", facts, asked)
    if model is None:
        raise CheckpointError(
            "The file holds a network for images, which can be inflated to either: "
            "choose the model, 'c2d' or 'i3d'."
        )
    return model


def _choose_classes(facts, asked, is_free):
    """Any number where the classifier starts anew."""
    told, wanted = facts.get("num_classes"), asked.get("num_classes")
    if told is None and wanted is None:
        raise CheckpointError(
            "The file has no classifier: choose num_classes, of a new one."
        )
    if None not in (told, wanted) and told != wanted and not is_free:
        advice = "leave it out, or start the classifier anew with skip_head"
        raise _contradiction("num_classes", told, wanted, advice)
    return wanted or told


def _choose_blocks(facts, asked):
    """Where blocks are; those asked for of a network without are new."""
    num_blocks = dict(zip(STAGES, DEPTHS[facts["depth"]], strict=True))
    told, wanted = facts["non_local"], asked.get("non_local")
    if wanted is None:
        return told
    wanted = {
        stage: list(blocks)
        for stage, blocks in place(wanted, num_blocks).items()
        if blocks
    }
    if told and told != wanted:
        raise _contradiction("non_local", told, wanted)
    return wanted


def _choose_convention(chosen, facts, asked, notes):
    fitting, wanted = facts.get("conventions", ()), asked.get("convention")
    if fitting and wanted not in (None, *fitting):
        raise _contradiction("convention", " or ".join(fitting), wanted)
    told = {"convention": fitting[0]} if len(fitting) == 1 else facts
    chosen["convention"] = _agree("convention", told, asked)
    if chosen["convention"] is None:
        chosen["convention"] = next(iter(fitting), "video_nonlocal_net")
        notes.append(_assumed("convention", chosen["convention"]))


def _choose_kernel(chosen, facts, asked):
    """The temporal kernel, which I3D alone has."""
    if chosen["model"] == "i3d":
        kernel = _agree("temporal_kernel", facts, asked, "3x1x1")
        chosen["temporal_kernel"] = kernel
    elif "temporal_kernel" in asked:
        raise CheckpointError("C2D has no temporal kernels to choose from.")


def _choose_mode(chosen, facts, asked, notes):
    options = chosen["non_local_options"] = dict(facts.get("non_local_options", {}))
    wanted = asked.get("mode")
    told = options.get("mode")
    if not chosen["non_local"]:
        if wanted is not None:
            raise CheckpointError(
                f"mode={wanted!r} was asked for, of no non-local block: the file has "
                "none. Choose non_local to add new ones."
            )
    elif told is not None or (facts["non_local"] and wanted not in (None, *_EMBEDDED)):
        _agree("mode", {"mode": told or " or ".join(_EMBEDDED)}, asked)
    elif wanted is not None:
        options["mode"] = wanted
    elif facts["non_local"]:
        notes.append(_assumed("mode", _EMBEDDED[0]))


def _drop_usual_options(chosen):
    """Leaves what departs from the convention."""
    usual = {"mode": _EMBEDDED[0], "normalization": "batch"}
    usual |= {"scope": "spacetime", "group_size": None}
    usual |= CONVENTIONS[chosen["convention"]].non_local_options
    options = chosen["non_local_options"]
    chosen["non_local_options"] = {
        name: value for name, value in options.items() if value != usual.get(name, ())
    }


def _choose_stem(chosen, facts, asked, notes):
    """What the file says of itself, or that of all the project's I3D or C2D."""
    usual = stem_of(chosen["convention"], chosen["model"])
    told = {"stem": usual} if usual and "convention" in facts else {}
    chosen["stem"] = _agree("stem", told | facts, asked)
    if chosen["stem"] is None:
        chosen["stem"] = usual or "8x8"
        notes.append(_assumed("stem", chosen["stem"]))


def _assumed(name, value):
    return f"{name}={value!r} is assumed: the weights do not tell"


def _note_new_blocks(chosen, facts, notes):
    if chosen["non_local"] and not facts["non_local"]:
        notes.append(
            f"the non-local blocks after {chosen['non_local']} are new: they change "
            "nothing until they are trained"
        )
