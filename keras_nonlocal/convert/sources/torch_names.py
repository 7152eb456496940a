"""What PyTorch calls the weights of its layers, wherever they are used."""

BN = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
DENSE = {"weight": "kernel", "bias": "bias"}
TRACKED = r".*\bnum_batches_tracked"  # counts steps, for momentum=None
