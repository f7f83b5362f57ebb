"""Reconstruction: the records behind the messages of federated training."""
