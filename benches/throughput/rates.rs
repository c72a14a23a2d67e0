//! One sender, one peer: this crate's backends against what there is otherwise.

use std::sync::Arc;

use cluster_quic::DevCa;

use crate::measure::{self, Case, Subject, any_wanted};
use crate::options::Options;
use crate::report::Report;
use crate::{Error, atomr, bare, ours};

const PAYLOADS: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];
const CASES: [&str; 7] =
    ["quic", "quic-8-targets", "quic-prompt", "tcp", "quinn", "in-process", "atomr-in-process"];

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    if !any_wanted(options, &CASES, &PAYLOADS) {
        return Ok(());
    }
    let ca = DevCa::new("throughput")?;
    let quic: Arc<dyn Subject> = Arc::new(ours::quic(&ca, ours::config()?).await?);
    let [one, targets, prompt, tcp, quinn, in_process, atomr] = CASES;
    let cases = [
        Case::new(one, Arc::clone(&quic)).ours(),
        Case::new(targets, quic).targets(8).ours(),
        Case::new(prompt, Arc::new(ours::quic_prompt(&ca, ours::config()?).await?)).ours(),
        Case::new(tcp, Arc::new(atomr::Tcp::new(1).await?)),
        Case::new(quinn, Arc::new(bare::Bare::new(&ca).await?)),
        Case::new(in_process, Arc::new(ours::in_process(ours::config()?).await?))
            .ours()
            .against("atomr", atomr),
        Case::new(atomr, Arc::new(atomr::InProcess::new())),
    ];
    let cases = cases.map(|case| case.against("tcp", tcp).against("quinn", quinn));
    for payload in PAYLOADS {
        measure::interleaved(&cases, payload, options, report).await?;
    }
    report.end_group("rates: one sender, one peer");
    Ok(())
}
