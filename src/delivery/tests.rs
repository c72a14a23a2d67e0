use std::sync::mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::address::{Address, Incarnation};
use crate::frame::{self, FrameDecoder, RemoteTellRef, TellDecoder};
use crate::sink::{RecordingSink, RemoteMessageSink};

const LANE: Lane = Lane::Tell(0);
const LARGE: usize = 32 << 20;

fn from() -> Address {
    "akka.quic://s@h:1".parse().unwrap()
}

fn instance(n: u64) -> Instance {
    Instance { incarnation: Incarnation(n), session: 0 }
}

fn run(numbers: std::ops::Range<u64>) -> Run {
    let mut buf = BytesMut::new();
    for n in numbers.clone() {
        let payload = n.to_le_bytes();
        let tell =
            RemoteTellRef { target_path: "/t", manifest: "", payload: &payload, sender_path: None };
        frame::encode_tell(&tell, tell.encoded_len() as u32, &mut buf);
    }
    whole(buf.freeze(), numbers.end - numbers.start)
}

fn whole(bytes: Bytes, frames: u64) -> Run {
    let len = bytes.len();
    Run { frames, len, pieces: vec![bytes], in_place: true, held: vec![] }
}

fn delivered(sink: &RecordingSink) -> Vec<u64> {
    let number = |payload: &[u8]| u64::from_le_bytes(*payload.first_chunk().unwrap());
    sink.records().iter().map(|(_, tell)| number(&tell.payload)).collect()
}

fn go(inbound: &Inbound, lane: &InboundLane, sink: &dyn RemoteMessageSink) -> Vec<Fault> {
    let faults = Mutex::new(Vec::new());
    deliver(&from(), inbound, lane, sink, &|fault| faults.lock().unwrap().push(fault));
    faults.into_inner().unwrap()
}

#[test]
fn few_pieces_of_a_peer_stay_where_they_came_in() {
    let inbound = Inbound::new(1 << 20, LARGE);
    let sparse = || {
        let pieces: Vec<_> = (0..32).flat_map(|n| run(n..n + 1).pieces).collect();
        let len = pieces.iter().map(Bytes::len).sum();
        Run { frames: 32, len, pieces, in_place: true, held: vec![] }
    };
    let mut runs = Vec::new();
    for _ in 0..10 {
        let mut run = sparse();
        inbound.settle(&mut run);
        runs.push(run);
    }
    let in_place = |runs: &[Run]| runs.iter().map(Run::pieces_in_place).sum::<usize>();
    assert_eq!(in_place(&runs), IN_PLACE);
    assert!(runs.iter().all(|run| run.frames == 32));
    runs.clear();
    let mut run = sparse();
    inbound.settle(&mut run);
    assert_eq!(run.pieces_in_place(), 32, "they were given back");
}

#[test]
fn short_runs_that_wait_keep_no_more_than_they_count_for() {
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let (sink, epoch) = (RecordingSink::default(), inbound.fence());
    let lane = inbound.lane(epoch, LANE).unwrap();
    const RUNS: u64 = 5_000;
    for n in 0..RUNS {
        lane.push(epoch, n, run(n..n + 1)).unwrap();
    }
    {
        let state = lane.lock();
        let kept: usize = state.queue.iter().map(Waiting::overhead).sum();
        assert!(kept < 2 * state.bytes, "{kept} for {}", state.bytes);
        assert_eq!(state.stats.waiting_frames, RUNS);
    }
    // Another connection's frames are not taken for this one's.
    let later = inbound.fence();
    lane.push(later, RUNS, run(RUNS..RUNS + 1)).unwrap();
    assert_eq!(lane.lock().queue.back().unwrap().epoch, later);
    assert_eq!(go(&inbound, &lane, &sink), []);
    assert_eq!(delivered(&sink), (0..=RUNS).collect::<Vec<_>>());
    let stats = lane.stats();
    assert_eq!((stats.waiting_bytes, stats.waiting_frames), (0, 0));
    assert_eq!(stats.delivered_frames, RUNS + 1);
}

#[test]
fn what_was_received_before_is_left_out() {
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let sink = RecordingSink::default();
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    assert_eq!(lane.push(epoch, 0, run(0..5)), Ok(Pushed::StartDelivery));
    assert_eq!(inbound.resume().unwrap().next, [(LANE, 5)]);
    // The next connection resends from what was acknowledged.
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    assert_eq!(lane.push(epoch, 3, run(3..8)), Ok(Pushed::Queued));
    go(&inbound, &lane, &sink);
    assert_eq!(delivered(&sink), (0..8).collect::<Vec<_>>());
    assert_eq!(inbound.stats()[0].1.duplicates, 2);
    assert_eq!(inbound.positions(), [(LANE, 8)]);
    assert!(inbound.is_settled());
}

#[test]
fn an_old_connection_s_reader_is_fenced() {
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let old = inbound.fence();
    let lane = inbound.lane(old, LANE).unwrap();
    lane.push(old, 0, run(0..2)).unwrap();
    let new = inbound.fence();
    assert_eq!(lane.push(old, 2, run(2..3)), Ok(Pushed::Fenced));
    assert!(inbound.lane(old, LANE).is_none());
    assert_eq!(inbound.resume().unwrap().next, [(LANE, 2)]);
    assert_eq!(lane.push(new, 2, run(2..3)), Ok(Pushed::Queued));
}

#[test]
fn a_new_instance_numbers_anew_and_old_acknowledgements_are_not_said_to_it() {
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    lane.push(epoch, 0, run(0..5)).unwrap();
    inbound.adopt(instance(2));
    assert_eq!(inbound.resume().unwrap().next, []);
    assert_eq!(inbound.positions(), []);
    let epoch = inbound.fence();
    lane.push(epoch, 0, run(100..102)).unwrap();
    let sink = RecordingSink::default();
    go(&inbound, &lane, &sink);
    assert_eq!(delivered(&sink), [0, 1, 2, 3, 4, 100, 101]);
    assert_eq!(inbound.positions(), [(LANE, 2)]);
}

#[test]
fn a_panicking_sink_loses_nobody_else_s_tell() {
    struct Panics(RecordingSink);
    impl RemoteMessageSink for Panics {
        fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
            assert!(![0, 3, 4, 7].contains(&tell.payload[0]), "the sink's own bug");
            self.0.deliver(from, tell);
        }
    }
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    lane.push(epoch, 0, run(0..8)).unwrap();
    let sink = Panics(RecordingSink::default());
    let faults = go(&inbound, &lane, &sink);
    assert_eq!(delivered(&sink.0), [1, 2, 5, 6]);
    assert_eq!(faults, [const { Fault::SinkPanicked(LANE) }; 4]);
    assert_eq!(inbound.positions(), [(LANE, 8)]);
    let stats = inbound.stats()[0].1;
    assert_eq!((stats.delivered_frames, stats.sink_panics), (8, 4));
    assert_eq!(stats.delivered_bytes, run(0..8).len as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The memory of the frame before changes what decoding costs, and nothing else.
    #[test]
    fn a_frame_is_the_same_behind_any_other(
        frames in proptest::collection::vec(
            ("[ab]{0,2}", "[ab]{0,2}", proptest::option::of("[ab]{0,2}"), (0..36_u8, any::<u8>())), 1..12)
    ) {
        let mut encoded = Vec::new();
        for (target_path, manifest, sender_path, (at, byte)) in &frames {
            let sender_path = sender_path.as_deref();
            let tell = RemoteTellRef { target_path, manifest, payload: b"x", sender_path };
            let mut buf = BytesMut::new();
            frame::encode_tell(&tell, tell.encoded_len() as u32, &mut buf);
            // A third of them damaged: no text, wrong lengths.
            let at = usize::from(*at);
            if let Some(damaged) = buf[frame::PREFIX..].get_mut(at) {
                *damaged = *byte;
            }
            encoded.push(buf);
        }
        let mut decoder = TellDecoder::default();
        for frame in &encoded {
            let frame = &frame[frame::PREFIX..];
            prop_assert_eq!(decoder.decode(frame), TellDecoder::default().decode(frame));
        }
    }
}

#[test]
fn a_frame_that_is_none_is_reported() {
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    // Gossip in a tell lane.
    let bytes = Bytes::from_static(&[0, 0, 0, 2, 0, 0]);
    lane.push(epoch, 0, whole(bytes, 1)).unwrap();
    let faults = go(&inbound, &lane, &RecordingSink::default());
    let error = FrameError::WrongLane { what: "gossip" };
    assert_eq!(faults, [Fault::Frame { lane: LANE, error, epoch }]);
    let stats = inbound.stats()[0].1;
    assert_eq!((stats.delivered_frames, stats.refused_frames), (0, 1));
    assert_eq!(stats.delivered_bytes, 0);
}

#[tokio::test]
async fn a_full_lane_makes_its_reader_wait() {
    let inbound = Arc::new(Inbound::new(100, LARGE));
    inbound.adopt(instance(1));
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    lane.push(epoch, 0, run(0..20)).unwrap();
    let waits = lane.room(&inbound, epoch);
    tokio::pin!(waits);
    assert!(futures_pending(&mut waits).await);
    go(&inbound, &lane, &RecordingSink::default());
    tokio::time::timeout(Duration::from_secs(5), waits).await.unwrap();
}

/// Whether the future is still pending after one poll.
async fn futures_pending(future: &mut std::pin::Pin<&mut impl Future<Output = usize>>) -> bool {
    tokio::select! {
        biased;
        _ = future.as_mut() => false,
        () = std::future::ready(()) => true,
    }
}

#[test]
fn acknowledgements_follow_a_slow_sink_tell_by_tell() {
    struct Slow(Mutex<mpsc::Receiver<()>>, mpsc::Sender<()>);
    impl RemoteMessageSink for Slow {
        fn deliver(&self, _: &Address, _: RemoteTellRef<'_>) {
            self.1.send(()).unwrap();
            self.0.lock().unwrap().recv().unwrap();
        }
    }
    let inbound = Inbound::new(1 << 20, LARGE);
    inbound.adopt(instance(1));
    let epoch = inbound.fence();
    let lane = inbound.lane(epoch, LANE).unwrap();
    lane.push(epoch, 0, run(0..3)).unwrap();
    let (go_on, waits) = mpsc::channel();
    let (entered, in_sink) = mpsc::channel();
    let sink = Slow(Mutex::new(waits), entered);
    std::thread::scope(|scope| {
        scope.spawn(|| deliver(&from(), &inbound, &lane, &sink, &|_| {}));
        for n in 0..3 {
            in_sink.recv().unwrap();
            assert_eq!(inbound.positions(), [(LANE, n)], "the sink has not returned yet");
            go_on.send(()).unwrap();
        }
    });
    assert_eq!(inbound.positions(), [(LANE, 3)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a stream is cut into chunks, the same frames come out, and no memory is held for what
    /// is only claimed.
    #[test]
    fn any_chunks_make_the_same_frames(cuts in proptest::collection::vec(prop_oneof![1..200_usize, 500..4000_usize], 1..60), batch in 1..5_usize) {
        let whole = run(0..600);
        let mut decoder = FrameDecoder::default();
        let mut rest = whole.pieces[0].clone();
        let mut chunks = Vec::new();
        let (mut bytes, mut frames) = (Vec::new(), 0);
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            chunks.push(rest.split_to(cuts.next().unwrap().min(rest.len())));
            if (chunks.len() == batch || rest.is_empty())
                && let Some(run) = decoder.push_all(&mut chunks).unwrap()
            {
                prop_assert_eq!(run.len, run.pieces.iter().map(Bytes::len).sum::<usize>());
                for piece in &run.pieces {
                    prop_assert_eq!(frame::whole_frames(piece, u64::MAX).unwrap().1, piece.len());
                    bytes.extend_from_slice(piece);
                }
                frames += run.frames;
            }
        }
        prop_assert_eq!(frames, 600);
        prop_assert_eq!(&bytes[..], &whole.pieces[0][..]);
        prop_assert_eq!(decoder.pending(), 0);
    }
}

#[test]
fn frames_are_left_out_across_pieces() {
    let pieces: Vec<_> = [0..3, 3..4, 4..9].into_iter().flat_map(|n| run(n).pieces).collect();
    let len = pieces.iter().map(Bytes::len).sum();
    for skip in 0..12 {
        let mut run = Run { pieces: pieces.clone(), frames: 9, len, in_place: true, held: vec![] };
        assert_eq!(run.skip(skip), Ok(skip.min(9)));
        assert_eq!(run.frames, 9 - skip.min(9));
        assert_eq!(run.len, self::run(skip.min(9)..9).len);
        let in_pieces = run.pieces.concat();
        run.compact();
        assert_eq!(run.pieces.concat(), in_pieces);
        assert_eq!(in_pieces, self::run(skip.min(9)..9).pieces.concat());
    }
}

#[test]
fn length_prefixes_are_checked_before_anything_is_gathered() {
    let push = |bytes: &'static [u8]| {
        FrameDecoder::default().push_all(&mut vec![Bytes::from_static(bytes)])
    };
    assert_eq!(push(&[0, 0, 0, 0]).unwrap_err(), FrameError::Empty);
    let huge = push(&[0xff; 4]).unwrap_err();
    assert!(matches!(huge, FrameError::TooLarge { .. }));
    assert!(push(&[1, 0, 0, 0]).unwrap().is_none(), "16 MiB are within the limit");
}
