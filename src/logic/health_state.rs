//! Stub.
/// x
pub struct Thresholds { /// x
 pub rise: u32, /// x
 pub fall: u32 }
