"""What an export carries with it: `vaegan_torch.py` is copied beside the weights, and is never imported by this program."""
