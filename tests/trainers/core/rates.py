"""Learning rates that several tests train with."""

from trainers.core.config_definitions import OptimizationConfig


def stepwise():
    config = OptimizationConfig()
    config.learning_rate.type = "stepwise"
    config.learning_rate.stepwise.boundaries = [1]  # the last step at the old rate
    config.learning_rate.stepwise.values = [0.1, 0.01]
    return config
