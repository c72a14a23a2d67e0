//! Tasks that share one `Peer`, each with a target path of its own.

use std::sync::Arc;

use cluster_quic::DevCa;

use crate::measure::{self, Case, Subject, any_wanted};
use crate::options::Options;
use crate::report::Report;
use crate::{Error, ours};

const PAYLOADS: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];
const CASES: [&str; 3] = ["quic-1-sender", "quic-1-sender-8-targets", "quic-8-senders"];

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    if !any_wanted(options, &CASES, &PAYLOADS) {
        return Ok(());
    }
    let ca = DevCa::new("throughput")?;
    let quic: Arc<dyn Subject> = Arc::new(ours::quic(&ca, ours::config()?).await?);
    let [one, targets, eight] = CASES;
    let case = |name| Case::new(name, Arc::clone(&quic)).ours().against("1 sender", one);
    let cases = [case(one), case(targets).targets(8), case(eight).targets(8).senders(8)];
    for payload in PAYLOADS {
        measure::interleaved(&cases, payload, options, report).await?;
    }
    report.end_group("senders: tasks that share one peer");
    Ok(())
}
