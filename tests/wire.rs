//! Frames are, byte for byte, those of `atomr_cluster::ClusterFrame`; and no input but a frame is
//! taken for one.
#![cfg(feature = "atomr")]

use atomr_cluster::{ClusterFrame as AtomrFrame, GossipPdu, Member, MembershipState, VectorClock};
use atomr_core::actor::Address as AtomrAddress;
use bincode::config::standard;
use cluster_quic::{ClusterFrame, FrameError, MAX_FRAME, RemoteTell};
use proptest::prelude::*;

type Frame = ClusterFrame<GossipPdu>;

fn atomr_bytes(frame: &AtomrFrame) -> Vec<u8> {
    bincode::serde::encode_to_vec(frame, standard()).unwrap()
}

fn ours(frame: &AtomrFrame) -> Frame {
    match frame.clone() {
        AtomrFrame::Gossip(pdu) => ClusterFrame::Gossip(pdu),
        AtomrFrame::RemoteTell { target_path, manifest, payload, sender_path } => {
            ClusterFrame::RemoteTell(RemoteTell { target_path, manifest, payload, sender_path })
        }
    }
}

/// Lengths around every step of bincode's varints that a frame can hold, and any short one.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..40_usize,
        1 => 248..254_usize,
        1 => 65_533..65_540_usize,
    ]
}

fn text() -> impl Strategy<Value = String> {
    (length(), "[a-zé/ü€:@.]").prop_map(|(len, unit)| {
        let mut text = unit.repeat(len / unit.len() + 1);
        while text.len() > len && !text.is_char_boundary(len) {
            text.pop();
        }
        text.truncate(if text.is_char_boundary(len) { len } else { 0 });
        text
    })
}

fn clock() -> impl Strategy<Value = VectorClock> {
    let count = prop_oneof![0..300_u64, 65_530..65_540_u64, any::<u64>()];
    proptest::collection::btree_map("[a-z]{0,8}", count, 0..5).prop_map(|versions| {
        let mut clock = VectorClock::new();
        clock.versions = versions;
        clock
    })
}

fn state() -> impl Strategy<Value = MembershipState> {
    let member =
        ("[a-z]{1,6}", any::<u16>(), any::<i32>(), proptest::collection::vec("[a-z]{0,4}", 0..3));
    proptest::collection::vec(member, 0..6).prop_map(|members| {
        let mut state = MembershipState::new();
        for (host, port, up_number, roles) in members {
            let mut member = Member::new(AtomrAddress::remote("akka.quic", "s", host, port), roles);
            member.up_number = up_number;
            state.members.push(member);
        }
        if let [a, b, ..] = &state.members[..] {
            let (a, b) = (a.address.clone(), b.address.clone());
            state.reachability.unreachable(a, b);
        }
        state
    })
}

fn frame() -> impl Strategy<Value = AtomrFrame> {
    let payload = (length(), any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
    prop_oneof![
        (text(), clock())
            .prop_map(|(from, version)| AtomrFrame::Gossip(GossipPdu::Status { from, version })),
        (text(), clock())
            .prop_map(|(from, version)| AtomrFrame::Gossip(GossipPdu::Merge { from, version })),
        (text(), clock(), state()).prop_map(|(from, version, state)| {
            AtomrFrame::Gossip(GossipPdu::Envelope { from, version, state })
        }),
        (text(), text(), payload, proptest::option::of(text())).prop_map(
            |(target_path, manifest, payload, sender_path)| AtomrFrame::RemoteTell {
                target_path,
                manifest,
                payload,
                sender_path
            }
        ),
    ]
}

fn same(frame: &Frame, atomr: &AtomrFrame) -> bool {
    // atomr's types have no equality; their text shows every field.
    format!("{frame:?}") == format!("{:?}", ours(atomr))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encodings_are_equal_both_ways(atomr in frame()) {
        let theirs = atomr_bytes(&atomr);
        let ours_encoded = ours(&atomr).encode().unwrap();
        prop_assert_eq!(&ours_encoded[..], &theirs[..]);
        // Ours decodes theirs, and theirs decodes ours.
        prop_assert!(same(&Frame::decode(&theirs).unwrap(), &atomr));
        let (back, used): (AtomrFrame, usize) =
            bincode::serde::decode_from_slice(&ours_encoded, standard()).unwrap();
        prop_assert_eq!(used, ours_encoded.len());
        prop_assert_eq!(format!("{back:?}"), format!("{atomr:?}"));
        if let ClusterFrame::RemoteTell(tell) = ours(&atomr) {
            prop_assert_eq!(tell.borrowed().encoded_len(), theirs.len());
        }
    }

    #[test]
    fn every_truncation_and_extension_is_an_error(atomr in frame(), cut: proptest::sample::Index) {
        let bytes = atomr_bytes(&atomr);
        prop_assert!(Frame::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Frame::decode(&longer).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&bytes);
    }
}

#[test]
fn payload_lengths_at_the_wide_varint_step() {
    // 2^16 and the frame limit: too large for many random cases.
    for len in [65_535, 65_536, MAX_FRAME - 200] {
        let atomr = AtomrFrame::RemoteTell {
            target_path: "/user/a".into(),
            manifest: "m".into(),
            payload: vec![7; len],
            sender_path: Some("/user/b".into()),
        };
        let bytes = ours(&atomr).encode().unwrap();
        assert!(bytes == atomr_bytes(&atomr));
        assert!(same(&Frame::decode(&bytes).unwrap(), &atomr));
    }
}

#[test]
fn the_largest_frame_passes_and_one_more_byte_does_not() {
    let tell = |payload| RemoteTell {
        target_path: "/t".into(),
        manifest: String::new(),
        payload: vec![0; payload],
        sender_path: None,
    };
    let overhead = tell(MAX_FRAME / 2).borrowed().encoded_len() - MAX_FRAME / 2;
    let largest = ClusterFrame::<()>::RemoteTell(tell(MAX_FRAME - overhead));
    let bytes = largest.encode().unwrap();
    assert_eq!(bytes.len(), MAX_FRAME);
    assert!(ClusterFrame::<()>::decode(&bytes).unwrap() == largest);
    let over = ClusterFrame::<()>::RemoteTell(tell(MAX_FRAME - overhead + 1));
    assert_eq!(over.encode(), Err(FrameError::TooLarge { len: MAX_FRAME + 1, max: MAX_FRAME }));
}

#[test]
fn hostile_frames_are_typed_errors_and_allocate_little() {
    let decode = |bytes: &[u8]| Frame::decode(bytes).unwrap_err();
    assert!(matches!(decode(&[]), FrameError::Empty));
    assert_eq!(decode(&[2, 0]), FrameError::UnknownVariant { tag: 2 });
    assert_eq!(decode(&[251, 0, 1]), FrameError::UnknownVariant { tag: 256 });
    // A string that claims 64 TiB in ten bytes, which aborts a process that decodes without a limit.
    let bomb = [1, 253, 0, 0, 0, 0, 0, 64, 0, 0];
    assert!(matches!(decode(&bomb), FrameError::Decode(_)));
    // A member list that claims 2^62 entries.
    let mut list = vec![0, 1, 0, 0, 253];
    list.extend_from_slice(&(1_u64 << 62).to_le_bytes());
    assert_eq!(decode(&list), FrameError::TooManyElements);
    // Text that is not UTF-8.
    assert!(matches!(decode(&[1, 2, 0xff, 0xff, 0, 0, 0]), FrameError::Decode(_)));
    // A whole tell, and a byte more.
    assert_eq!(decode(&[1, 0, 0, 0, 0, 9]), FrameError::Trailing { bytes: 1 });
}
