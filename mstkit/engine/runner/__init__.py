"""mstkit's Runner and loop, and what is checked before the first step."""
