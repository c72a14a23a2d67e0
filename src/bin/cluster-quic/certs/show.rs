//! `certs show`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use super::contents::Contents;
use crate::certificate::Description;
use crate::failure::Failure;
use crate::report::json;

#[derive(Serialize)]
struct Shown {
    file: String,
    certificates: Vec<Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(super) fn run(files: &[PathBuf], as_json: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    let shown: Vec<_> = files.iter().map(|path| look(&Contents::read(path), now)).collect();
    let out = &mut io::stdout().lock();
    if as_json {
        json(out, &shown)?;
    } else {
        for (n, file) in shown.iter().enumerate() {
            if n > 0 {
                writeln!(out)?;
            }
            print(out, file)?;
        }
    }
    match shown.iter().any(|file| file.problem.is_some()) {
        true => Err(Failure::Told),
        false => Ok(()),
    }
}

fn look(file: &Contents, now: SystemTime) -> Shown {
    let mut certificates = Vec::new();
    let mut problem = file.problem.clone();
    for (position, der) in (1..).zip(&file.certificates) {
        match Description::of(der, now) {
            Ok(description) => certificates.push(description),
            Err(error) => {
                problem.get_or_insert(format!("certificate {position} is malformed: {error}"));
            }
        }
    }
    if file.certificates.is_empty() {
        problem = Some(file.instead("CERTIFICATE"));
    }
    Shown { file: file.name(), certificates, problem }
}

fn print(out: &mut impl Write, file: &Shown) -> io::Result<()> {
    let many = file.certificates.len() > 1;
    for (position, certificate) in (1..).zip(&file.certificates) {
        if position > 1 {
            writeln!(out)?;
        }
        match many {
            true => writeln!(out, "{}, certificate {position}", file.file)?,
            false => writeln!(out, "{}", file.file)?,
        }
        certificate.print(out)?;
    }
    match &file.problem {
        Some(problem) => writeln!(out, "{} {problem}", file.file),
        None => Ok(()),
    }
}
