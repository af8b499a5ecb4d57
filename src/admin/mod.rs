//! The admin API: health, metrics, JSON, on a thread and a runtime of its own, so that it answers while the data path
//! is saturated.

mod settings;

pub use settings::Settings;
