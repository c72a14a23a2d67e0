//! Small tells to other targets while one target receives 16 MiB tells.

use std::time::Duration;

use cluster_quic::{Config, DevCa};
use tokio::runtime::Runtime;

use super::places::{Place, Places};
use crate::beside_bulk::{self, Delays};
use crate::report::progress;
use crate::{Error, Options};

pub(super) const NAME: &str = "loopback/small-beside-16MiB";

/// `None` if it is not wanted. The delays are in milliseconds.
pub(super) fn measure(options: &Options, director: &Runtime) -> Result<Option<Delays>, Error> {
    if !options.wants(NAME) {
        return Ok(None);
    }
    progress(NAME);
    let time = Duration::from_millis(if options.quick { 500 } else { 5000 });
    let places = Places::new(Place::Shared)?;
    let measuring = places.from.spawn(async move {
        let config = Config::builder("bench").build()?;
        beside_bulk::delays(&DevCa::new("isolation")?, &config, time).await
    });
    let Delays { mut other, mut same } = director.block_on(measuring)??;
    progress("");
    for delay in other.iter_mut().chain(&mut same) {
        *delay *= 1e3;
    }
    Ok(Some(Delays { other, same }))
}
