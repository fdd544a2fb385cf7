"""mstkit's Runner and training loop, and the checks before the first step."""
