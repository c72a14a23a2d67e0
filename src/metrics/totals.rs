//! What is shown of all peers: by peer or together, and never less than before, though peers are forgotten
//! and come back with sums that begin anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::samples::{Counters, Gauges, Samples, Series, fold_in};
use crate::address::Address;

/// Whose a series is, as its `peer` label says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Whose {
    /// The node's, or all peers': no such label.
    All,
    /// One peer's.
    Peer(String),
    /// That of all peers who have no label of their own.
    Other,
}

/// One peer at one moment.
pub(super) struct Seen {
    pub(super) address: Address,
    /// Tells one knowledge of the peer from the next.
    pub(super) session: u64,
    pub(super) samples: Samples,
}

/// The values to be shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) counters: BTreeMap<(Whose, Series), u64>,
    pub(super) gauges: BTreeMap<(Whose, Series), f64>,
}

#[derive(Debug)]
pub(super) struct Totals {
    /// Peers that get a label of their own, over all time; `None`: peers are not told apart.
    labels: Option<usize>,
    known: HashMap<Address, Known>,
    /// Those of them who have a label: for good, since whoever collects keeps it for good.
    labelled: HashSet<Address>,
    /// Sums of peers that are known no more.
    gone: BTreeMap<Whose, Counters>,
    /// Gauges shown last time.
    gauges: BTreeSet<(Whose, Series)>,
}

#[derive(Debug)]
struct Known {
    whose: Whose,
    session: u64,
    counters: Counters,
}

impl Totals {
    pub(super) fn new(labels: Option<usize>) -> Self {
        Self {
            labels,
            known: HashMap::new(),
            labelled: HashSet::new(),
            gone: BTreeMap::new(),
            gauges: BTreeSet::new(),
        }
    }

    /// Takes note of all peers that are known now, and says what to show. What has gone is shown once more,
    /// gauges as 0, and then not until it comes back.
    pub(super) fn update(&mut self, peers: Vec<Seen>, node: Samples) -> Shown {
        let mut gauges: BTreeMap<Whose, Gauges> = BTreeMap::new();
        let mut now = HashSet::new();
        for Seen { address, session, samples } in peers {
            let whose = self.whose(&address);
            let of_whom = gauges.entry(whose.clone()).or_default();
            samples.gauges.into_iter().for_each(|(series, value)| fold_in(of_whom, series, value));
            now.insert(address.clone());
            let known = Known { whose, session, counters: samples.counters };
            let before = self.known.insert(address, known);
            if let Some(before) = before.filter(|before| before.session != session) {
                self.let_go(before);
            }
        }
        let forgotten: Vec<_> = self.known.extract_if(|peer, _| !now.contains(peer)).collect();
        let known = self.known.values().map(|known| &known.whose);
        let present = known.chain(forgotten.iter().map(|(_, known)| &known.whose)).cloned();
        let present: HashSet<_> = present.chain([Whose::All, Whose::Other]).collect();
        forgotten.into_iter().for_each(|(_, known)| self.let_go(known));

        gauges.entry(Whose::All).or_default().extend(node.gauges);
        let mut shown = Shown::default();
        let by_known = self.known.values().map(|known| (&known.whose, &known.counters));
        let gone = self.gone.iter().filter(|(whose, _)| present.contains(whose));
        for (whose, counters) in gone.chain(by_known) {
            for (series, value) in counters {
                *shown.counters.entry((whose.clone(), *series)).or_default() += value;
            }
        }
        for (series, value) in node.counters {
            shown.counters.insert((Whose::All, series), value);
        }
        for (whose, gauges) in gauges {
            let mine = |(series, value)| ((whose.clone(), series), value);
            shown.gauges.extend(gauges.into_iter().map(mine));
        }
        let present = shown.gauges.keys().cloned().collect();
        for key in std::mem::replace(&mut self.gauges, present) {
            shown.gauges.entry(key).or_insert(0.0);
        }
        shown
    }

    fn whose(&mut self, peer: &Address) -> Whose {
        let Some(labels) = self.labels else { return Whose::All };
        if !self.labelled.contains(peer) {
            if self.labelled.len() >= labels {
                return Whose::Other;
            }
            self.labelled.insert(peer.clone());
        }
        Whose::Peer(peer.to_string())
    }

    fn let_go(&mut self, known: Known) {
        let gone = self.gone.entry(known.whose).or_default();
        for (series, value) in known.counters {
            *gone.entry(series).or_default() += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::{self as t, Metric};

    fn series(metric: &'static Metric) -> Series {
        Series { metric, lane: None, word: None }
    }

    /// A peer with so many associations so far, and so many tells queued.
    fn seen(port: u16, session: u64, count: u64, queued: f64) -> Seen {
        let address = Address::new("sys", "h", port).unwrap();
        let mut samples = Samples::default();
        samples.counters.insert(series(&t::ASSOCIATIONS), count);
        samples.gauges.insert(series(&t::QUEUED), queued);
        samples.gauges.insert(series(&t::RTT), queued);
        samples.gauges.insert(series(&t::MTU), queued);
        Seen { address, session, samples }
    }

    type Labelled<T> = Vec<(Whose, T)>;

    /// Counters, and the gauge of what is queued.
    fn update(totals: &mut Totals, peers: Vec<Seen>) -> (Labelled<u64>, Labelled<f64>) {
        let shown = totals.update(peers, Samples::default());
        let counters = shown.counters.into_iter().map(|((whose, _), value)| (whose, value));
        let queued = shown.gauges.into_iter().filter(|((_, s), _)| *s == series(&t::QUEUED));
        (counters.collect(), queued.map(|((whose, _), value)| (whose, value)).collect())
    }

    fn peer(port: u16) -> Whose {
        Whose::Peer(Address::new("sys", "h", port).unwrap().to_string())
    }

    #[test]
    fn a_peer_that_is_forgotten_and_comes_back_goes_on_where_it_was() {
        let mut totals = Totals::new(Some(10));
        let (counters, _) = update(&mut totals, vec![seen(1, 7, 5, 1.0), seen(2, 8, 3, 2.0)]);
        assert_eq!(counters, [(peer(1), 5), (peer(2), 3)]);
        let (counters, gauges) = update(&mut totals, vec![seen(2, 8, 4, 2.0)]);
        assert_eq!(counters, [(peer(1), 5), (peer(2), 4)]);
        assert_eq!(gauges, [(peer(1), 0.0), (peer(2), 2.0)], "the last that is shown of it");
        let (counters, gauges) = update(&mut totals, vec![seen(2, 8, 4, 2.0)]);
        assert_eq!(gauges, [(peer(2), 2.0)], "and then nothing");
        assert_eq!(counters, [(peer(2), 4)]);
        let (counters, gauges) = update(&mut totals, vec![seen(1, 9, 2, 6.0), seen(2, 8, 4, 2.0)]);
        assert_eq!(counters, [(peer(1), 7), (peer(2), 4)]);
        assert_eq!(gauges, [(peer(1), 6.0), (peer(2), 2.0)]);
        // Forgotten and back between two reports.
        let (counters, _) = update(&mut totals, vec![seen(1, 10, 1, 0.0), seen(2, 8, 4, 2.0)]);
        assert_eq!(counters, [(peer(1), 8), (peer(2), 4)]);
    }

    #[test]
    fn all_peers_together_lose_nothing_when_one_goes() {
        let mut totals = Totals::new(None);
        let peers = || vec![seen(1, 7, 5, 1.0), seen(2, 8, 3, 2.0)];
        assert_eq!(update(&mut totals, peers()), (vec![(Whose::All, 8)], vec![(Whose::All, 3.0)]));
        let left = vec![seen(2, 8, 4, 2.0)];
        assert_eq!(update(&mut totals, left), (vec![(Whose::All, 9)], vec![(Whose::All, 2.0)]));
        assert_eq!(
            update(&mut totals, Vec::new()),
            (vec![(Whose::All, 9)], vec![(Whose::All, 0.0)])
        );
        assert_eq!(update(&mut totals, Vec::new()), (vec![(Whose::All, 9)], vec![]));
    }

    #[test]
    fn no_number_of_peers_makes_more_labels() {
        let mut totals = Totals::new(Some(2));
        // As an exporter keeps it.
        let mut kept = BTreeMap::new();
        let mut of_gauges = BTreeSet::new();
        for n in 0..1_000 {
            let peers =
                vec![seen(1, 0, n, 1.0), seen(2 + n as u16, n, 1, 1.0), seen(5_000, 1, 1, 1.0)];
            let (counters, gauges) = update(&mut totals, peers);
            kept.extend(counters);
            of_gauges.extend(gauges.into_iter().map(|(whose, _)| whose));
            assert_eq!(kept.values().sum::<u64>(), n + (n + 1) + 1, "everybody counts");
        }
        let labels = [peer(1), peer(2), Whose::Other];
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), labels);
        assert_eq!(of_gauges.into_iter().collect::<Vec<_>>(), labels);
        assert_eq!(totals.known.len(), 3);
    }

    #[test]
    fn some_gauges_are_no_sums() {
        let mut totals = Totals::new(None);
        let shown = totals.update(vec![seen(1, 7, 5, 1.0), seen(2, 8, 3, 2.0)], Samples::default());
        let gauge = |metric| shown.gauges[&(Whose::All, series(metric))];
        assert_eq!([gauge(&t::QUEUED), gauge(&t::RTT), gauge(&t::MTU)], [3.0, 2.0, 1.0]);
    }
}
