//! The guides in `docs/` against the code, so that they cannot fall behind it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cluster_quic::Config;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The options of `ConfigBuilder`, as `src/config.rs` and its folder declare them.
fn options() -> BTreeSet<String> {
    let source = read("src/config.rs") + &read("src/config/recording.rs");
    let (_, settings) = source.split_once("\nsettings! {\n").expect("the list of settings");
    let (settings, _) = settings.split_once("\n}\n").expect("its end");
    let listed = settings.lines().map(str::trim).filter(|line| !line.starts_with("///"));
    let listed = listed.filter_map(|line| line.split_once(": ")).map(|(name, _)| name);
    // What takes the builder; a signature may have several lines.
    let methods = source.split("pub fn ").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once('(')?;
        let is_option = rest.trim_start().starts_with("mut self") && !name.starts_with('$');
        is_option.then_some(name)
    });
    listed.chain(methods).map(Into::into).collect()
}

/// The rows of the table of all settings: option and default.
fn rows() -> Vec<(String, String)> {
    let page = read("docs/settings.md");
    let (_, table) = page.split_once("## All settings").expect("the table");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| {
        let mut cells = row.split(" | ");
        let option = cells.next()?.strip_suffix('`')?;
        Some((option.to_owned(), cells.next()?.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_setting_has_a_row_and_every_row_a_setting() {
    let options = options();
    assert!(options.len() > 20, "{options:?}");
    let rows = rows();
    let named: BTreeSet<_> = rows.iter().map(|(option, _)| option.clone()).collect();
    assert_eq!(named, options);
    assert_eq!(rows.len(), options.len(), "one row each");
}

#[test]
fn the_defaults_in_the_table_are_the_defaults() {
    let defaults = format!("{:?}", Config::builder("sys").build().unwrap());
    let fields = defaults.trim_start_matches("Config { ").trim_end_matches(" }");
    for (option, told) in rows() {
        let value = fields.split_once(&format!("{option}: ")).map_or("", |(_, rest)| rest);
        let value = value.split(", ").next().unwrap_or_default();
        let value = value.trim_start_matches("Some(").trim_end_matches(')');
        let is = match option.as_str() {
            // In words: what the others give.
            "cluster" | "advertise_host" | "advertise_port" | "incarnation" | "wall_clock" => {
                continue;
            }
            // Not there without its feature, or nowhere.
            "key_log" | "qlog" | "qlog_limits" => continue,
            name if name.ends_with("_budget")
                || name.ends_with("_window")
                || name == "socket_buffer" =>
            {
                bytes(value.parse().unwrap())
            }
            _ => days(value).unwrap_or_else(|| value.to_owned()),
        };
        let told = told.replace(['`', ' ', '\u{202f}'], "");
        assert_eq!(told, is.replace(' ', ""), "{option}");
    }
}

/// As a person would write it.
fn bytes(n: u64) -> String {
    match n {
        n if n % (1 << 30) == 0 => format!("{} GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => n.to_string(),
    }
}

/// A time of whole days, as a person would write it.
fn days(time: &str) -> Option<String> {
    let seconds: u64 = time.strip_suffix('s')?.parse().ok()?;
    (seconds > 0 && seconds.is_multiple_of(86_400)).then(|| format!("{} days", seconds / 86_400))
}

/// Rust files in a folder, by their path in it.
fn sources(dir: &Path, within: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, within, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let path = path.strip_prefix(within).unwrap();
            found.insert(path.to_str().unwrap().replace('\\', "/"));
        }
    }
}

/// What stands in backticks on a page.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2)
}

#[test]
fn the_architecture_names_every_module_and_no_file_that_is_not_there() {
    let page = read("docs/architecture.md");
    let (_, prose) = page.split_once("```text").unwrap();
    let (_, prose) = prose.split_once("```").unwrap();
    let mut files = BTreeSet::new();
    sources(&root().join("src"), &root().join("src"), &mut files);
    let named: BTreeSet<_> = quoted(prose).filter(|name| name.ends_with(".rs")).collect();
    for name in &named {
        let there = files.contains(*name) || root().join(name).exists();
        assert!(there, "{name} is not there");
    }
    for module in files.iter().filter(|file| !file.contains('/')) {
        assert!(named.contains(&**module) || module == "architecture.rs", "{module} is not named");
    }
}

/// All texts of the code, without the line breaks that Rust's strings may have.
fn texts() -> String {
    let mut files = BTreeSet::new();
    sources(&root().join("src"), &root(), &mut files);
    let mut all = String::new();
    for file in &files {
        let source = read(file);
        let mut lines = source.lines().peekable();
        while let Some(line) = lines.next() {
            // In macros long texts end with a backslash, and go on behind the indentation.
            match line.strip_suffix('\\') {
                Some(begun) => {
                    all.push_str(begun);
                    if let Some(next) = lines.peek_mut() {
                        *next = next.trim_start();
                    }
                }
                None => {
                    all.push_str(line);
                    all.push('\n');
                }
            }
        }
    }
    all
}

#[test]
fn the_errors_that_operations_explains_are_those_of_the_code() {
    let page = read("docs/operations.md");
    let (_, table) = page.split_once("| text | cause | what to do |").expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let texts = texts();
    let mut checked = 0;
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (error, _) = row.split_once('`').unwrap();
        for part in error.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            // What is filled in stands in braces in the code.
            assert!(texts.contains(part), "`{part}` of `{error}` is in no text of the code");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn the_events_that_observability_explains_are_all_there_are() {
    let page = read("docs/observability.md");
    let (_, table) = page.split_once("\n## Events\n").expect("the section");
    let (table, _) = table.split_once("\n\n**").expect("its end");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let rows: Vec<_> = rows.map(|(event, _)| event).collect();
    let source = read("src/event.rs");
    let (_, events) = source.split_once("pub enum Event {\n").expect("the events");
    let (events, _) = events.split_once("\n}\n").expect("their end");
    // Fields stand further in.
    let events: BTreeSet<_> = events
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.trim_end_matches([' ', '{', ',']))
        .collect();
    assert!(events.len() > 10, "{events:?}");
    assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), events);
    assert_eq!(rows.len(), events.len(), "one row each");
}

#[test]
fn the_wire_page_has_every_code_that_connections_are_closed_with() {
    let page = read("docs/wire.md");
    let (_, table) = page.split_once("| code | name |").expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let rows: Vec<u32> = rows.filter_map(|(code, _)| code.parse().ok()).collect();
    let source = read("src/link.rs");
    let (_, code) = source.split_once("fn to_wire(").expect("what is written");
    let (written, read) = code.split_once("fn from_wire(").expect("what is read");
    // `(13, text)` and `13 => error`.
    let written = written.split('(').filter_map(|rest| rest.split_once(',')?.0.parse().ok());
    let read = read.lines().filter_map(|line| line.trim().split_once(" => ")?.0.parse().ok());
    let (written, read) = (written.collect::<BTreeSet<u32>>(), read.collect::<BTreeSet<u32>>());
    assert!(rows.len() > 10, "{rows:?}");
    assert!(rows.is_sorted_by(|a, b| a < b), "in order, one row each: {rows:?}");
    let rows: BTreeSet<_> = rows.into_iter().collect();
    assert_eq!(rows, written, "of the page, and written");
    assert_eq!(rows, read, "of the page, and understood");
}

/// The anchors that a page's headings have: in lower case, without punctuation, with hyphens for spaces.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let headings = page.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "certs/README.md"]
        .map(PathBuf::from)
        .to_vec();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        pages.push(Path::new("docs").join(name));
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let mut checked = 0;
    for page in &pages {
        let text = read(page);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = target.0;
            // Elsewhere, or an index in code.
            if target.starts_with("http") || target.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let at = format!("{target} in {}", page.display());
            assert!(root().join(&file).exists(), "{at}: no such file");
            let found = anchor.is_empty() || anchors(&read(&file)).contains(anchor);
            assert!(found, "{at}: no such heading");
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}
