//! Tests live in `it/`, `sim/`, `interop/` and `chaos/`; here is what they share.

#[path = "../sim/mod.rs"]
pub mod sim;
