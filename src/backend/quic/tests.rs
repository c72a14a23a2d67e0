use super::*;
use crate::dev_certs::DevCa;
use crate::link::Link as _;

/// Connections wait when many greet at a time, and a member with an old certificate can see to it that they
/// wait long.
#[tokio::test]
async fn a_connection_that_waited_through_a_renewal_is_made_with_the_new_identity() {
    let ca = DevCa::new("test").unwrap();
    let [old, new, other] = [(); 3].map(|()| ca.identity(&["127.0.0.1"]).unwrap());
    let config = Config::builder("test").build().unwrap();
    let (backend, bound) = QuicBackend::bind(&config, &old).unwrap();
    let (dialler, _) = QuicBackend::bind(&config, &other).unwrap();
    let own = Address::new("test", "127.0.0.1", bound.port()).unwrap();
    let dialled = tokio::spawn({
        let own = own.clone();
        async move { dialler.dial(&own).await.map(|link| (link.certificate(), dialler)) }
    });
    let limit = Duration::from_secs(10);
    let waiting = timeout(limit, backend.endpoint().unwrap().accept()).await.unwrap().unwrap();
    backend.renew(&own, &config, &new).unwrap();
    let incoming = backend.take_in(waiting);
    let link = timeout(limit, incoming.complete()).await.unwrap().unwrap();
    let (shown, _dialler) = timeout(limit, dialled).await.unwrap().unwrap().unwrap();
    assert_eq!(shown, Some(new.certificate()));
    assert!(link.is_current());
}
