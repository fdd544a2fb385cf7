"""Published benchmarks in their official file layouts: DAVIS-2017, revisited Oxford and Paris, ImageNet-9."""
