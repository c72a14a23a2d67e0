//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: cargo bench --bench throughput -- [--quick] [GROUP]... [NAME]...

  --quick   shorter and fewer rounds: all groups in under a minute, and rougher
  GROUP     only these groups:
              idle      memory and processor time of 1000 idle associations (200 if quick)
              latency   a single tell on an idle association
              rates     one sender, one peer
              senders   1 and 8 sending tasks
              peers     1, 4 and 32 peers
              lanes     tell_lanes from 1 to 16, with the delay of small tells; only by name
  NAME      only cases whose name contains it, such as quic, tcp, quinn, 64B, 1KiB, 64KiB, 1MiB";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Idle,
    Latency,
    Rates,
    Senders,
    Peers,
    Lanes,
}

impl Group {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "idle" => Self::Idle,
            "latency" => Self::Latency,
            "rates" => Self::Rates,
            "senders" => Self::Senders,
            "peers" => Self::Peers,
            "lanes" => Self::Lanes,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// About how long a round is to take.
    pub(crate) round: Duration,
    groups: Vec<Group>,
    names: Vec<String>,
}

impl Options {
    /// `None` if help was asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let round = Duration::from_millis(900);
        let mut options =
            Self { quick: false, rounds: 5, round, groups: Vec::new(), names: Vec::new() };
        for argument in arguments {
            match argument.as_str() {
                // cargo passes it.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                "--quick" => {
                    options.quick = true;
                    (options.rounds, options.round) = (3, Duration::from_millis(120));
                }
                name if name.starts_with('-') => return Err(format!("there is no option {name}")),
                name => match Group::named(name) {
                    Some(group) => options.groups.push(group),
                    None => options.names.push(argument),
                },
            }
        }
        Ok(Some(options))
    }

    /// Whether a group is to run.
    pub(crate) fn runs(&self, group: Group) -> bool {
        match self.groups.as_slice() {
            [] => group != Group::Lanes,
            groups => groups.contains(&group),
        }
    }

    /// Whether a case of this name is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.iter().all(|filter| name.contains(filter.as_str()))
    }
}
