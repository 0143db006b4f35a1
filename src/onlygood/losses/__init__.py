"""Functions from tensors to one number per image; callers reduce over the batch."""
