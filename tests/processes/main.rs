//! Nodes in processes of their own, that are killed, stopped, flooded and drained; and crowds of them.
//! What each test measured is printed (`--nocapture`).
#![cfg(target_os = "linux")]

mod child;
mod crowd;
mod drain;
mod flood;
mod killed;
mod ledger;
mod message;
mod setup;
mod spoofed;
mod stopped;

/// Tells how much is allocated; what is resident also holds what the allocator keeps.
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
