"""How numbers are computed: networks as functions, products of derivatives, compilers and CUDA graphs."""
