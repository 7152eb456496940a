"""torchvision's detectors as they were recorded, and ours with the same weights.

`detection_*.npz` beside this module hold what torchvision 0.28 computed;
`make_detection_values.py` says how. Their weights are drawn by name and seed.
"""
