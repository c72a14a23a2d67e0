//! The low-delay controller as quinn wants it, and a count of acknowledgements beside any controller.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use crate::congestion::LowDelay;

#[derive(Debug)]
pub(super) struct LowDelayFactory;

/// Bytes that were received on a connection.
pub(super) type Received = Arc<AtomicU64>;

impl ControllerFactory for LowDelayFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let control = LowDelay::new(now, current_mtu);
        Box::new(Adapter { control, received: Arc::default() })
    }
}

struct Adapter {
    control: LowDelay,
    /// Shared by clones; quinn builds a controller for each path, and tells it of no connection.
    received: Arc<OnceLock<Received>>,
}

impl Controller for Adapter {
    fn on_ack(&mut self, _: Instant, sent: Instant, bytes: u64, _: bool, _: &RttEstimator) {
        self.control.acked(sent, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        if let Some(received) = self.received.get() {
            self.control.received(now, received.load(Ordering::Relaxed));
        }
        self.control.end_acks(now, in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.control.lost(now, sent, lost, persistent);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.control.set_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.control.window()
    }

    fn initial_window(&self) -> u64 {
        self.control.initial_window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { control: self.control.clone(), received: Arc::clone(&self.received) })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Counts acknowledged packets, which quinn's statistics do not, beside a controller.
pub(super) struct CountingFactory(pub(super) Arc<dyn ControllerFactory + Send + Sync>);

impl ControllerFactory for CountingFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Counting { inner, acknowledged: 0 })
    }
}

/// Packets acknowledged on the path whose controller this is, which from now on also hears how much is
/// received.
pub(super) fn acknowledged(controller: Box<dyn Controller>, received: &Received) -> u64 {
    let Ok(counting) = controller.into_any().downcast::<Counting>() else { return 0 };
    if let Ok(adapter) = counting.inner.into_any().downcast::<Adapter>() {
        let _ = adapter.received.set(Arc::clone(received));
    }
    counting.acknowledged
}

struct Counting {
    inner: Box<dyn Controller>,
    acknowledged: u64,
}

impl Controller for Counting {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acknowledged += 1;
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.inner.on_congestion_event(now, sent, persistent, lost);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), acknowledged: self.acknowledged })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
