//! Certificates of a cluster in simulated time: real QUIC and TLS over a network in memory, a wall clock
//! that the tests turn, and the runtime's paused clock.
//!
//! `change`: from one CA to another, node after node, under load. `revoked`: a CA is taken out of the bundle.
//! `expiry`: warnings, and what happens after. Each test prints its figures (`-- --nocapture`).

#[path = "../simulated/network.rs"]
#[allow(dead_code)] // It has faults that other tests use.
mod network;

mod change;
mod expiry;
mod revoked;
mod world;
