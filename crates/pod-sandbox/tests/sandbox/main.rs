//! Sandboxes on the real kernel, as root: in network namespaces that the tests make, with nothing left behind.

mod faults;
mod pods;
mod world;
