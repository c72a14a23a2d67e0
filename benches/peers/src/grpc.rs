//! gRPC by tonic: one channel, hence one HTTP/2 connection over TCP and TLS; tells are messages of a
//! client-streaming call, and gossip those of a second call on the same channel. gRPC has no priorities.
//!
//! The stream of tells makes them as the connection asks for them, so there is no channel between, and
//! always has one ready, so that tonic puts many into one buffer (`YIELD`). The receiver's windows and frames
//! are larger than HTTP/2's defaults of 64 KiB and 16 KiB.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use cluster_quic::DevCa;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::codec::BufferSettings;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::Error;
use crate::counter::{Load, target_path};
use crate::subject::{MANIFEST, Probe, Receiver, Sending, Subject};

#[allow(unreachable_pub, reason = "as tonic generates it")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/peers.Node.rs"));
}

use generated::node_client::NodeClient;
use generated::node_server::{Node, NodeServer};

/// What a call may have on its way.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME: u32 = 128 << 10;

/// How much is encoded before any of it goes to the connection: as much as fits a frame.
const YIELD: usize = 64 << 10;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Tell {
    #[prost(string, tag = "1")]
    target_path: String,
    #[prost(string, tag = "2")]
    manifest: String,
    #[prost(bytes = "bytes", tag = "3")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Done {}

/// prost, with larger buffers.
pub(crate) struct Codec<T, U>(std::marker::PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(2 * YIELD, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(2 * YIELD, YIELD))
    }
}

pub(crate) struct Grpc {
    client: NodeClient<Channel>,
    gossip: mpsc::UnboundedSender<Tell>,
    receiver: Arc<Receiver>,
}

/// The receiving node.
struct Receiving(Arc<Receiver>);

#[tonic::async_trait]
impl Node for Receiving {
    async fn tell(&self, tells: Request<Streaming<Tell>>) -> Result<Response<Done>, Status> {
        let mut tells = tells.into_inner();
        while let Some(tell) = tells.message().await? {
            self.0.tells.record(&tell.target_path, &tell.payload);
        }
        Ok(Response::new(Done {}))
    }

    async fn gossip(&self, messages: Request<Streaming<Tell>>) -> Result<Response<Done>, Status> {
        let mut messages = messages.into_inner();
        while let Some(message) = messages.message().await? {
            self.0.hear(&message.payload);
        }
        Ok(Response::new(Done {}))
    }
}

impl Grpc {
    pub(crate) async fn new(ca: &DevCa) -> Result<Self, Error> {
        let issued = ca.issue(&["127.0.0.1"])?;
        let identity = Identity::from_pem(&issued.chain, &issued.key);
        let root = Certificate::from_pem(ca.certificate());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let receiver = Receiver::new();
        let serving = Server::builder()
            .tls_config(
                ServerTlsConfig::new().identity(identity.clone()).client_ca_root(root.clone()),
            )?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .add_service(NodeServer::new(Receiving(Arc::clone(&receiver))));
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            // As with a listener of tonic's own.
            stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        });
        tokio::spawn(async move {
            if let Err(error) = serving.serve_with_incoming(incoming).await {
                eprintln!("tonic's server ended: {error}");
            }
        });
        let channel = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(ClientTlsConfig::new().ca_certificate(root).identity(identity))?
            .tcp_nodelay(true)
            .connect()
            .await?;
        let client = NodeClient::new(channel);
        let (gossip, messages) = mpsc::unbounded_channel();
        let mut gossiping = client.clone();
        tokio::spawn(async move {
            // Ends with the sender.
            if let Err(error) = gossiping.gossip(UnboundedReceiverStream::new(messages)).await {
                eprintln!("tonic's gossip call ended: {error}");
            }
        });
        Ok(Self { client, gossip, receiver })
    }
}

impl Subject for Grpc {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        let mut client = self.client.clone();
        let mut payloads = BytesMut::new();
        let tells = (0..load.tells).map(move |sequence| Tell {
            target_path: target_path(0),
            manifest: MANIFEST.into(),
            payload: payload(&mut payloads, sequence, load.payload),
        });
        Box::pin(async move {
            client.tell(Ready(tells)).await?;
            Ok(())
        })
    }

    fn gossip(&self, probe: Probe) -> Result<(), Error> {
        let message = Tell {
            target_path: "/gossip".into(),
            manifest: MANIFEST.into(),
            payload: Bytes::copy_from_slice(&probe),
        };
        self.gossip.send(message).map_err(|_| "tonic's gossip call has ended".into())
    }

    fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}

/// An iterator as a stream that never waits. Those of libraries pause every few items, which would send
/// what there is of a buffer.
struct Ready<I>(I);

impl<I: Iterator + Unpin> Stream for Ready<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// A payload that is cut off a buffer, which is allocated for many.
fn payload(buffer: &mut BytesMut, sequence: u64, len: usize) -> Bytes {
    if buffer.capacity() < len {
        buffer.reserve(len.max(64 << 10));
    }
    buffer.extend_from_slice(&sequence.to_le_bytes());
    buffer.resize(len, 0x5a);
    buffer.split().freeze()
}
