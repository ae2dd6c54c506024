//! `fairlead up`, as a user runs it: a directory on a node of its own, a network namespace, and nothing left behind.

mod guestbook;
mod refusals;
mod world;
