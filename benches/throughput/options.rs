//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: cargo bench --bench throughput -- [--quick] [lanes] [NAME]...

  --quick   shorter and fewer rounds: under a minute, and rougher
  lanes     instead of all cases: tell_lanes from 1 to 16, with the delay of small tells
  NAME      only cases whose name contains it, such as quic, tcp, quinn, 64B, 1KiB, 64KiB";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) lanes: bool,
    pub(crate) rounds: usize,
    /// About how long a round is to take.
    pub(crate) round: Duration,
    names: Vec<String>,
}

impl Options {
    /// `None` if help was asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options =
            Self { lanes: false, rounds: 5, round: Duration::from_millis(1200), names: Vec::new() };
        for argument in arguments {
            match argument.as_str() {
                // cargo passes it.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                "--quick" => (options.rounds, options.round) = (3, Duration::from_millis(300)),
                "lanes" => options.lanes = true,
                name if !name.starts_with('-') => options.names.push(argument),
                _ => return Err(format!("there is no option {argument}")),
            }
        }
        Ok(Some(options))
    }

    /// Whether a case of this name is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.iter().all(|filter| name.contains(filter.as_str()))
    }
}
