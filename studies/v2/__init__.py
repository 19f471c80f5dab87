"""Version 2 of the simulator and of the pre-training, before it takes the place of version 1."""
