//! Gossip is decoded into a type of the user's. Whatever that type is, no frame makes its decoding spin,
//! allocate without bound, or use up the stack; and no honest value is decoded into something else.
//!
//! Each hostile frame is decoded in a process of its own, since without the guard it would hang this
//! one, or abort it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster_quic::{ClusterFrame, FrameError, MAX_FRAME};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Vec<Tree>),
}

/// A linked list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

/// Nests without a sequence or an option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Expression {
    Number(i64),
    Negative(Box<Expression>),
    Sum(Box<Expression>, Box<Expression>),
    Named { name: String, value: Box<Expression> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Folder(BTreeMap<String, Folder>);

/// Takes a quarter of a kilobyte of stack more at each level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fat {
    numbers: [u64; 32],
    next: Option<Box<Fat>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Nothing;

/// Takes no byte on the wire, and memory.
#[derive(Debug, Serialize, Deserialize)]
struct Skipped {
    #[serde(skip)]
    _cache: [u64; 8],
}

/// Takes a byte on the wire, or more than a thousand; in memory always more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)]
enum Uneven {
    Small,
    Large([[u64; 32]; 8]),
}

/// A hostile frame: what it is decoded into, and what must come of it.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    decode: fn(&[u8]) -> Result<(), FrameError>,
    expected: FrameError,
}

fn decode<G: DeserializeOwned>(frame: &[u8]) -> Result<(), FrameError> {
    ClusterFrame::<G>::decode(frame).map(drop)
}

fn number(n: u64) -> Vec<u8> {
    bincode::encode_to_vec(n, bincode::config::standard()).unwrap()
}

/// A gossip frame whose content is `head`, and then `unit` as often as there is room for.
fn filled(head: &[u8], unit: &[u8]) -> Vec<u8> {
    let mut frame = [&[0], head].concat();
    let units = (MAX_FRAME - frame.len()) / unit.len();
    frame.extend_from_slice(&unit.repeat(units));
    frame
}

/// A gossip frame that claims `n` elements and has none.
fn claiming(n: u64) -> Vec<u8> {
    [vec![0], number(n)].concat()
}

fn cases() -> Vec<Case> {
    use FrameError::{TooManyElements, TooMuchMemory};
    let case = |name, frame, decode, expected| Case { name, frame, decode, expected };
    let deep = FrameError::TooDeep { max: 128 };
    let huge = 1 << 60;
    // Half a million elements, or as many as a byte each allows.
    let half = number(1 << 19);
    let many = number(MAX_FRAME as u64 - 100);
    vec![
        case("units", claiming(huge), decode::<Vec<()>>, TooManyElements),
        case("unit structs", claiming(huge), decode::<Vec<Nothing>>, TooManyElements),
        case("units in a queue", claiming(huge), decode::<VecDeque<()>>, TooManyElements),
        case("units as keys", claiming(huge), decode::<BTreeMap<(), ()>>, TooManyElements),
        case("hashed units", claiming(huge), decode::<HashMap<(), Nothing>>, TooManyElements),
        case("skipped fields", claiming(huge), decode::<Vec<Skipped>>, TooManyElements),
        // A thousand sequences of a thousand each.
        case(
            "units, in many sequences",
            [vec![0], number(1000), number(1000).repeat(1000)].concat(),
            decode::<Vec<Vec<()>>>,
            TooManyElements,
        ),
        case(
            "a length for more than memory",
            claiming(u64::MAX),
            decode::<Vec<u64>>,
            TooManyElements,
        ),
        case("a tree", filled(&[], &[1, 1]), decode::<Tree>, deep.clone()),
        case("a wide tree", filled(&[], &[1, 2]), decode::<Tree>, deep.clone()),
        case("a list", filled(&[], &[1]), decode::<List>, deep.clone()),
        case(
            "a fat list",
            filled(&[], &[&[0; 32][..], &[1]].concat()),
            decode::<Fat>,
            deep.clone(),
        ),
        case("negatives", filled(&[], &[1]), decode::<Expression>, deep.clone()),
        case("sums", filled(&[], &[2]), decode::<Expression>, deep.clone()),
        case("names", filled(&[], &[3, 1, b'n']), decode::<Expression>, deep.clone()),
        case("folders", filled(&[], &[1, 1, b'f']), decode::<Folder>, deep),
        case("wide options", filled(&many, &[0]), decode::<Vec<Option<[u64; 32]>>>, TooMuchMemory),
        case("uneven variants", filled(&half, &[0]), decode::<Vec<Uneven>>, TooMuchMemory),
        case("uneven entries", filled(&half, &[0]), decode::<HashMap<u8, Uneven>>, TooMuchMemory),
        case("boxed variants", filled(&half, &[0]), decode::<Vec<Box<Uneven>>>, TooMuchMemory),
        case(
            "boxed variants in options",
            filled(&half, &[1, 0]),
            decode::<Vec<Option<Box<Uneven>>>>,
            TooMuchMemory,
        ),
        case(
            "skipped fields that have bytes",
            filled(&many, &[0]),
            decode::<Vec<Skipped>>,
            TooMuchMemory,
        ),
        case(
            "texts",
            filled(&number(MAX_FRAME as u64 / 2), &[0]),
            decode::<Vec<String>>,
            TooMuchMemory,
        ),
    ]
}

const CASE: &str = "HOSTILE_GOSSIP_CASE";

/// A guard that works takes microseconds; one that does not, for ever.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn hostile_gossip_costs_little() {
    let exe = std::env::current_exe().unwrap();
    for (i, case) in cases().iter().enumerate() {
        let mut child = Command::new(&exe)
            .args(["in_a_process_of_its_own", "--exact", "--ignored", "--nocapture"])
            .env(CASE, i.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{}: hangs", case.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(status.success(), "{}: {status}", case.name);
    }
}

/// Resident memory in bytes: now, or the most there ever was.
#[cfg(target_os = "linux")]
fn resident(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
#[ignore = "run by the test above"]
fn in_a_process_of_its_own() {
    let cases = cases();
    let case = &cases[std::env::var(CASE).expect("a case").parse::<usize>().unwrap()];
    let frame = case.frame.clone();
    #[cfg(target_os = "linux")]
    let before = resident("VmRSS:");
    let decode = || {
        let begin = Instant::now();
        ((case.decode)(&frame), begin.elapsed())
    };
    let (result, mut took) = decode();
    // What it costs is the least of a few times: the rest is the machine's.
    for _ in 0..4 {
        took = took.min(decode().1);
    }
    eprint!("{:32} {took:>9.1?}", case.name);
    #[cfg(target_os = "linux")]
    {
        let grown = resident("VmHWM:").saturating_sub(before);
        eprint!(" {:>7.1} MB", grown as f64 / 1e6);
        assert!(grown <= 2 * MAX_FRAME, "{}: {grown} bytes", case.name);
    }
    eprintln!(" {result:?}");
    assert_eq!(result, Err(case.expected.clone()), "{}", case.name);
    // Boxes are seen when they are filled, so these are refused when the memory is used up, and take the
    // time that filling 32 MiB takes; the others before it is touched.
    let spends = case.name.starts_with("boxed");
    let limit = Duration::from_millis(if spends { 1000 } else { 10 });
    assert!(took < limit, "{}: {took:?}", case.name);
}

fn frame<G: Serialize>(gossip: &G) -> Vec<u8> {
    // Not by the crate's own encoder: it would refuse what is too large, and this is what others send.
    bincode::serde::encode_to_vec((0_u32, gossip), bincode::config::standard()).unwrap()
}

fn comes_back<G: Serialize + DeserializeOwned + PartialEq + Debug>(gossip: &G) {
    match ClusterFrame::<G>::decode(&frame(gossip)) {
        Ok(ClusterFrame::Gossip(back)) => assert_eq!(&back, gossip),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_deepest_that_is_taken_fits_a_small_stack() {
    let list =
        |len| (0..len).fold(List { next: None }, |list, _| List { next: Some(Box::new(list)) });
    let fat = |len| {
        let end = Fat { numbers: [7; 32], next: None };
        (0..len).fold(end, |fat, _| Fat { numbers: [7; 32], next: Some(Box::new(fat)) })
    };
    let tree = |depth| (0..depth).fold(Tree::Leaf, |tree, _| Tree::Node(vec![tree, Tree::Leaf]));
    let name = |value| Expression::Named { name: "n".into(), value: Box::new(value) };
    let names = move |depth| (0..depth).fold(Expression::Number(-1), |value, _| name(value));
    let folder = |depth| {
        let root = Folder(BTreeMap::new());
        (0..depth).fold(root, |folder, i| Folder(BTreeMap::from([(i.to_string(), folder)])))
    };
    // Half of what a worker of tokio's has.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let taken = move || {
        comes_back(&list(63));
        comes_back(&tree(63));
        comes_back(&names(127));
        comes_back(&folder(63));
        comes_back(&fat(63));
        let deep = Err(FrameError::TooDeep { max: 128 });
        assert_eq!(decode::<List>(&frame(&list(64))), deep);
        assert_eq!(decode::<Tree>(&frame(&tree(64))), deep);
        assert_eq!(decode::<Expression>(&frame(&names(128))), deep);
        assert_eq!(decode::<Folder>(&frame(&folder(64))), deep);
        assert_eq!(decode::<Fat>(&frame(&fat(64))), deep);
    };
    thread.spawn(taken).unwrap().join().unwrap();
}

#[test]
fn elements_without_bytes_are_taken_while_they_are_few() {
    comes_back(&vec![(); 1000]);
    comes_back(&BTreeMap::from([((), ())]));
    comes_back(&vec![vec![(); 100]; 10]);
    assert_eq!(decode::<Vec<()>>(&frame(&vec![(); 2000])), Err(FrameError::TooManyElements));
}

#[test]
fn large_honest_values_are_taken() {
    // An element a byte, up to the frame's limit.
    let bytes = number(MAX_FRAME as u64 - 6);
    assert_eq!(decode::<Vec<u8>>(&filled(&bytes, &[7])), Ok(()));
    let names: Vec<_> = (0..200_000).map(|i| format!("node-{i}.cluster.example")).collect();
    comes_back(&names);
    let versions: BTreeMap<_, _> = names.into_iter().zip(1_u64 << 40..).take(100_000).collect();
    comes_back(&versions);
}

/// Every kind of thing that serde knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    flags: (bool, (), Unit),
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    real: (f32, f64),
    text: (char, String, Option<Box<str>>),
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    new: New<Option<Option<u16>>>,
    pair: Pair,
    array: [u16; 3],
    kinds: Vec<Kind>,
    map: BTreeMap<String, Vec<u64>>,
    nested: BTreeMap<u8, BTreeMap<i16, BTreeSet<String>>>,
    queue: VecDeque<(u8, New<String>)>,
    // Differs between formats for people and for machines.
    ips: Vec<IpAddr>,
    socket: Option<(IpAddr, u16)>,
    time: Duration,
    result: Result<u8, String>,
    tree: Tree,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct New<T>(T);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    New(u32),
    Tuple(u8, Box<Kind>),
    Struct { a: Option<String>, b: Vec<Kind> },
}

fn tree() -> impl Strategy<Value = Tree> {
    Just(Tree::Leaf)
        .prop_recursive(8, 40, 4, |tree| proptest::collection::vec(tree, 0..4).prop_map(Tree::Node))
}

fn kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![Just(Kind::Unit), any::<u32>().prop_map(Kind::New)];
    leaf.prop_recursive(6, 30, 4, |kind| {
        let b = proptest::collection::vec(kind.clone(), 0..4);
        prop_oneof![
            (any::<u8>(), kind).prop_map(|(n, kind)| Kind::Tuple(n, Box::new(kind))),
            (any::<Option<String>>(), b).prop_map(|(a, b)| Kind::Struct { a, b }),
        ]
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    use proptest::collection::{btree_map, btree_set, vec};
    let numbers = (any::<(i8, i16, i32, i64, i128)>(), any::<(u8, u16, u32, u64, u128)>());
    let real = (proptest::num::f32::NORMAL, proptest::num::f64::NORMAL);
    let leaves =
        (any::<bool>(), any::<(char, String)>(), any::<Option<String>>(), any::<Vec<u8>>());
    let small = (any::<Option<Option<u16>>>(), any::<(u8, String)>(), any::<[u16; 3]>());
    let nested =
        btree_map(any::<u8>(), btree_map(any::<i16>(), btree_set(".{0,3}", 0..3), 0..3), 0..3);
    let maps = (btree_map(".{0,4}", any::<Vec<u64>>(), 0..4), nested);
    let lists =
        (vec(kind(), 0..5), vec((any::<u8>(), any::<String>()), 0..4), any::<Vec<IpAddr>>());
    let rest =
        (any::<Option<(IpAddr, u16)>>(), any::<(u64, u8)>(), any::<Result<u8, String>>(), tree());
    (numbers, real, leaves, small, maps, lists, rest).prop_map(
        |(
            (signed, unsigned),
            real,
            (flag, (char, text), boxed, bytes),
            (new, (a, b), array),
            (map, nested),
            (kinds, queue, ips),
            (socket, (secs, nanos), result, tree),
        )| Everything {
            flags: (flag, (), Unit),
            signed,
            unsigned,
            real,
            text: (char, text, boxed.map(Into::into)),
            bytes,
            new: New(new),
            pair: Pair(a, b),
            array,
            kinds,
            map,
            nested,
            queue: queue.into_iter().map(|(n, text)| (n, New(text))).collect(),
            ips,
            socket,
            time: Duration::new(secs, nanos.into()),
            result,
            tree,
        },
    )
}

/// What bincode alone makes of a gossip frame, within the same limit; `None` if it is an error.
fn plain<G: DeserializeOwned>(frame: &[u8]) -> Option<G> {
    let config = bincode::config::standard().with_limit::<{ 2 * MAX_FRAME }>();
    let (value, used) =
        bincode::serde::decode_from_slice(frame.strip_prefix(&[0])?, config).ok()?;
    (used == frame.len() - 1).then_some(value)
}

fn guarded<G: DeserializeOwned>(frame: &[u8]) -> Option<G> {
    match ClusterFrame::decode(frame) {
        Ok(ClusterFrame::Gossip(gossip)) => Some(gossip),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn honest_values_come_back(value in everything()) {
        comes_back(&value);
    }

    #[test]
    fn what_bincode_decodes_is_decoded_the_same(
        value in everything(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = frame(&value);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        bytes[0] = 0;
        // As text, since a changed bit makes a NaN, which is not equal to itself.
        let (guarded, plain) = (guarded::<Everything>(&bytes), plain::<Everything>(&bytes));
        prop_assert_eq!(format!("{guarded:?}"), format!("{plain:?}"));
    }

    #[test]
    fn arbitrary_bytes_are_decoded_as_by_bincode(
        bytes in proptest::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..120),
    ) {
        // Too few bytes to be refused as too deep.
        let bytes = [&[0], &bytes[..]].concat();
        prop_assert_eq!(guarded::<Vec<Option<String>>>(&bytes), plain(&bytes));
        prop_assert_eq!(guarded::<(Kind, Vec<Kind>)>(&bytes), plain(&bytes));
        prop_assert_eq!(guarded::<BTreeMap<u8, Option<Pair>>>(&bytes), plain(&bytes));
    }
}
