"""Detection with Mask R-CNN and Keypoint R-CNN: the trainers of the paper's Sec. 6."""
