"""The derivation: forward, cost and backward, and the rules that use the gradient."""
