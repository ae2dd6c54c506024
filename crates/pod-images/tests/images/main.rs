//! Images of every form into a store and onto a mount. Needs root.

mod refused;
mod registry;
mod shown;
mod store;
mod world;
