//! The `wasi:http` 0.3 test guests, one file each under `examples/`.
