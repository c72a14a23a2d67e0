//! One node that sends to many, one target path at each: the rates of all together.

use std::sync::Arc;

use cluster_quic::DevCa;

use crate::measure::{self, Case, Subject, any_wanted};
use crate::options::Options;
use crate::report::Report;
use crate::{Error, atomr, ours};

const PAYLOADS: [usize; 3] = [64, 1024, 64 * 1024];
const PEERS: [usize; 3] = [1, 4, 32];
const QUIC: [&str; 3] = ["quic-1-peer", "quic-4-peers", "quic-32-peers"];
const TCP: [&str; 3] = ["tcp-1-peer", "tcp-4-peers", "tcp-32-peers"];

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    if !any_wanted(options, &[QUIC, TCP].concat(), &PAYLOADS) {
        return Ok(());
    }
    let ca = DevCa::new("throughput")?;
    let mut cases = Vec::new();
    for ((quic, tcp), peers) in QUIC.into_iter().zip(TCP).zip(PEERS) {
        let subject: Arc<dyn Subject> =
            Arc::new(ours::quic_peers(&ca, ours::config()?, peers).await?);
        let case = Case::new(quic, subject).targets(peers).ours();
        cases.push(case.against("1 peer", QUIC[0]).against("tcp", tcp));
        let case = Case::new(tcp, Arc::new(atomr::Tcp::new(peers).await?)).targets(peers);
        cases.push(case.against("1 peer", TCP[0]));
    }
    for payload in PAYLOADS {
        measure::interleaved(&cases, payload, options, report).await?;
    }
    report.end_group("peers: one node sends to many, all together");
    Ok(())
}
