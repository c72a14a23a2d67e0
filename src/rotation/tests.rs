//! The pure parts: when a content is tried and reported, and when a certificate is warned of.

use std::time::{Duration, Instant, SystemTime};

use super::expiry::Warnings;
use super::files::{Contents, IdentityFiles};
use super::watcher::{Step, Watcher};
use crate::dev_certs::DevCa;
use crate::tls::{Certificate, IdentityError};

const SECOND: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// A watcher that is shown contents, by their number, at seconds from the beginning.
struct Shown {
    watcher: Watcher,
    begin: Instant,
}

impl Shown {
    fn new(period: Duration) -> Self {
        Self { watcher: Watcher::new(period), begin: Instant::now() }
    }

    fn see(&mut self, at: f64, content: u8) -> Step {
        self.watcher.see(self.begin + SECOND.mul_f64(at), [content; 32])
    }

    fn reject(&mut self, at: f64) -> bool {
        self.watcher.reject(self.begin + SECOND.mul_f64(at))
    }
}

#[test]
fn a_content_is_tried_once_it_has_stood_still() {
    let mut files = Shown::new(PERIOD);
    assert_eq!(files.see(0.0, 1), Step::Wait);
    assert_eq!(files.watcher.pause(Step::Wait), SECOND);
    // One file of three is written after the other.
    assert_eq!(files.see(1.0, 2), Step::Wait);
    assert_eq!(files.see(1.9, 2), Step::Wait);
    assert_eq!(files.see(2.0, 2), Step::Try);
    files.watcher.accept();
    assert_eq!(files.see(3.0, 2), Step::Rest);
    assert_eq!(files.watcher.pause(Step::Rest), PERIOD);
    // Away and back within a moment, as a link that is replaced: nothing has happened.
    assert_eq!(files.see(13.0, 3), Step::Wait);
    assert_eq!(files.see(14.0, 2), Step::Rest);
    // Seen before, but not standing still since.
    assert_eq!(files.see(20.0, 3), Step::Wait);
}

#[test]
fn a_short_period_is_all_that_a_content_must_stand_still() {
    let mut files = Shown::new(SECOND / 20);
    assert_eq!(files.see(0.0, 1), Step::Wait);
    assert_eq!(files.watcher.pause(Step::Wait), SECOND / 20);
    assert_eq!(files.see(0.06, 1), Step::Try);
}

#[test]
fn what_is_not_in_order_is_reported_after_a_period_once_and_tried_again_and_again() {
    let mut files = Shown::new(PERIOD);
    files.see(0.0, 1);
    assert_eq!(files.see(1.0, 1), Step::Try);
    assert!(!files.reject(1.0), "it may be unfinished");
    assert_eq!(files.see(10.0, 1), Step::Try);
    assert!(files.reject(10.0));
    for n in 1..1_000 {
        let at = 10.0 + f64::from(n);
        assert_eq!(files.see(at, 1), Step::Try, "its time may come");
        assert!(!files.reject(at));
    }
    // Another fault, and the first one again.
    files.see(2_000.0, 2);
    assert_eq!(files.see(2_010.0, 2), Step::Try);
    assert!(files.reject(2_010.0));
    files.see(3_000.0, 1);
    files.see(3_010.0, 1);
    assert!(!files.reject(3_010.0), "known");
    // After something good it is news.
    files.see(4_000.0, 3);
    assert_eq!(files.see(4_001.0, 3), Step::Try);
    files.watcher.accept();
    files.see(5_000.0, 1);
    files.see(5_010.0, 1);
    assert!(files.reject(5_010.0));
}

#[test]
fn any_number_of_bad_contents_takes_bounded_memory() {
    let mut files = Shown::new(PERIOD);
    let mut reports = 0;
    for n in 0..100_u8 {
        files.see(f64::from(n) * 100.0, n);
        files.see(f64::from(n) * 100.0 + 10.0, n);
        reports += u32::from(files.reject(f64::from(n) * 100.0 + 10.0));
    }
    assert_eq!(reports, 100);
    assert_eq!(files.watcher.remembered(), 16);
}

fn certificate(number: u8, life: Duration) -> Certificate {
    let not_before = SystemTime::UNIX_EPOCH + 1_000 * DAY;
    Certificate { fingerprint: [number; 32], not_before, not_after: not_before + life }
}

/// On which days of `days` an hourly look says something.
fn said(warnings: &mut Warnings, days: std::ops::Range<u32>, lead: Duration) -> Vec<u32> {
    let begin = certificate(0, DAY).not_before;
    let hours = days.start * 24..days.end * 24;
    let due = |hour: &u32| warnings.due(begin + *hour * (DAY / 24), lead).is_some();
    hours.filter(due).map(|hour| hour / 24).collect()
}

#[test]
fn a_certificate_is_warned_of_daily_from_its_last_week_on() {
    let mut warnings = Warnings::default();
    assert_eq!(said(&mut warnings, 0..200, 7 * DAY), [0_u32; 0], "there is none");
    warnings.watch(Some(certificate(1, 90 * DAY)));
    assert_eq!(said(&mut warnings, 0..86, 7 * DAY), [83, 84, 85]);
    // Shown again, over another connection.
    warnings.watch(Some(certificate(1, 90 * DAY)));
    assert_eq!(said(&mut warnings, 86..93, 7 * DAY), [86, 87, 88, 89, 90, 91, 92], "expired too");
    warnings.watch(Some(certificate(2, 97 * DAY)));
    assert_eq!(said(&mut warnings, 93..95, 7 * DAY), [93, 94], "another, that is late as well");
    warnings.watch(Some(certificate(3, 300 * DAY)));
    assert_eq!(said(&mut warnings, 95..290, 7 * DAY), [0_u32; 0]);
}

#[test]
fn a_short_life_is_warned_of_in_its_last_quarter() {
    let mut warnings = Warnings::default();
    warnings.watch(Some(certificate(1, 8 * DAY)));
    assert_eq!(said(&mut warnings, 0..8, 7 * DAY), [6, 7]);
    warnings.watch(Some(certificate(2, 8 * DAY)));
    assert_eq!(said(&mut warnings, 0..8, DAY), [7], "what is asked for is shorter");
    // As in docs/rotation.md: renewed when eight of 24 hours are left, which takes its time.
    let issued = certificate(3, DAY);
    warnings.watch(Some(issued));
    let at = |left: u32| issued.not_after - left * (DAY / 24);
    assert_eq!(warnings.due(at(8), 7 * DAY), None);
    assert_eq!(warnings.due(at(7), 7 * DAY), None);
    assert_eq!(warnings.due(at(6), 7 * DAY), Some(issued.not_after));
}

#[test]
fn a_clock_that_is_set_back_makes_no_flood_and_no_silence() {
    let mut warnings = Warnings::default();
    warnings.watch(Some(certificate(1, 90 * DAY)));
    assert_eq!(said(&mut warnings, 89..90, 7 * DAY), [89]);
    assert_eq!(said(&mut warnings, 84..87, 7 * DAY), [85, 86]);
}

#[test]
fn contents_are_told_apart_and_named_in_errors() {
    let ca = DevCa::new("files").unwrap();
    let issued = ca.issue(&["a.test"]).unwrap();
    let parts = || [&*issued.chain, &*issued.key, ca.certificate()];
    let contents = |parts: [&str; 3]| Contents(parts.map(|part| Ok(part.as_bytes().to_vec())));
    let [chain, key, bundle] = parts();
    let unreadable = |kind: std::io::ErrorKind| {
        Contents([Ok(chain.into()), Err(kind.into()), Ok(bundle.into())])
    };
    let all = [
        contents(parts()),
        contents([key, chain, bundle]),
        contents([chain, "", bundle]),
        contents(["", chain, bundle]),
        unreadable(std::io::ErrorKind::NotFound),
        unreadable(std::io::ErrorKind::PermissionDenied),
    ];
    let hashes: std::collections::HashSet<_> = all.iter().map(Contents::hash).collect();
    assert_eq!(hashes.len(), all.len());
    assert_eq!(contents(parts()).hash(), all[0].hash());

    let files = IdentityFiles::new("/x/tls.crt", "/x/tls.key", "/x/ca.crt");
    files.identity(contents(parts()), SystemTime::now()).unwrap();
    let missing = unreadable(std::io::ErrorKind::NotFound);
    let error = files.identity(missing, SystemTime::now()).unwrap_err();
    assert!(matches!(error, IdentityError::Read { .. }));
    assert!(error.to_string().contains("private key /x/tls.key"), "{error}");
    // The clock that is passed in decides.
    let error = files.identity(contents(parts()), SystemTime::now() + 40 * DAY).unwrap_err();
    assert!(matches!(error, IdentityError::Expired { .. }), "{error}");
}
