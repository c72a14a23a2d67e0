//! One association, step by step; `model.rs` has two against each other.

mod model;

use super::*;
use crate::address::Incarnation;

fn timing() -> Timing {
    Timing {
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(10),
        stable_after: Duration::from_secs(5),
        reconnect_for: Duration::from_secs(60),
    }
}

fn instance(incarnation: u64) -> Instance {
    Instance { incarnation: Incarnation(incarnation), session: 0 }
}

fn dial(association: &mut Association, now: Instant) -> LinkId {
    match association.handle(now, Input::Wanted)[..] {
        [Output::Dial { link }] => link,
        ref other => panic!("{other:?}"),
    }
}

fn failing(association: &mut Association, now: Instant, error: AssociationError) -> Duration {
    let link = LinkId::Dialled(association.attempt());
    match association.handle(now, Input::DialFailed { link, error })[..] {
        [Output::ReportDialFailed { retry_in, .. }] => retry_in,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn waits_double_up_to_the_limit_with_jitter() {
    let mut association = Association::new(true, timing(), 7);
    let mut now = Instant::now();
    dial(&mut association, now);
    let mut full = Duration::from_millis(100);
    for _ in 0..12 {
        let wait = failing(&mut association, now, AssociationError::TimedOut);
        assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        full = (full * 2).min(Duration::from_secs(10));
        now = association.wake_at().unwrap();
        let outputs = association.handle(now, Input::Timer { pending: true });
        assert!(matches!(outputs[..], [Output::Dial { .. }]));
    }
}

#[test]
fn a_misconfigured_peer_is_not_dialled_in_a_storm() {
    let mut association = Association::new(true, timing(), 7);
    let now = Instant::now();
    dial(&mut association, now);
    let wait = failing(&mut association, now, AssociationError::Cluster("other".into()));
    assert!(wait >= timing().backoff_max / 2);
}

#[test]
fn flapping_backs_off_and_a_stable_association_forgets_it() {
    let mut association = Association::new(false, timing(), 7);
    let mut now = Instant::now();
    let mut waits = Vec::new();
    for n in 1..=6 {
        let link = LinkId::Accepted(n);
        association.handle(now, Input::Incoming { link, instance: instance(1), attempt: n });
        now += Duration::from_secs(1);
        association.handle(now, Input::Lost { link, reason: AssociationError::TimedOut });
        waits.push(association.wake_at().unwrap() - now);
    }
    assert!(waits[5] > waits[0] * 8, "{waits:?}");
    let link = LinkId::Accepted(7);
    association.handle(now, Input::Incoming { link, instance: instance(1), attempt: 7 });
    now += Duration::from_secs(6);
    association.handle(now, Input::Lost { link, reason: AssociationError::TimedOut });
    assert!(association.wake_at().unwrap() - now <= timing().backoff_min);
}

#[test]
fn a_lost_peer_is_dialled_for_a_while_and_then_left() {
    let mut association = Association::new(false, timing(), 7);
    let mut now = Instant::now();
    let link = LinkId::Accepted(1);
    association.handle(now, Input::Incoming { link, instance: instance(1), attempt: 1 });
    association.handle(now, Input::Lost { link, reason: AssociationError::TimedOut });
    let end = now + timing().reconnect_for;
    let mut dials = 0;
    while let Some(at) = association.wake_at() {
        now = at;
        let outputs = association.handle(now, Input::Timer { pending: false });
        if outputs.is_empty() {
            break;
        }
        dials += 1;
        failing(&mut association, now, AssociationError::TimedOut);
    }
    assert!(now >= end && association.is_idle() && dials > 5, "{dials}");
}

#[test]
fn a_peer_that_left_is_not_dialled() {
    let mut association = Association::new(false, timing(), 7);
    let now = Instant::now();
    let link = LinkId::Accepted(1);
    association.handle(now, Input::Incoming { link, instance: instance(1), attempt: 1 });
    association.handle(now, Input::Lost { link, reason: AssociationError::Goodbye });
    let at = association.wake_at().unwrap();
    assert!(association.handle(at, Input::Timer { pending: false }).is_empty());
    assert!(association.is_idle());
}

#[test]
fn an_older_incarnation_is_refused_and_the_newer_untouched() {
    let mut association = Association::new(false, timing(), 7);
    let now = Instant::now();
    let (new, old) = (LinkId::Accepted(1), LinkId::Accepted(2));
    association.handle(now, Input::Incoming { link: new, instance: instance(5), attempt: 1 });
    let outputs =
        association.handle(now, Input::Incoming { link: old, instance: instance(4), attempt: 9 });
    assert!(matches!(
        outputs[..],
        [
            Output::Close { link: l, reason: AssociationError::Stale { .. } },
            Output::ReportRefused { .. }
        ] if l == old
    ));
    assert_eq!(association.active(), Some(new));
}

#[test]
fn a_parked_connection_is_taken_when_the_preferred_dial_fails() {
    let mut association = Association::new(true, timing(), 7);
    let now = Instant::now();
    let ours = dial(&mut association, now);
    let parked = LinkId::Accepted(1);
    let incoming = Input::Incoming { link: parked, instance: instance(1), attempt: 1 };
    assert_eq!(association.handle(now, incoming), []);
    let failed = Input::DialFailed { link: ours, error: AssociationError::TimedOut };
    let outputs = association.handle(now, failed);
    assert_eq!(outputs, [Output::Activate { link: parked, instance: instance(1) }]);
}

#[test]
fn shutdown_closes_whatever_there_is() {
    let now = Instant::now();
    let mut association = Association::new(true, timing(), 7);
    dial(&mut association, now);
    let incoming =
        |n| Input::Incoming { link: LinkId::Accepted(n), instance: instance(1), attempt: n };
    association.handle(now, incoming(1));
    assert_eq!(association.handle(now, Input::Shutdown).len(), 2);
    let outputs = association.handle(now, incoming(2));
    assert!(matches!(outputs[..], [Output::Close { .. }]), "nobody gets in any more");
}

#[test]
fn a_quarantined_life_is_refused_and_its_next_one_is_not() {
    let now = Instant::now();
    let mut association = Association::new(false, timing(), 7);
    let incoming = |n, life| Input::Incoming {
        link: LinkId::Accepted(n),
        instance: instance(life),
        attempt: n,
    };
    association.handle(now, incoming(1, 5));
    let quarantine = Input::Quarantine { incarnation: Incarnation(5) };
    let outputs = association.handle(now, quarantine.clone());
    let (link, reason) = (LinkId::Accepted(1), AssociationError::Quarantined);
    let ended = [
        Output::Deactivate { link, reason: reason.clone() },
        Output::Close { link, reason: reason.clone() },
    ];
    assert_eq!(outputs, ended);
    assert!(association.is_idle(), "it is not dialled by itself");

    // It comes back as it was, by its own dial and by ours.
    let link = LinkId::Accepted(2);
    let refused = [
        Output::Close { link, reason: reason.clone() },
        Output::ReportRefused { error: reason.clone() },
    ];
    assert_eq!(association.handle(now, incoming(2, 5)), refused);
    let link = dial(&mut association, now);
    let outputs =
        association.handle(now, Input::Greeted { link, instance: instance(5), attempt: 2 });
    let [Output::Close { reason: told, .. }, Output::ReportDialFailed { error, retry_in }] =
        &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((told, error), (&reason, &reason));
    assert!(*retry_in >= timing().backoff_max / 2, "only a restart helps: {retry_in:?}");

    // And as another.
    let outputs = association.handle(now, incoming(3, 6));
    assert_eq!(outputs, [Output::Activate { link: LinkId::Accepted(3), instance: instance(6) }]);
    assert_eq!(association.quarantined(), None);
    // A quarantine that comes too late means the life that is gone.
    assert_eq!(association.handle(now, quarantine), []);
    assert_eq!(association.active(), Some(LinkId::Accepted(3)));
}

#[test]
fn a_renewal_that_fails_leaves_the_old_link_and_comes_again() {
    let now = Instant::now();
    let mut association = Association::new(true, timing(), 7);
    let old = LinkId::Accepted(1);
    association.handle(now, Input::Incoming { link: old, instance: instance(1), attempt: 1 });
    let renew =
        |association: &mut Association, at| association.handle(at, Input::Renew { fresh: false });
    let [Output::Dial { link }] = renew(&mut association, now)[..] else { panic!("no dial") };
    assert_eq!(association.active(), Some(old), "lanes flow meanwhile");
    assert_eq!(renew(&mut association, now), [], "one at a time");
    let failed = Input::DialFailed { link, error: AssociationError::TimedOut };
    let outputs = association.handle(now, failed);
    let [Output::ReportDialFailed { retry_in, .. }] = outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(association.active(), Some(old));
    assert_eq!(renew(&mut association, now), [], "not before its time");
    let [Output::Dial { link }] = renew(&mut association, now + retry_in)[..] else { panic!() };
    // A new identity has a try of its own, soon after what came before it has failed.
    let failed = Input::DialFailed { link, error: AssociationError::TimedOut };
    association.handle(now + retry_in, failed);
    assert_eq!(renew(&mut association, now + retry_in), []);
    let outputs = association.handle(now + retry_in, Input::Renew { fresh: true });
    assert!(matches!(outputs[..], [Output::Dial { .. }]), "{outputs:?}");
    // The old link breaks while its replacement is dialled: that goes on.
    let lost = Input::Lost { link: old, reason: AssociationError::TimedOut };
    let outputs = association.handle(now + retry_in, lost);
    assert!(matches!(outputs[..], [Output::Deactivate { link, .. }] if link == old));
    assert_eq!(association.active(), None);
    assert!(!association.is_idle());
}

/// The peer takes this node, started again with the incarnation that it had, for its former life.
#[test]
fn who_is_superseded_over_and_over_backs_off_and_says_so() {
    let mut association = Association::new(true, timing(), 7);
    let mut now = Instant::now();
    dial(&mut association, now);
    let mut waits = Vec::new();
    for n in 1..=12 {
        let link = LinkId::Dialled(association.attempt());
        let failed = Input::DialFailed { link, error: AssociationError::Superseded };
        let outputs = association.handle(now, failed);
        let reported = matches!(
            outputs[..],
            [Output::ReportDialFailed { error: AssociationError::Superseded, .. }]
        );
        assert_eq!(reported, n >= SUPERSEDED, "{n}: {outputs:?}");
        waits.push(association.wake_at().unwrap() - now);
        now = association.wake_at().unwrap();
        association.handle(now, Input::Timer { pending: true });
    }
    assert!(waits[..3].iter().all(|wait| *wait <= timing().backoff_min), "{waits:?}");
    assert!(waits[11] >= timing().backoff_max / 2, "{waits:?}");
    // The other connection has come after all.
    let link = LinkId::Accepted(1);
    let incoming = Input::Incoming { link, instance: instance(1), attempt: 1 };
    association.handle(now, incoming);
    let link = LinkId::Dialled(association.attempt());
    association.handle(now, Input::DialFailed { link, error: AssociationError::TimedOut });
    assert_eq!((association.active(), association.superseded), (Some(LinkId::Accepted(1)), 0));
}

#[test]
fn a_link_lost_while_its_renewal_is_dialled_is_dialled_again_for_as_long_as_any() {
    let now = Instant::now();
    let mut association = Association::new(true, timing(), 7);
    let old = LinkId::Accepted(1);
    association.handle(now, Input::Incoming { link: old, instance: instance(1), attempt: 1 });
    association.handle(now, Input::Renew { fresh: true });
    association.handle(now, Input::Lost { link: old, reason: AssociationError::TimedOut });
    let retry_in = failing(&mut association, now, AssociationError::TimedOut);
    let outputs = association.handle(now + retry_in, Input::Timer { pending: false });
    assert!(matches!(outputs[..], [Output::Dial { .. }]), "{outputs:?}");
}
