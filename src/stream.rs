//! A received stream: its header, then runs of whole frames; and the control lane read as messages.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::control::{Control, ControlError, MAX_CONTROL, STREAM_HEADER, parse_stream_header};
use crate::delivery::{Grant, LargeFrames};
use crate::error::AssociationError;
use crate::frame::{FrameDecoder, MAX_FRAME, PREFIX, Run, next_frame};
use crate::lane::Lane;
use crate::link::LaneReader;

/// Reads one lane's stream.
#[derive(Debug)]
pub(crate) struct Intake<R> {
    reader: R,
    chunks: Vec<Bytes>,
    decoder: FrameDecoder,
    /// Bytes of one incomplete frame that are gathered at most.
    limit: usize,
    /// Where the lane asks for room for large frames, if it must.
    large: Option<LargeFrames>,
    /// The room of the frame under way.
    granted: Option<Grant>,
}

impl<R: LaneReader> Intake<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self::with_limit(reader, MAX_FRAME + PREFIX)
    }

    fn with_limit(reader: R, limit: usize) -> Self {
        Self {
            reader,
            chunks: Vec::new(),
            decoder: FrameDecoder::default(),
            limit,
            large: None,
            granted: None,
        }
    }

    /// From here on large frames take their room from `large`.
    pub(crate) fn ask(&mut self, large: LargeFrames) {
        self.large = Some(large);
    }

    /// Waits for the room of a large frame that has begun to come.
    async fn claim(&mut self) -> Result<(), AssociationError> {
        let Some(large) = self.large.as_ref().filter(|_| self.granted.is_none()) else {
            return Ok(());
        };
        let claimed = self.decoder.claimed();
        let claimed = claimed.map_err(|e| AssociationError::Protocol(e.to_string()))?;
        if let Some(len) = claimed {
            self.granted = large.grant(len).await;
        }
        Ok(())
    }

    /// The stream's header; the first call on a stream.
    pub(crate) async fn header(&mut self) -> Result<(Lane, u64), AssociationError> {
        let mut header = BytesMut::with_capacity(STREAM_HEADER);
        while header.len() < STREAM_HEADER {
            if !self.reader.read(&mut self.chunks).await? {
                return Err(AssociationError::Protocol("a stream ended in its header".into()));
            }
            while let Some(chunk) = self.chunks.first_mut() {
                let part = chunk.split_to(chunk.len().min(STREAM_HEADER - header.len()));
                header.extend_from_slice(&part);
                if !chunk.is_empty() {
                    break;
                }
                self.chunks.remove(0);
            }
        }
        let header = header.first_chunk().ok_or(AssociationError::Protocol(String::new()))?;
        parse_stream_header(header).map_err(AssociationError::Protocol)
    }

    /// The next whole frames; `None` at the stream's end.
    pub(crate) async fn run(&mut self) -> Result<Option<Run>, AssociationError> {
        let refused = |e: crate::error::FrameError| AssociationError::Protocol(e.to_string());
        loop {
            if !self.chunks.is_empty() {
                if let Some(mut run) = self.decoder.push_all(&mut self.chunks).map_err(refused)? {
                    // A frame under way was the first to be completed.
                    run.held.extend(self.granted.take().map(|grant| Arc::new(grant) as _));
                    return Ok(Some(run));
                }
                let held = self.decoder.pending();
                if held > self.limit {
                    return Err(AssociationError::Protocol(format!("a message over {held} bytes")));
                }
            }
            self.claim().await?;
            if !self.reader.read(&mut self.chunks).await? {
                return match self.decoder.pending() {
                    0 => Ok(None),
                    _ => Err(AssociationError::Protocol("a lane ended in mid-frame".into())),
                };
            }
        }
    }
}

/// Reads the control lane.
#[derive(Debug)]
pub(crate) struct ControlReader<R> {
    intake: Intake<R>,
    /// Whole messages, the next one at the front of the first.
    pieces: VecDeque<Bytes>,
}

impl<R: LaneReader> ControlReader<R> {
    /// From a stream that must turn out to be the control lane.
    pub(crate) async fn open(reader: R) -> Result<Self, AssociationError> {
        let mut intake = Intake::with_limit(reader, MAX_CONTROL + PREFIX);
        match intake.header().await? {
            (Lane::Control, _) => Ok(Self { intake, pieces: VecDeque::new() }),
            (lane, _) => {
                Err(AssociationError::Protocol(format!("the {lane} lane came before the greeting")))
            }
        }
    }

    /// The next message; `None` at the lane's end.
    pub(crate) async fn next(&mut self) -> Result<Option<Control>, AssociationError> {
        let mut piece = self.pieces.pop_front();
        while piece.is_none() {
            let Some(run) = self.intake.run().await? else { return Ok(None) };
            self.pieces = run.pieces.into();
            piece = self.pieces.pop_front();
        }
        let mut piece = piece.unwrap_or_default();
        let mut rest = &piece[..];
        let message = next_frame(&mut rest).map(Control::decode);
        let used = piece.len() - rest.len();
        piece.advance(used);
        if !piece.is_empty() {
            self.pieces.push_front(piece);
        }
        match message {
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(e @ ControlError::Version { .. })) => {
                Err(AssociationError::Version(e.to_string()))
            }
            Some(Err(ControlError::Frame(e))) => Err(AssociationError::Protocol(e.to_string())),
            None => Err(AssociationError::Protocol("a torn control message".into())),
        }
    }
}
