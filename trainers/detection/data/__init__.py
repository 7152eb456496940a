"""From annotated images to batches of Mask R-CNN and Keypoint R-CNN."""
