//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: cargo run --release -p cluster-quic-peers -- [--quick] [NAME]...

  --quick   shorter and fewer rounds: about a minute, and rougher
  NAME      only cases whose name contains all of these. Names are KIND/SUBJECT/LOAD:
            rate or gossip / cluster-quic, zenoh or tonic / 64B, 1KiB, 64KiB, 1MiB or idle";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// About how long a round of tells is to take.
    pub(crate) round: Duration,
    /// About how long a round of tells with gossip beside them is to take.
    pub(crate) gossip_round: Duration,
    names: Vec<String>,
}

impl Options {
    /// `None` if help was asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            rounds: 5,
            round: Duration::from_millis(1200),
            gossip_round: Duration::from_secs(3),
            names: Vec::new(),
        };
        for argument in arguments {
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => {
                    options.rounds = 3;
                    options.round = Duration::from_millis(300);
                    options.gossip_round = Duration::from_secs(1);
                }
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
