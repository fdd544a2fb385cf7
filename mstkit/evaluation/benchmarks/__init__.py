"""Published benchmarks as they are handed out: DAVIS-2017, revisited Oxford and Paris, ImageNet-9."""
