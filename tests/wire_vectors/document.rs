//! The blocks of bytes in `docs/wire.md`.

use std::path::Path;

/// A fenced block that begins with ` ```wire KIND`.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// Its first line in the page.
    pub(crate) line: usize,
    pub(crate) kind: String,
    pub(crate) fields: Vec<Field>,
    /// What stands behind `=`: how the library prints what the bytes mean.
    pub(crate) meaning: Option<String>,
    /// What stands behind `!`: the error.
    pub(crate) error: Option<String>,
}

/// Some bytes, and what stands beside them.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) bytes: Vec<u8>,
    /// `name: type value`, with a remark in parentheses or not.
    pub(crate) words: String,
}

impl Block {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|field| field.bytes.iter().copied()).collect()
    }

    /// Changes one bit of the byte at `at`.
    pub(crate) fn flip(&mut self, at: usize) {
        let mut bytes = self.fields.iter_mut().flat_map(|field| field.bytes.iter_mut());
        *bytes.nth(at).unwrap() ^= 1;
    }
}

pub(crate) fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire.md");
    std::fs::read_to_string(path).unwrap()
}

pub(crate) fn blocks() -> Vec<Block> {
    let page = page();
    let mut lines = page.lines().enumerate();
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```wire ") else { continue };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        blocks.push(parse(number + 1, kind, body));
    }
    blocks
}

fn parse<'a>(line: usize, kind: &str, body: impl Iterator<Item = &'a str>) -> Block {
    let mut block =
        Block { line, kind: kind.into(), fields: Vec::new(), meaning: None, error: None };
    let mut bytes = Vec::new();
    for text in body {
        if let Some(meaning) = text.strip_prefix("= ") {
            block.meaning = Some(meaning.into());
            continue;
        }
        if let Some(error) = text.strip_prefix("! ") {
            block.error = Some(error.into());
            continue;
        }
        // Bytes that go on in the next line have nothing beside them.
        let (hex, words) = text.split_once("  ").unwrap_or((text, ""));
        bytes.extend(hex.split_whitespace().map(|byte| {
            let two = byte.len() == 2;
            let byte = u8::from_str_radix(byte, 16).ok().filter(|_| two);
            byte.unwrap_or_else(|| panic!("in the block of line {line}: {text}"))
        }));
        if !words.is_empty() {
            let words = words.trim().to_owned();
            block.fields.push(Field { bytes: std::mem::take(&mut bytes), words });
        }
    }
    assert!(bytes.is_empty(), "line {line}: bytes without words");
    block
}
