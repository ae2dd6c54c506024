//! `fairlead pod`, as a user runs it: real containers in a network namespace of each test, and nothing left behind.

mod course;
mod images;
mod inside;
mod limits;
mod network;
mod probes;
mod refusals;
mod registry;
mod survival;
mod users;
mod world;
