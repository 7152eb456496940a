"""Whether a model computes what the weights were trained for."""


def differences(model, source, state):
    return ()
