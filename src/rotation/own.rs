//! Warns of the node's own certificate.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::Warnings;
use crate::event::{CertificateOf, Event};
use crate::node::{Node, Phase};
use crate::tls::iso_utc;

/// How often it is looked at. The clock that it is held against may be set.
const EVERY: Duration = Duration::from_secs(1);

/// Warns until the node closes.
pub(crate) async fn warn_of_own(node: Arc<Node>) {
    let mut phase = node.phase.subscribe();
    let watch = async {
        let mut warnings = Warnings::default();
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(identity) = node.identities.present() else { return };
            warnings.watch(Some(identity.certificate()));
            let now = node.config.wall_clock.now();
            if let Some(at) = warnings.due(now, node.config.expiry_warning) {
                let (until, expired) = (iso_utc(at), at <= now);
                let certificate = identity.fingerprint();
                warn!(%certificate, %until, expired, "this node's certificate expires: renew it");
                node.emit(Event::CertificateExpiring { whose: CertificateOf::ThisNode, at });
            }
        }
    };
    tokio::select! {
        () = watch => {}
        _ = phase.wait_for(|phase| matches!(phase, Phase::Closing { .. })) => {}
    }
}
