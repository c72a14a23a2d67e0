//! Bare quinn: a stream each way, whose frames are read and written in one task at either end.

use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use cluster_quic::{DevCa, RemoteTellRef};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Mutex;

use super::{Clock, Pinger};
use crate::Error;
use crate::bare::{Ends, Frame, PREFIX, decode, encode};
use crate::measure::{SET_UP, within};

pub(super) struct Bare {
    stream: Mutex<SendStream>,
    clock: Arc<Clock>,
    /// Kept alive.
    _ends: Ends,
}

pub(super) async fn connect(ca: &DevCa) -> Result<Bare, Error> {
    let ends = crate::bare::connect(ca).await?;
    let [(_, here), (_, there)] = &ends;
    let clock = Clock::new();
    let mut stream = within(SET_UP, "a stream there", here.open_uni()).await??;
    // The other side sees a stream with its first bytes.
    within(SET_UP, "a first tell", tell(&mut stream)).await??;
    let (connection, echoes) = (there.clone(), Arc::clone(&clock));
    tokio::spawn(async move {
        // An early end shows as tells that do not come back.
        let _ = echo(&connection, &echoes).await;
    });
    let mut back = within(SET_UP, "a stream back", here.accept_uni()).await??;
    let returned = Arc::clone(&clock);
    within(SET_UP, "a first tell back", read(&mut back)).await??;
    tokio::spawn(async move {
        while read(&mut back).await.is_ok() {
            returned.returned();
        }
    });
    Ok(Bare { stream: Mutex::new(stream), clock, _ends: ends })
}

async fn echo(connection: &Connection, clock: &Clock) -> Result<(), Error> {
    let mut from = connection.accept_uni().await?;
    let mut to = connection.open_uni().await?;
    loop {
        read(&mut from).await?;
        clock.arrived();
        tell(&mut to).await?;
    }
}

async fn tell(stream: &mut SendStream) -> Result<(), Error> {
    let tell = RemoteTellRef {
        target_path: "/user/echo",
        manifest: "bench",
        payload: &[0x5a; 64],
        sender_path: None,
    };
    let mut frame = BytesMut::with_capacity(128);
    encode(&Frame::RemoteTell(tell), &mut frame)?;
    Ok(stream.write_chunk(frame.freeze()).await?)
}

async fn read(stream: &mut RecvStream) -> Result<(), Error> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut frame).await?;
    decode(&frame)?;
    Ok(())
}

impl Pinger for Bare {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn send(&self) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        Box::pin(async { tell(&mut *self.stream.lock().await).await })
    }
}
