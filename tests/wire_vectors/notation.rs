//! The page's words as bytes, by the rules that it gives, and by no code of the library's.

use std::str::FromStr;

use crate::document::{Block, Field};

/// An error where a field's bytes are not what its words say, or a length is not the length.
pub(crate) fn check(block: &Block) -> Result<(), String> {
    let refused = block.kind.starts_with("refused");
    for (n, field) in block.fields.iter().enumerate() {
        let wrong = |what: &str| Err(format!("line {}, `{}`: {what}", block.line, field.words));
        let Some(expected) = encode(&field.words) else {
            match refused || block.kind.starts_with("lax") {
                true => continue,
                false => return wrong("a type for what is well formed"),
            }
        };
        if field.bytes != expected {
            return wrong(&format!("{} where {} is meant", hex(&field.bytes), hex(&expected)));
        }
        let rest = following(&block.fields[n + 1..]);
        if field.words.starts_with("length: ") && !refused && number(&field.words) != rest {
            return wrong(&format!("{rest} bytes follow"));
        }
    }
    Ok(())
}

/// The bytes of a frame or message: up to the next length.
fn following(fields: &[Field]) -> u64 {
    let ours = fields.iter().take_while(|field| !field.words.starts_with("length: "));
    ours.map(|field| field.bytes.len() as u64).sum()
}

/// The bytes of `name: type value (remark)`; `None` for the type `raw`, whose bytes speak for themselves.
fn encode(words: &str) -> Option<Vec<u8>> {
    let (_, rest) = words.split_once(": ").unwrap_or_else(|| panic!("no type: {words}"));
    let (kind, value) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match kind {
        "u8" => vec![u8::try_from(number(words)).unwrap()],
        "u32be" => u32::try_from(number(words)).unwrap().to_be_bytes().to_vec(),
        "u64be" => number(words).to_be_bytes().to_vec(),
        "int" => int(number(words)),
        "signed" => int(zigzag(value_of(words))),
        "u128" => wide(value_of(words)),
        "i8" => value_of::<i8>(words).to_le_bytes().to_vec(),
        "bool" => vec![u8::from(value_of::<bool>(words))],
        "f32" => value_of::<f32>(words).to_le_bytes().to_vec(),
        "f64" => value_of::<f64>(words).to_le_bytes().to_vec(),
        "char" => value_of::<char>(words).to_string().into_bytes(),
        "none" => vec![0],
        "some" => vec![1],
        "text" => {
            let text = quoted(value);
            let mut bytes = int(text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
            bytes
        }
        "bytes" => {
            let (hex, _) = value.split_once(" (").unwrap_or((value, ""));
            let content: Vec<_> =
                hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let mut bytes = int(content.len() as u64);
            bytes.extend(content);
            bytes
        }
        "raw" => return None,
        other => panic!("unknown type {other}: {words}"),
    })
}

/// The shortest form of an unsigned integer.
fn int(n: u64) -> Vec<u8> {
    match n {
        0..=250 => vec![n as u8],
        251..=0xffff => [&[251], &(n as u16).to_le_bytes()[..]].concat(),
        0x1_0000..=0xffff_ffff => [&[252], &(n as u32).to_le_bytes()[..]].concat(),
        _ => [&[253], &n.to_le_bytes()[..]].concat(),
    }
}

fn zigzag(n: i64) -> u64 {
    if n < 0 { 2 * n.unsigned_abs() - 1 } else { 2 * n.unsigned_abs() }
}

/// An integer of 128 bits.
fn wide(n: u128) -> Vec<u8> {
    match u64::try_from(n) {
        Ok(n) => int(n),
        Err(_) => [&[254], &n.to_le_bytes()[..]].concat(),
    }
}

fn number(words: &str) -> u64 {
    value_of(words)
}

fn value_of<T: FromStr>(words: &str) -> T {
    let (_, rest) = words.split_once(": ").unwrap_or_default();
    let value = rest.split(' ').nth(1).unwrap_or_default();
    value.parse().unwrap_or_else(|_| panic!("no such value: {words}"))
}

fn quoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    inner.unwrap_or_else(|| panic!("no quotes: {value}")).0
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(" ")
}
