"""How fast this package is, beside plain PyTorch and its peers; see benchmarks/README.md."""
