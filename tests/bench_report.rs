//! What the benchmarks share to report: its pure functions.

#[path = "../benches/report/mod.rs"]
mod report;

use report::chart::{self, decimate};
use report::{
    Axis, Bar, Bars, Column, Columns, Figure, Plot, Report, Series, Table, Unit, escape, grouped,
    json, median, percentile,
};

fn log_plot() -> Plot {
    Plot::new(
        "a <plot>",
        Axis::log("size", Unit::Bytes),
        Axis::log("delay", Unit::Milliseconds).mark(50.0, "target").mark(49.0, "another"),
    )
}

/// Whether all places are numbers: a scale that divides by zero shows as one that is not.
fn assert_sound(svg: &str) {
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn figures_are_json_whatever_they_are_named() {
    let plain = Figure::new("a \"b\" \\ c\nd", "rate", "msg/s", 2.5);
    let odd = Figure::new("ä", "rate", "µs", f64::NAN);
    let text = json(&[plain.clone(), plain.against("tcp/64B", 19.5), odd]).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed[0]["case"], "a \"b\" \\ c\nd");
    assert_eq!(parsed[0]["value"], 2.5);
    assert!(parsed[0].get("against").is_none() && parsed[0].get("ratio").is_none());
    assert_eq!(parsed[1]["against"], "tcp/64B");
    assert_eq!(parsed[1]["ratio"], 19.5);
    assert!(parsed[2]["value"].is_null());
    assert_eq!(serde_json::from_str::<Vec<()>>(&json(&[]).unwrap()).unwrap(), []);
}

#[test]
fn decimation_keeps_ends_and_extremes() {
    let spike = |n: usize| if n == 5_003 { 1e6 } else { (n % 7) as f64 };
    let points: Vec<_> = (0..10_000).map(|n| (n as f64 / 100.0, spike(n))).collect();
    let kept = decimate(&points, 1.0);
    assert!(kept.len() <= 400, "{}", kept.len());
    assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
    assert!(kept.contains(&points[5_003]));
    assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
    for column in 0..100 {
        let least = |of: &[(f64, f64)]| {
            let here = of.iter().filter(|point| point.0.floor() == f64::from(column));
            here.map(|point| point.1).reduce(f64::min)
        };
        assert_eq!(least(&kept), least(&points));
    }
    assert_eq!(decimate(&points[..1], 1.0), points[..1]);
    assert!(decimate(&[], 1.0).is_empty());
}

#[test]
fn thousands_of_points_stay_light() {
    let points = (0..200_000).map(|n| (f64::from(n), f64::from(n * 7919 % 1000))).collect();
    let svg = chart::lines(&log_plot(), &[Series::new("many", points)]);
    assert!(svg.len() < 80_000, "{} bytes", svg.len());
}

#[test]
fn log_axes_bear_what_has_no_logarithm() {
    let odd = [0.0, -5.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 1e300, 7.0];
    for values in [&odd[..], &odd[..1], &odd[1..2], &odd[2..3], &odd[..5], &odd[7..]] {
        let points: Vec<_> = values.iter().map(|v| (*v, *v)).collect();
        assert_sound(&chart::lines(&log_plot(), &[Series::new("odd", points.clone())]));
        assert_sound(&chart::points(&log_plot(), &[Series::new("odd", points)]));
        let samples = [Series::new("odd", values.to_vec())];
        let axis = Axis::log("delay", Unit::Milliseconds);
        assert_sound(&chart::distribution("odd", axis, &samples));
        for axis in [Axis::log("rate", Unit::Count), Axis::linear("rate", Unit::Count)] {
            let bars = values.iter().map(|v| Bar::new("bar", *v).range(*v, *v)).collect();
            assert_sound(&chart::bars(&Bars::new("odd", axis).group("group", bars)));
        }
    }
}

#[test]
fn charts_of_nothing_are_charts() {
    let empty = [Series::new("empty", Vec::new()), Series::new("empty too", Vec::new())];
    let linear =
        Plot::new("none", Axis::linear("x", Unit::Seconds), Axis::linear("y", Unit::Count));
    for plot in [linear, log_plot()] {
        assert_sound(&chart::lines(&plot, &empty));
        assert_sound(&chart::points(&plot, &empty));
        assert_sound(&chart::lines(&plot, &[]));
    }
    let samples = [Series::new("empty", Vec::new())];
    assert_sound(&chart::distribution("none", Axis::log("x", Unit::Milliseconds), &samples));
    let bars = Bars::new("none", Axis::log("x", Unit::Count));
    assert_sound(&chart::bars(&bars));
    assert_sound(&chart::bars(&bars.group("group", Vec::new())));
}

#[test]
fn a_line_has_a_gap_where_there_is_no_value() {
    let points = vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
    let svg = chart::lines(&log_plot(), &[Series::new("parts", points)]);
    assert_eq!(svg.matches("<polyline").count(), 2);
}

#[test]
fn a_distribution_ends_at_one_in_a_thousand() {
    let samples = (1..=100_000).map(f64::from).collect();
    let svg = chart::distribution(
        "tail",
        Axis::log("delay", Unit::Milliseconds),
        &[Series::new("samples", samples)],
    );
    for label in ["100 %", "10 %", "1 %", "0.1 %"] {
        assert!(svg.contains(&format!(">{label}</text>")), "{label}");
    }
    assert!(!svg.contains(">0.01 %</text>"));
}

#[test]
fn text_is_escaped_on_the_page() {
    assert_eq!(escape("<a href=\"b\">'&'"), "&lt;a href=&quot;b&quot;&gt;&#39;&amp;&#39;");
    let evil = "<script>\"&";
    let mut report = Report::new("test", evil);
    report.fact(evil, evil).figure(Figure::new(evil, evil, evil, 1.0).against(evil, 2.0));
    let plot = Plot::new(evil, Axis::log(evil, Unit::Count), Axis::log(evil, Unit::Count));
    let bars = Bars::new(evil, Axis::linear(evil, Unit::Count).mark(1.0, evil));
    report
        .section(evil, evil)
        .chart(chart::lines(
            &plot,
            &[Series::new(evil, vec![(1.0, 1.0)]), Series::new(evil, vec![])],
        ))
        .chart(chart::bars(&bars.group(evil, vec![Bar::new(evil, 1.0)])))
        .table(Table::new([evil, evil]).row([evil, evil]));
    let html = report.html();
    assert!(!html.contains("<script"));
    assert!(html.contains("&lt;script&gt;&quot;&amp;"));
}

#[test]
fn a_page_says_what_it_is_of() {
    let mut report = Report::new("test", "A test");
    report.section("Heading", "First `code`.\n\nSecond.");
    let html = report.html();
    for part in
        ["<code>cargo bench --bench test", "UTC", env!("CARGO_PKG_VERSION"), "<h2>Heading</h2>"]
    {
        assert!(html.contains(part), "{part}");
    }
    assert!(html.contains("<p>First <code>code</code>.</p>\n<p>Second.</p>"));
    for outside in ["href=", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn numbers_are_for_people() {
    let cases = [
        (Unit::Count, 2_963_601.0, "2.96M"),
        (Unit::Count, 999_990.0, "1M"),
        (Unit::Count, 0.5, "0.5"),
        (Unit::Milliseconds, 0.05, "50 µs"),
        (Unit::Milliseconds, 1500.0, "1.5 s"),
        (Unit::Seconds, 0.0, "0 s"),
        (Unit::Seconds, 120.0, "120 s"),
        (Unit::Bytes, 65536.0, "65.5 kB"),
        (Unit::Share, 0.001, "0.1 %"),
        (Unit::Times, 19.04, "×19"),
        (Unit::Count, -1500.0, "-1.5k"),
    ];
    for (unit, value, text) in cases {
        assert_eq!(unit.format(value), text);
    }
    assert_eq!(grouped(1_234_567.4), "1 234 567");
    assert_eq!(grouped(-123_456.0), "-123 456");
    assert_eq!(grouped(999.0), "999");
}

#[test]
fn values_are_summed_up() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    let sorted: Vec<_> = (1..=200).map(f64::from).collect();
    assert_eq!(
        [0.0, 50.0, 99.0, 100.0].map(|p| percentile(&sorted, p)),
        [1.0, 100.0, 198.0, 200.0]
    );
    assert!(percentile(&[], 50.0).is_nan());
}

#[test]
fn rows_are_aligned_on_the_console() {
    let columns = Columns::new([Column::left("case", 6), Column::right("rate", 8)]);
    assert_eq!(columns.headers(), "case       rate");
    assert_eq!(columns.line(&["quic".into(), "1 234".into()]), "quic      1 234");
    assert_eq!(columns.line(&["too long".into(), "1".into()]), "too long        1");
}
