"""The recurrent cells: gates, state and learning rate of each, and its equations in numpy and PyTorch."""
