"""Training by several processes: the ranks of MPI share each minibatch and add up their gradients."""
