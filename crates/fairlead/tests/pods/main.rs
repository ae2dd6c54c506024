//! `fairlead pod`, as a user runs it: real containers in a network namespace of each test, and nothing left behind.

mod course;
mod inside;
mod refusals;
mod survival;
mod world;
