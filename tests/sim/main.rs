//! A tier in virtual time: the `logic` code of several instances, joined by a modelled network, with modelled
//! endpoints and clients. Seeded and deterministic; no sockets, no threads, no clock.
//!
//! What is real: `Picker`, `PoolState`, `MemberTable`, `PushSchedule`, records and drains. What is modelled, because
//! it is no logic of ours: the network (`network`), the failure detector and anti-entropy of the gossip library
//! (`gossip`), endpoints and clients (`clients`).
//!
//! Reading order: `world` (the event loop), `instance` (one process), `clients`, `faults`, `invariants`; then
//! `scenarios` (the acceptance numbers of the design) and `fuzz` (random faults).
//!
//! `TIDEGATE_SIM_SEED=17 cargo test --test sim fuzz` replays one seed, `TIDEGATE_SIM_SEEDS=5000` runs more of them.
//! `scripts/sim.sh` runs everything in full size and prints the figures.

mod clients;
mod clock;
mod faults;
mod fuzz;
mod gossip;
mod instance;
mod invariants;
mod network;
mod queue;
mod scenarios;
mod watch;
mod world;
