//! One client connection from accept to close.

mod settings;

pub use settings::Settings;
