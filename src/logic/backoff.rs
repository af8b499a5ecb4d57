//! Stub.
#![allow(missing_docs)]
use std::time::Duration;
pub struct Backoff;
impl Backoff { pub fn new(a: Duration, b: Duration) -> Self { Self } pub fn next(&mut self, r: &mut fastrand::Rng) -> Duration { Duration::ZERO } pub fn reset(&mut self) {} }
