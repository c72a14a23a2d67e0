//! SWIM on the gossip lane: five nodes find each other, one dies, and the others find out while tells
//! keep every lane busy.
//!
//! ```sh
//! cargo run --release --example foca --features foca
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_quic::foca::{Change, Swim, lan};
use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, RemoteMessageSink, RemoteTell, RemoteTellRef,
};

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
    let identity = DevCa::new("foca")?.identity(&["127.0.0.1"])?;
    let mut nodes: Vec<(ClusterTransport, Swim)> = Vec::new();
    for _ in 0..5 {
        let transport = ClusterTransport::bind(Config::builder("demo").build()?, &identity)?;
        let swim = Swim::start(&transport, Arc::new(Busy), lan(5))?;
        // One member that is up is enough.
        swim.join(nodes.first().map(|(first, _)| first.address().clone()));
        nodes.push((transport, swim));
    }
    let mut changes = nodes[0].1.changes();
    while nodes.iter().any(|(_, swim)| swim.members().len() < 4) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{:6.2} s  five nodes, each sees the other four", begin.elapsed().as_secs_f64());

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
    let dead = nodes.pop().ok_or("five nodes")?;
    println!(
        "{:6.2} s  400,000 tells queued; {} dies",
        begin.elapsed().as_secs_f64(),
        dead.0.address()
    );
    drop(dead);
    loop {
        match changes.recv().await.ok_or("the node ended")? {
            Change::Down(member) => {
                let waiting: u64 =
                    nodes[0].0.peers().iter().map(|peer| peer.tells().pending_frames()).sum();
                let at = begin.elapsed().as_secs_f64();
                println!("{at:6.2} s  {member} is down; {waiting} tells still wait here");
                break;
            }
            Change::Up(member) => {
                println!("{:6.2} s  {member} is up", begin.elapsed().as_secs_f64());
            }
            change => println!("{:6.2} s  {change:?}", begin.elapsed().as_secs_f64()),
        }
    }
    let (transport, swim) = nodes.remove(0);
    println!("{:6.2} s  members: {}", begin.elapsed().as_secs_f64(), swim.members().len() + 1);
    swim.leave().await;
    transport.shutdown(Duration::from_millis(100)).await;
    while nodes.iter().any(|(_, swim)| swim.members().len() > 2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{:6.2} s  one has left, and the other three know", begin.elapsed().as_secs_f64());
    Ok(())
}
