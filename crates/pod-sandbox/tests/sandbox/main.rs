//! Sandboxes on the real kernel, as root: in network namespaces that the tests make, with nothing left behind.

mod after;
mod cni;
mod faults;
mod one_tree;
mod pods;
mod ports;
mod world;
