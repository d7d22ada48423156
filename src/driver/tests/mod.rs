//! The driver over the memory store, a model of the server, and virtual time.

mod faults;
mod promises;
mod random;
mod rig;
mod writes;
