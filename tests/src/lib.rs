//! Tests live in `it/`, `sim/`, `interop/` and `chaos/`.
