//! Scuttlebutt on the gossip lane: five nodes share their state while tells keep the lanes busy, and one
//! dies.
//!
//! ```sh
//! cargo run --release --example chitchat --features chitchat
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use chitchat::{ChitchatConfig, ChitchatHandle, FailureDetectorConfig, spawn_chitchat};
use cluster_quic::chitchat::ChitchatTransport;
use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, RemoteMessageSink, RemoteTell, RemoteTellRef,
};

const INTERVAL: Duration = Duration::from_millis(200);

/// Takes a while over each tell, so that they queue up.
struct Busy;

impl RemoteMessageSink for Busy {
    fn deliver(&self, _from: &Address, _tell: RemoteTellRef<'_>) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let say = |text: String| println!("{:6.2} s  {text}", begin.elapsed().as_secs_f64());
    let identity = DevCa::new("chitchat")?.identity(&["127.0.0.1"])?;
    let mut nodes: Vec<(ClusterTransport, ChitchatHandle)> = Vec::new();
    let mut seeds = Vec::new();
    for n in 0..5 {
        let transport = ClusterTransport::bind(Config::builder("demo").build()?, &identity)?;
        let lane = ChitchatTransport::new(&transport, Arc::new(Busy))?;
        let config = ChitchatConfig {
            chitchat_id: lane.chitchat_id(&format!("node-{n}")),
            cluster_id: "demo".into(),
            gossip_interval: INTERVAL,
            listen_addr: lane.address(),
            seed_nodes: seeds.clone(),
            failure_detector_config: FailureDetectorConfig {
                initial_interval: INTERVAL,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: Duration::from_secs(3600),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let state = vec![("shard".to_owned(), format!("{}-{}", n * 10, n * 10 + 9))];
        if seeds.is_empty() {
            seeds.push(lane.address().to_string());
        }
        nodes.push((transport, spawn_chitchat(config, state, &lane).await?));
    }
    while known(&nodes[0].1).await.len() < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    say(format!("node-0 knows the shards: {}", known(&nodes[0].1).await.join(", ")));
    let mut live = nodes[0].1.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
    live.wait_for(|live| live.len() >= 4).await?;

    for (from, _) in &nodes {
        for (to, _) in nodes.iter().filter(|(to, _)| to.address() != from.address()) {
            for n in 0..20_000 {
                from.tell(
                    to.address(),
                    RemoteTell {
                        target_path: format!("/user/{}", n % 16),
                        manifest: "bulk".into(),
                        payload: vec![0; 100],
                        sender_path: None,
                    },
                )?;
            }
        }
    }
    let before = live.borrow_and_update().len();
    let (dead, chitchat) = nodes.pop().ok_or("five nodes")?;
    say(format!("400,000 tells queued; {} dies", chitchat.chitchat_id().node_id));
    chitchat.abort();
    drop(dead);
    live.wait_for(|live| live.len() < before).await?;
    let waiting: u64 = nodes[0].0.peers().iter().map(|peer| peer.tells().pending_frames()).sum();
    say(format!("node-0 takes it for dead; {waiting} tells still wait here"));
    nodes[1]
        .1
        .with_chitchat(|chitchat| chitchat.self_node_state().set("shard", "10-19, 40-49"))
        .await;
    while !known(&nodes[0].1).await.contains(&"node-1: 10-19, 40-49".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    say("node-1 takes over its shard, and node-0 knows".to_owned());
    Ok(())
}

/// The shards, as a node knows them.
async fn known(node: &ChitchatHandle) -> Vec<String> {
    let shards = |chitchat: &mut chitchat::Chitchat| {
        let nodes = chitchat.node_states().iter();
        let shard = |(id, state): (&chitchat::ChitchatId, &chitchat::NodeState)| {
            Some(format!("{}: {}", id.node_id, state.get("shard")?))
        };
        nodes.filter_map(shard).collect()
    };
    node.with_chitchat(shards).await
}
