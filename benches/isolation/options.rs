//! The command line.

pub(crate) const USAGE: &str = "\
usage: cargo bench --bench isolation -- [--quick] [NAME]...

  --quick   shorter runs, in which the startup weighs more; targets are not judged
  NAME      only cases whose name contains it, such as loopback, Mbit, 40ms, low-delay, cubic, two";

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    names: Vec<String>,
}

impl Options {
    /// `None` if help was asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        for argument in arguments {
            match argument.as_str() {
                // cargo passes it.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--help" | "-h" => return Ok(None),
                name if name.starts_with('-') => return Err(format!("there is no option {name}")),
                _ => options.names.push(argument),
            }
        }
        Ok(Some(options))
    }

    /// Whether a case of this name is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.iter().all(|filter| name.contains(filter.as_str()))
    }
}
