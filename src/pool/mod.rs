//! A pool: named set of endpoints, the actor that judges them and the picker that chooses among them.

mod settings;

pub use settings::{Affinity, OutlierSettings, Policy, ProxyProtocol, Settings};

mod stub;
pub use stub::*;
