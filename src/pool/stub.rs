//! Stub.
#![allow(missing_docs, unused_variables)]
use super::settings::Settings;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::*;
use crate::logic::snapshot::*;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
#[derive(Debug)]
pub struct Pool;
#[derive(Debug)]
pub struct Slot;
pub struct PickRequest<'a> { pub excluded: &'a [EndpointId], pub source: std::net::IpAddr, pub route_key: Option<&'a [u8]> }
#[derive(Debug)]
pub enum PickError { NoEndpoint }
pub struct PickReason;
impl PickReason { pub fn label(self) -> &'static str { "" } }
pub struct EndpointReport { pub view: EndpointView, pub established: u64, pub pending: u64, pub cluster: u64, pub picks_total: u64, pub failures_total: [u64; 7], pub ejections_total: u64 }
impl Pool {
  pub fn spawn(settings: Settings, t: crate::logic::health_state::Thresholds, recheck: mpsc::Sender<EndpointId>, seed: u64, tracker: &tokio_util::task::TaskTracker, cancel: &tokio_util::sync::CancellationToken) -> Arc<Self> { unimplemented!() }
  pub fn name(&self) -> &str { "" }
  pub fn settings(&self) -> Arc<Settings> { unimplemented!() }
  pub fn events(&self) -> mpsc::Sender<PoolEvent> { unimplemented!() }
  pub fn snapshot(&self) -> watch::Receiver<Arc<PoolSnapshot>> { unimplemented!() }
  pub async fn pick_until(self: &Arc<Self>, r: &PickRequest<'_>, d: tokio::time::Instant) -> Result<Slot, PickError> { unimplemented!() }
  pub fn report(&self) -> Vec<EndpointReport> { vec![] }
}
impl Slot { pub fn endpoint(&self) -> EndpointId { unimplemented!() } pub fn why(&self) -> PickReason { PickReason } pub fn established(&mut self) {} pub fn failed(self, f: ConnectFailure) {} }
#[derive(Debug)]
pub struct Collector;
impl Collector { pub fn new(p: Vec<Arc<Pool>>) -> Self { Self } }
impl prometheus_client::collector::Collector for Collector { fn encode(&self, _: prometheus_client::encoding::DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> { Ok(()) } }
