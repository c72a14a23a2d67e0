//! Drawing: in place on a terminal, a line per second elsewhere.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Prints a line. Whoever reads may be gone, which is no reason to panic, as println! does.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    in_place: bool,
    colour: bool,
    unicode: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb") && cfg!(unix);
        let in_place = std::io::stdout().is_terminal() && !dumb;
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self {
            in_place,
            colour: in_place && set("NO_COLOR").is_none(),
            unicode: utf8 || cfg!(windows),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Whether a check holds.
    pub(crate) fn mark(self, well: bool) -> String {
        match (well, self.unicode) {
            (true, true) => self.good("✓"),
            (true, false) => self.good("+"),
            (false, true) => self.bad("✗"),
            (false, false) => self.bad("!"),
        }
    }

    pub(crate) fn shorten(self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let dots = if self.unicode { "…" } else { "~" };
        text.chars().take(width - 1).chain(dots.chars()).collect()
    }
}

/// One moment of the run.
pub(crate) struct View {
    pub(crate) phase: &'static str,
    /// How far it is, 0 to 1.
    pub(crate) done: f64,
    pub(crate) tells_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// The last gossip delay, and how long ago it was heard of.
    pub(crate) gossip: Option<(Duration, Duration)>,
    pub(crate) p99: Option<Duration>,
    pub(crate) waiting_bytes: u64,
    pub(crate) left: Option<Duration>,
}

/// Shows views as they come.
pub(crate) struct Screen {
    pub(crate) style: Style,
    drawn: bool,
    last: Option<Instant>,
}

const BAR: usize = 40;
const LINES: usize = 3;

impl Screen {
    pub(crate) fn new() -> Self {
        Self { style: Style::of_stdout(), drawn: false, last: None }
    }

    pub(crate) fn show(&mut self, view: &View) {
        if self.style.in_place {
            self.draw(view);
        } else if self.last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            self.last = Some(Instant::now());
            let (gossip, p99) = gossip(view);
            say(format_args!(
                "{:<7}{:>6.1} %{:>10}/s  gossip{gossip:>10} p99{p99:>10}  queue{:>9}",
                view.phase,
                view.done.min(1.0) * 100.0,
                thousands(view.tells_per_second as u64),
                megabytes(view.waiting_bytes),
            ));
        }
    }

    fn draw(&mut self, view: &View) {
        let style = self.style;
        let filled = ((view.done * BAR as f64) as usize).min(BAR);
        let (full, empty) = if style.unicode { ("█", "░") } else { ("#", "-") };
        let bar = format!(
            "{}{}",
            style.paint("36", &full.repeat(filled)),
            style.paint("2", &empty.repeat(BAR - filled))
        );
        let (gossip, p99) = gossip(view);
        let lines: [String; LINES] = [
            format!(
                " {:<7} {bar} {:>5.1} %   {:>6} left",
                view.phase,
                view.done.min(1.0) * 100.0,
                view.left.map_or("?".into(), duration)
            ),
            format!(
                " tells   {:>11} /s  {:>11} /s     queue {:>11}",
                thousands(view.tells_per_second as u64),
                megabytes(view.bytes_per_second as u64),
                megabytes(view.waiting_bytes)
            ),
            format!(" gossip  {gossip:>11} now {p99:>11} p99 so far"),
        ];
        let up = if self.drawn { format!("\x1b[{LINES}A") } else { String::new() };
        let body: String = lines.iter().map(|line| format!("\r{line}\x1b[K\n")).collect();
        self.drawn = true;
        let mut out = std::io::stdout().lock();
        // In one piece, so that no half-drawn picture shows.
        let _ = out.write_all(format!("{up}{body}").as_bytes()).and_then(|()| out.flush());
    }

    /// Shows the next view at once.
    pub(crate) fn finish(&mut self) {
        self.last = None;
    }

    /// Prints a line above the picture, which the next view draws anew below it.
    pub(crate) fn note(&mut self, line: impl fmt::Display) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stdout(), "\x1b[{LINES}A\r\x1b[J");
        }
        say(line);
    }
}

/// The gossip delay now (or for how long none was heard of), and its p99.
fn gossip(view: &View) -> (String, String) {
    let now = match view.gossip {
        None => "-".into(),
        Some((_, age)) if age > Duration::from_secs(1) => format!("none {} s", age.as_secs()),
        Some((delay, _)) => milliseconds(delay),
    };
    (now, view.p99.map_or("-".into(), milliseconds))
}

pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}
