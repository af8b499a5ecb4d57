//! The modules of `tidegate::logic` that decode foreign bytes, and what they name.

#[path = "../../src/logic/close_reason.rs"]
pub mod close_reason;
#[path = "../../src/logic/mqtt/mod.rs"]
pub mod mqtt;
#[path = "../../src/logic/proxy_protocol/mod.rs"]
pub mod proxy_protocol;
#[path = "../../src/logic/reader.rs"]
pub mod reader;
