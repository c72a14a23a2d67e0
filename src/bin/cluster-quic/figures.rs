//! Numbers as people read them: short, with units, always the same width or less.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in at most 7 characters: `99,999`, `123 k`, `5.73 M`.
pub(crate) fn count(number: u64) -> String {
    if number < 100_000 { thousands(number) } else { scaled(number as f64 / 1e3, &["k", "M", "G"]) }
}

/// Bytes in at most 7 characters: `812 B`, `41.2 MB`; decimal units.
pub(crate) fn bytes(number: u64) -> String {
    if number < 1000 {
        format!("{number} B")
    } else {
        scaled(number as f64 / 1e3, &["kB", "MB", "GB", "TB", "PB"])
    }
}

/// Three digits that count, and the unit.
fn scaled(mut number: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next().copied().unwrap_or_default();
    while number >= 999.5 && units.peek().is_some() {
        number /= 1e3;
        unit = units.next().copied().unwrap_or_default();
    }
    format!("{number:.*} {unit}", places(number))
}

fn places(number: f64) -> usize {
    match number {
        0.0..9.995 => 2,
        0.0..99.95 => 1,
        _ => 0,
    }
}

/// A delay in at most 8 characters: `0.08 ms`, `12.3 ms`, `1.25 s`.
pub(crate) fn delay(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 999.5 {
        return format!("{ms:.*} ms", places(ms));
    }
    let seconds = time.as_secs_f64();
    format!("{seconds:.*} s", places(seconds))
}

/// How long something has lasted: `42 s`, `3:05 min`, `2:10 h`, `5 d 3 h`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Time of day in UTC, `12:03:04`.
pub(crate) fn clock(at: SystemTime) -> String {
    let (hour, minute, second) = OffsetDateTime::from(at).to_hms();
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// Date and time in UTC, `2026-11-26T12:03:04.512Z`.
pub(crate) fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!("{}T{}.{:03}Z", at.date(), clock(at.into()), at.millisecond())
}

/// What some delays come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) number: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Percentiles {
    /// `None` of nothing. The nearest rank: always a delay that there was.
    pub(crate) fn of(delays: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<_> = delays.into_iter().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        let at = |percent| sorted.get(rank(percent)).copied();
        Some(Self { number: sorted.len(), p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(count(99_999), "99,999");
        assert_eq!(count(100_000), "100 k");
        assert_eq!(count(999_600), "1.00 M");
        assert_eq!(count(5_733_430), "5.73 M");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(bytes(41_234_567), "41.2 MB");
        assert_eq!(delay(Duration::from_micros(80)), "0.08 ms");
        assert_eq!(delay(Duration::from_micros(9_996)), "10.0 ms");
        assert_eq!(delay(Duration::from_millis(1_250)), "1.25 s");
        assert_eq!(span(Duration::from_secs(185)), "3:05 min");
        for magnitude in 0..19 {
            for number in
                [10_u64.pow(magnitude), 9 * 10_u64.pow(magnitude), 10_u64.pow(magnitude) - 1]
            {
                assert!(bytes(number).len() <= 8, "{}", bytes(number));
                assert!(number > 10_u64.pow(15) || count(number).len() <= 9, "{}", count(number));
            }
        }
    }

    #[test]
    fn times_are_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_123);
        assert_eq!(clock(at), "13:46:40");
        assert_eq!(timestamp(at), "1970-01-12T13:46:40.123Z");
    }

    #[test]
    fn percentiles_are_delays_that_there_were() {
        assert_eq!(Percentiles::of([]), None);
        let ms = Duration::from_millis;
        let of = Percentiles::of((1..=100).rev().map(ms)).unwrap();
        assert_eq!(of, Percentiles { number: 100, p50: ms(50), p99: ms(99), max: ms(100) });
        let one = Percentiles::of([ms(7)]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (ms(7), ms(7), ms(7)));
    }
}
