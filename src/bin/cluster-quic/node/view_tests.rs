use std::time::{Duration, Instant, SystemTime};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::sample::{LaneSample, LinkFigures, PeerSample, Sample};
use super::*;
use crate::node::counter::Counted;

/// Two members, of which one has a backlog, a guest, and a lost tell.
fn busy(members: usize) -> Model {
    let begin = Instant::now();
    let address = "akka.quic://demo@127.0.0.1:4400".to_owned();
    let mut model =
        Model::new(address, "demo@127.0.0.1:4400".into(), "#1795688336833891".into(), begin);
    let figures = LinkFigures { rtt: Duration::from_micros(310), cwnd: 120_000, mtu: 1452 };
    let peer = |address: &str, lanes: Vec<LaneSample>| PeerSample {
        address: address.into(),
        link: Link::Connected,
        incarnation: Some("#1795688337825473".into()),
        figures: Some(figures),
        in_flight_bytes: 262_144,
        lanes,
    };
    for second in 0..3_u64 {
        let lane = LaneSample {
            queued_bytes: 41_200_000,
            in_flight_bytes: 262_144,
            out_tells: 250_000 * second,
            out_bytes: 256_000_000 * second,
            in_tells: 12 * second,
            in_bytes: 1_200 * second,
            lost: 17,
        };
        let name = |n: usize| format!("demo@node-{n}.a-long-name.of.a.cluster.internal:4401");
        let mut sample = Sample {
            members: vec![("demo@127.0.0.1:4400".into(), Status::Up)],
            leader: Some("demo@127.0.0.1:4400".into()),
            peers: vec![peer(&name(1), vec![lane; 8]), peer("demo@localhost:107", vec![])],
            load: Counted { tells: 1_234_567, bytes: 1_264_196_608 },
            ..Sample::default()
        };
        sample.members.extend((1..members).map(|n| (name(n), Status::Up)));
        let now = begin + Duration::from_secs(second);
        model.gossip.add(Duration::from_micros(250 + 40_000 * (second % 2)), now);
        model.observe(sample, now, SystemTime::UNIX_EPOCH);
    }
    let text =
        "cannot connect to demo@node-9.a-long-name.of.a.cluster.internal:4401: no answer in time";
    model.journal.add(SystemTime::UNIX_EPOCH, Level::Bad, text);
    model.journal.add(SystemTime::UNIX_EPOCH, Level::Bad, text);
    model
}

fn drawn(model: &Model, columns: u16, rows: u16, colours: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, model, Palette { colours })).unwrap();
    terminal
}

fn lines(model: &Model, columns: u16, rows: u16) -> Vec<String> {
    let terminal = drawn(model, columns, rows, true);
    let cells = terminal.backend().buffer().content().chunks(columns.into());
    let line =
        |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    cells.map(|row| line(row).trim_end().to_owned()).collect()
}

#[test]
fn a_small_terminal_has_all_parts() {
    let lines = lines(&busy(2), 80, 24);
    let expected = "
 akka.quic://demo@127.0.0.1:4400                                   2 s  q quits
 Nodes  2 of 2 up, 1 not a member   2 connected   * leader ─────────────────────
   node                  member  connection         rtt in flight    cwnd   mtu
 * 127.0.0.1:4400        Up      this node
";
    let expected: Vec<_> = expected.trim_matches('\n').lines().collect();
    assert_eq!(lines[..4], expected, "\n{}", lines.join("\n"));
    let starts = [" Tells", " Gossip", " Events"];
    for start in starts {
        assert_eq!(lines.iter().filter(|line| line.starts_with(start)).count(), 1, "{start}");
    }
    assert!(lines[4].contains("internal:4401 Up"), "cut at its front\n{}", lines.join("\n"));
    let all = lines.iter().find(|line| line.contains("   all")).unwrap();
    let figures: Vec<_> = all.split_whitespace().collect();
    let expected = [
        "all", "330", "MB", "2.10", "MB", "2.00", "M/s", "2.05", "GB/s", "96/s", "9.60", "kB/s",
        "136",
    ];
    assert_eq!(figures, expected, "\n{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line.ends_with("×2")), "counted at the end of its line");
}

#[test]
fn a_wide_terminal_shows_incarnations() {
    let lines = lines(&busy(2), 140, 40);
    let text = lines.join("\n");
    assert!(lines[0].contains("incarnation #1795688336833891"), "{text}");
    assert!(lines[4].contains("node-1.a-long-name.of.a.cluster.internal:4401"), "{text}");
    assert!(lines[4].contains("#1795688337825473"), "{text}");
}

#[test]
fn no_size_is_too_small_and_long_lists_say_what_they_leave_out() {
    let model = busy(60);
    for (columns, rows) in [(1, 1), (5, 3), (20, 10), (80, 12), (300, 100), (80, 24)] {
        drawn(&model, columns, rows, true);
    }
    let lines = lines(&model, 80, 24);
    let more = lines.iter().find(|line| line.contains("and ") && line.contains(" more"));
    assert!(more.is_some(), "{}", lines.join("\n"));
    for start in [" Nodes", " Tells", " Gossip", " Events"] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{}", lines.join("\n"));
    }
}

#[test]
fn without_colours_there_are_none_and_with_them_only_the_terminal_s_own() {
    let colours = |with| {
        let terminal = drawn(&busy(2), 80, 24, with);
        let cells = terminal.backend().buffer().content().iter();
        cells.map(|cell| (cell.fg, cell.bg)).collect::<std::collections::HashSet<_>>()
    };
    assert_eq!(colours(false), [(Color::Reset, Color::Reset)].into());
    let own = [Color::Reset, Color::Green, Color::Red, Color::Magenta, Color::Cyan];
    // Nothing that vanishes on a light or a dark background, which stays as it is.
    assert!(colours(true).iter().all(|(fg, bg)| own.contains(fg) && *bg == Color::Reset));
    assert!(colours(true).len() >= 4);
}
