use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::backend::quic::QuicBackend;
use crate::dev_certs::DevCa;
use crate::link::{Backend, Incoming};

const LIMIT: Duration = Duration::from_secs(20);

/// As an orderly teardown looks: lanes are reset, and the connection is closed a little later.
#[tokio::test]
async fn a_lane_that_was_reset_has_not_ended_for_a_read_that_was_dropped() {
    let identity = DevCa::new("test").unwrap().identity(&["127.0.0.1"]).unwrap();
    let node = || {
        let config = Config::builder("sys").build().unwrap();
        QuicBackend::bind(&config, &identity).unwrap()
    };
    let ((a, _), (b, bound)) = (node(), node());
    let to = Address::new("sys", "127.0.0.1", bound.port()).unwrap();
    let accepted = async { b.accept().await.unwrap().complete().await.unwrap() };
    let (ours, theirs) = tokio::join!(a.dial(&to), accepted);
    let ours = ours.unwrap();
    let mut writer = ours.open_lane(Lane::Tell(0)).await.unwrap();
    writer.write(Bytes::from_static(b"half a fr")).await.unwrap();
    let mut reader = theirs.accept_lane().await.unwrap();
    let mut chunks = Vec::new();
    assert_eq!(timeout(LIMIT, reader.read(&mut chunks)).await.unwrap(), Ok(true));
    // Unfinished, it is reset.
    drop(writer);
    let reset = async {
        while reader.reset.is_none() {
            let read = timeout(Duration::from_millis(1), reader.read(&mut chunks)).await;
            assert!(read.is_err(), "{read:?}");
        }
    };
    timeout(LIMIT, reset).await.expect("the reset arrives");
    let again = timeout(Duration::from_millis(1), reader.read(&mut chunks)).await;
    assert!(again.is_err(), "{again:?}");
    ours.close(&AssociationError::Disconnected);
    let end = timeout(LIMIT, reader.read(&mut chunks)).await.expect("closed");
    assert_eq!(end, Err(AssociationError::Disconnected));
    assert_eq!(chunks.concat(), b"half a fr");
}
