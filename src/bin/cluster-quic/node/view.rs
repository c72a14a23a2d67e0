//! Draws a [`Model`]. Colours are the terminal's own, so that they suit its background; nothing is told by
//! colour alone.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

use super::journal::Entry;
use super::model::{LaneRow, Model, Node};
use super::sample::{Link, Status};
use crate::figures::{bytes, clock, count, delay, span, thousands};
use crate::words::Level;

/// Terminals from this width on show incarnations too.
const WIDE: u16 = 100;

/// The sparkline's lowest and highest delay; between them it is logarithmic.
const SCALE: (f64, f64) = (20e-6, 2.0);

/// Steps from the one to the other; a row of the sparkline shows eight.
const STEPS: f64 = 1000.0;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Whether to use colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette {
    pub(crate) colours: bool,
}

impl Palette {
    fn paint(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.paint(Color::Green)
    }

    fn bad(self) -> Style {
        self.paint(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn waiting(self) -> Style {
        self.paint(Color::Magenta)
    }

    fn accent(self) -> Style {
        self.paint(Color::Cyan)
    }
}

/// Draws all of it; what does not fit is left out from below.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let lanes = model.lanes();
    let heights = heights(frame.area().height, model.nodes.len(), lanes.len());
    let [top, nodes, traffic, gossip, events] =
        Layout::vertical(heights.map(Constraint::Length)).areas(frame.area());
    header(frame, top, model, palette);
    draw_nodes(frame, nodes, model, palette);
    draw_lanes(frame, traffic, model, &lanes, palette);
    draw_gossip(frame, gossip, model, palette);
    draw_events(frame, events, model, palette);
}

/// Lines for the header, the nodes, the lanes, gossip and events: each part has a rule, tables headings
/// too. On a small terminal long tables are cut before short parts go.
fn heights(total: u16, nodes: usize, lanes: usize) -> [u16; 5] {
    let as_lines = |number: usize| u16::try_from(number).unwrap_or(u16::MAX / 4);
    let (nodes, lanes) = (2 + as_lines(nodes.max(1)), 3 + as_lines(lanes));
    let header = total.min(1);
    let mut left = total - header;
    let mut take = |wanted: u16| {
        let taken = wanted.min(left);
        left -= taken;
        taken
    };
    // What everybody wants to see at least.
    let (mut n, mut l, mut g, mut e) = (take(nodes.min(4)), take(lanes.min(3)), take(3), take(3));
    // The rest in this order.
    n += take(nodes.saturating_sub(n).min(total / 4));
    l += take(lanes.saturating_sub(l));
    n += take(nodes.saturating_sub(n));
    e += take(3);
    g += take(4);
    e += take(u16::MAX);
    [header, n, l, g, e]
}

/// A rule with a title and some figures in it; returns what is below.
fn part(frame: &mut Frame<'_>, area: Rect, title: &str, figures: Line<'_>) -> Rect {
    let mut line = vec![Span::raw(" "), Span::styled(title.to_owned(), BOLD), Span::raw("  ")];
    line.extend(figures.spans);
    line.push(Span::raw(" "));
    // The rule's own dimness must not dim its title.
    let lit = Style::new().remove_modifier(Modifier::DIM);
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(DIM)
        .title_top(Line::from(line).patch_style(lit));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

fn header(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let right = match &model.ending {
        Some(why) => Line::from(format!("{why} ")).style(palette.waiting().patch(BOLD)),
        None => Line::from(format!("{}  q quits ", span(model.age))),
    };
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX).min(area.width);
    let [left, end] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]).areas(area);
    let mut line = vec![Span::raw(" "), Span::styled(&model.address, palette.accent().patch(BOLD))];
    if area.width >= WIDE {
        line.push(Span::styled(format!("  incarnation {}", model.incarnation), DIM));
    }
    frame.render_widget(Paragraph::new(Line::from(line)), left);
    frame.render_widget(Paragraph::new(right).alignment(Alignment::Right), end);
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let (members, up) = model.members();
    let guests = model.nodes.len() - members;
    let mut figures = format!("{up} of {members} up");
    if guests > 0 {
        figures += &format!(", {guests} not a member");
    }
    figures += &format!("   {} connected   * leader", model.connected());
    let inner = part(frame, area, "Nodes", Line::from(figures));

    let wide = area.width >= WIDE;
    let mut widths = vec![Constraint::Length(2), Constraint::Fill(1), Constraint::Length(7)];
    widths.push(Constraint::Length(13));
    let mut heads = vec![("", false), ("node", false), ("member", false), ("connection", false)];
    if wide {
        widths.push(Constraint::Length(18));
        heads.push(("incarnation", false));
    }
    for (head, width) in [("rtt", 8), ("in flight", 9), ("cwnd", 7), ("mtu", 5)] {
        widths.push(Constraint::Length(width));
        heads.push((head, true));
    }
    // One column of space at the right, as at the left.
    let inner = Rect { width: inner.width.saturating_sub(1), ..inner };
    let shown = usize::from(inner.height.saturating_sub(1));
    let taken: u16 =
        widths.iter().map(|w| if let Constraint::Length(w) = w { *w } else { 0 }).sum();
    let gaps = widths.len().saturating_sub(1);
    let room = usize::from(inner.width.saturating_sub(taken)).saturating_sub(gaps);
    let rows = model.nodes.iter().map(|node| node_row(node, model, room, wide, palette));
    let rows = cut(rows.collect(), shown, |hidden| {
        Row::new(vec![Cell::new(""), Cell::new(format!("and {hidden} more"))]).style(DIM)
    });
    frame.render_widget(Table::new(rows, widths).header(heading(&heads)), inner);
}

fn node_row<'a>(
    node: &'a Node,
    model: &'a Model,
    room: usize,
    wide: bool,
    palette: Palette,
) -> Row<'a> {
    let status = match node.status {
        Some(status) => Cell::new(status.name()).style(match status {
            Status::Up => palette.good(),
            Status::Down => palette.bad(),
            _ => palette.waiting(),
        }),
        None => Cell::new("-"),
    };
    let (link, style) = match node.peer.as_ref().map(|peer| peer.link) {
        _ if node.own => ("this node".to_owned(), DIM),
        Some(Link::Connected) => ("connected".to_owned(), palette.good()),
        Some(Link::Connecting(time)) if time.as_secs() == 0 => {
            ("connecting".to_owned(), palette.waiting())
        }
        Some(Link::Connecting(time)) => (format!("lost {}", span(time)), palette.bad()),
        Some(Link::Quarantined) => ("quarantined".to_owned(), palette.bad()),
        Some(Link::Idle) | None => ("none".to_owned(), DIM),
    };
    let name = Cell::new(end_of(host_and_port(&node.name, &model.name), room));
    let name = if node.own { name.style(BOLD) } else { name };
    let mark = if node.leader { " *" } else { "" };
    let mut cells = vec![Cell::new(mark), name, status, Cell::new(link).style(style)];
    let peer = node.peer.as_ref();
    if wide {
        let of_peer = peer.and_then(|peer| peer.incarnation.as_deref());
        let incarnation = if node.own { Some(&*model.incarnation) } else { of_peer };
        cells.push(Cell::new(incarnation.unwrap_or_default()).style(DIM));
    }
    let figures = peer.and_then(|peer| Some((peer, peer.figures?)));
    let texts = figures.map_or_else(Default::default, |(peer, link)| {
        [delay(link.rtt), bytes(peer.in_flight_bytes), bytes(link.cwnd), link.mtu.to_string()]
    });
    cells.extend(texts.map(right));
    Row::new(cells)
}

/// The system's name stands above, and is the same everywhere.
fn host_and_port<'a>(name: &'a str, own: &str) -> &'a str {
    match (name.split_once('@'), own.split_once('@')) {
        (Some((system, rest)), Some((same, _))) if system == same => rest,
        _ => name,
    }
}

/// With an ellipsis in front where it is too long: the port tells nodes of one host apart.
fn end_of(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip((length + 1).saturating_sub(room))).collect()
}

fn draw_lanes(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    lanes: &[LaneRow],
    palette: Palette,
) {
    let received = model.load.tells + model.others.tells;
    let size = model.load.bytes + model.others.bytes;
    let mut figures = format!("received {} tells, {}", thousands(received), bytes(size));
    if model.others.tells > 0 && model.load.tells > 0 {
        figures += &format!("   not for /user/load: {}", thousands(model.others.tells));
    }
    let inner = part(frame, area, "Tells", Line::from(figures));
    let widths = [
        Constraint::Length(6),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
    ];
    let heads = [
        ("  lane", false),
        ("queued", true),
        ("in flight", true),
        ("out", true),
        ("", true),
        ("in", true),
        ("", true),
        ("lost", true),
    ];
    let shown = usize::from(inner.height.saturating_sub(2));
    let rows =
        (0..).zip(lanes).map(|(number, lane)| lane_row(format!("{number:>6}"), lane, palette));
    let rows = cut(rows.collect(), shown, |hidden| {
        Row::new(vec![Cell::new(""), right(format!("+{hidden} more"))]).style(DIM)
    });
    let all = lane_row("   all".into(), &model.all_lanes(), palette).style(BOLD);
    let rows = std::iter::once(all).chain(rows);
    // One column of space at the right, as at the left.
    let inner = Rect { width: inner.width.saturating_sub(1), ..inner };
    frame.render_widget(Table::new(rows, widths).header(heading(&heads)), inner);
}

fn lane_row<'a>(name: String, lane: &LaneRow, palette: Palette) -> Row<'a> {
    let none = |is: bool, cell: Cell<'a>| if is { cell.style(DIM) } else { cell };
    let rate = |tells: u64| none(tells == 0, right(format!("{}/s", count(tells))));
    let flow = |length: u64| none(length == 0, right(format!("{}/s", bytes(length))));
    let stock = |length: u64| none(length == 0, right(bytes(length)));
    let lost = right(thousands(lane.lost));
    Row::new(vec![
        Cell::new(name),
        stock(lane.queued_bytes),
        stock(lane.in_flight_bytes),
        rate(lane.out_tells),
        flow(lane.out_bytes),
        rate(lane.in_tells),
        flow(lane.in_bytes),
        if lane.lost > 0 { lost.style(palette.bad()) } else { lost.style(DIM) },
    ])
}

fn draw_gossip(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let gossip = &model.gossip;
    let mut figures = match (gossip.percentiles(), gossip.latest()) {
        (Some(of), Some(latest)) => vec![Span::raw(format!(
            "round trip {}   in a minute p50 {}, p99 {}, max {}",
            delay(latest),
            delay(of.p50),
            delay(of.p99),
            delay(of.max)
        ))],
        _ => vec![Span::raw("round trip: nobody has answered yet")],
    };
    if let Some(waits) = gossip.waits.filter(|waits| waits.as_secs() >= 1) {
        figures.push(Span::styled(format!("   silent for {}", span(waits)), palette.bad()));
    }
    let inner = part(frame, area, "Gossip", Line::from(figures));
    if inner.height == 0 {
        return;
    }
    let [scale, spark] =
        Layout::horizontal([Constraint::Length(7), Constraint::Min(0)]).areas(inner);
    // The topmost step is reached at the scale's end; the lowest row begins at its beginning.
    let mut labels = vec![Line::from("2 s").right_aligned()];
    labels.resize(usize::from(scale.height.saturating_sub(1)).max(1), Line::default());
    if scale.height > 1 {
        labels.push(Line::from("20 µs").right_aligned());
    }
    let labels_area = Rect { width: scale.width.saturating_sub(1), ..scale };
    frame.render_widget(Paragraph::new(labels).style(DIM), labels_area);
    let width = usize::from(spark.width.saturating_sub(1));
    let skip = gossip.columns.len().saturating_sub(width);
    let bars: Vec<_> = gossip.columns.iter().skip(skip).map(|worst| worst.map(height)).collect();
    // The newest at the right.
    let used = u16::try_from(bars.len()).unwrap_or(u16::MAX);
    let bars_area = Rect {
        x: spark.x + spark.width.saturating_sub(1).saturating_sub(used),
        width: used.min(spark.width),
        ..spark
    };
    let sparkline = Sparkline::default().data(bars).max(STEPS as u64).style(palette.accent());
    frame.render_widget(sparkline, bars_area);
}

/// The height of a delay, in steps: at least one, so that every answer shows.
fn height(delay: std::time::Duration) -> u64 {
    let (low, high) = SCALE;
    let part = (delay.as_secs_f64() / low).ln() / (high / low).ln();
    // At least an eighth of the lowest of up to six rows.
    (part * STEPS).clamp(STEPS / 16.0, STEPS) as u64
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let inner = part(frame, area, "Events", Line::styled("the newest first, UTC", DIM));
    let newest = model.journal.newest().take(inner.height.into());
    let lines: Vec<_> = newest.map(|entry| event_line(entry, inner.width, palette)).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn event_line(entry: &Entry, width: u16, palette: Palette) -> Line<'_> {
    let (mark, style) = match entry.level {
        Level::Good => ("+ ", palette.good()),
        Level::Plain => ("  ", Style::new()),
        Level::Bad => ("! ", palette.bad()),
    };
    let times = if entry.times > 1 { format!("  ×{}", entry.times) } else { String::new() };
    let room = usize::from(width).saturating_sub(13 + times.chars().count());
    Line::from(vec![
        Span::styled(format!(" {} ", clock(entry.at)), DIM),
        Span::styled(mark, style),
        Span::raw(shorten(&entry.text, room)),
        Span::styled(times, BOLD),
    ])
}

/// With an ellipsis where it is too long.
fn shorten(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// At most `shown` rows; where there are more, the last says so.
fn cut<'a>(mut rows: Vec<Row<'a>>, shown: usize, more: impl Fn(usize) -> Row<'a>) -> Vec<Row<'a>> {
    if rows.len() > shown {
        let kept = shown.saturating_sub(1);
        let hidden = rows.len() - kept;
        rows.truncate(kept);
        rows.push(more(hidden));
    }
    rows
}

fn heading<'a>(heads: &[(&'a str, bool)]) -> Row<'a> {
    let cell = |(text, is_right): &(&'a str, bool)| {
        let line = Line::from(*text);
        Cell::new(if *is_right { line.right_aligned() } else { line })
    };
    Row::new(heads.iter().map(cell)).style(DIM)
}

fn right<'a>(text: String) -> Cell<'a> {
    Cell::new(Line::from(text).right_aligned())
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
