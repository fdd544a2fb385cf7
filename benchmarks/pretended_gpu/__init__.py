"""A GPU on paper: what a step would launch on it, wait for and copy, without having one."""
