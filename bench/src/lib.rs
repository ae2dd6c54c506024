//! What was measured, as every benchmark tells it. The measuring itself is in this package's program and in
//! `cargo xtask bench`.

pub mod bars;
pub mod chart;
pub mod figure;
mod svg;
