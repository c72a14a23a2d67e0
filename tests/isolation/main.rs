//! A backlog of tells never holds up gossip. For each place where it could, there is a rule that rules
//! it out, and a test that was seen to fail with the rule taken away from the source, as the table
//! says. The tests in this folder have their module and name; those that stand elsewhere say where.
//!
//! | place | test | taken away | how it failed |
//! |---|---|---|---|
//! | our queue: one per lane | [`backlog`]`::gossip_takes_as_long_beside_any_number_of_tells` | gossip's writer waits until the tells are acknowledged | 35 ms instead of 11 ms beside one tell |
//! | its lock | src/peer.rs `gossip_waits_for_no_tell_lane_s_lock` | `send_gossip`, or gossip's writer, looks at the tell lanes first | no gossip in 10 s while they are locked |
//! | its budget | [`backlog`]`::a_node_s_budget_is_no_matter_of_gossip_s`; conformance `a_full_lane_hands_the_tell_back` | gossip takes from the node's budget | gossip is refused |
//! | quinn's send window: checked when the configuration is built | src/config.rs `lanes_that_could_starve_gossip_are_refused` | the check | the configuration is built |
//! | that the check leaves enough | [`window`]`::the_smallest_send_window_has_room_for_gossip` | half on top and gossip's reserve: lanes × window alone | 380 ms, at most 845 ms, instead of 15 and 19 ms |
//! | the same | the same, and `large_tells_leave_room_for_gossip` | the check's figure: a send window of 1 MiB | 25 and 115 ms; 41 and 376 ms |
//! | a peer's larger windows | [`window`]`::a_peer_s_larger_windows_leave_room_for_gossip` | the send window is not raised for it | 64 ms, at most 246 ms, instead of 15 and 19 ms |
//! | large chunks, counted whole | [`window`]`::large_tells_leave_room_for_gossip` | a writer's pieces of 64 KiB | at most 821 ms instead of 18 ms |
//! | the receiver's connection window | [`receiver`]`::a_lane_that_stands_still_delays_no_other` | the maximum: as large as one stream's | no gossip in 10 s |
//! | priority among streams | [`priority`]`::gossip_goes_before_the_tells_of_all_lanes` | gossip's priority is the tells' | 3.1 s, at most 3.8 s, instead of 26 and 59 ms |
//! | control before gossip | [`priority`]`::acknowledgements_go_before_gossip` | control's priority is below gossip's | acknowledged after 3.4 s instead of within 100 ms |
//! | set before the first write | [`priority`]`::the_first_gossip_goes_before_what_was_written_earlier` | set after the first write | 228 ms instead of 28 ms |
//! | fairness stays on | [`priority`]`::gossip_goes_before_the_rest_of_a_tell` | `send_fairness(false)` | 99 of 100 had not arrived 3 s after the last |
//! | small segments: coalesced as they are queued | src/outbound/tests.rs `small_tells_go_in_chunks` | a chunk for each frame, and `take` puts none together | 1000 chunks of 80 bytes |
//! | put together as they are sent | src/outbound/tests.rs `small_chunks_of_a_patient_time_are_resent_together` | `take` puts none together | the first chunk has one tell of 990 |
//! | held back in a crowd | [`backlog`]`::a_writer_whose_lane_is_full_of_small_segments_waits_for_more` | the writer's wait | 10 001 segments of 80 bytes in flight, instead of below 100 |
//! | the network's queue | [`backlog`]`::gossip_takes_as_long_beside_any_number_of_tells` | the default controller: Cubic | 726 ms, at most 810 ms, instead of 15 and 53 ms |
//! | the network's queue, both ways | `both::tells_in_both_directions_delay_gossip_in_neither` | the other direction never counts as busy | fails; in the controller's model the two get 0.58 to 0.60 of a 10 Mbit/s link instead of 0.75 |
//! | the receiver's socket | src/backend/quic/settings.rs `the_socket_holds_a_burst` | the receive buffer's size | 212 992 bytes; of a burst of 1497 packets 92 were held |
//! | the accept loop: a peer's streams | hostile `a_half_open_stream_stalls_nobody` | `accept_lanes` reads each header before it takes the next stream | stalled by the half-open stream |
//! | a node's connections | [`peers`]`::handshakes_that_stand_still_delay_nobody_s` | the hub greets one connection after the other | connected after 5 s instead of within 100 ms |
//! | delivery off the workers | [`receiver`]`::sinks_that_block_in_every_lane_delay_no_gossip` | the sink is called by the lane's reader, on the worker | the second lane's sink is not even called |
//! | gossip and blocking threads | [`receiver`]`::gossip_needs_no_blocking_thread` | gossip takes a turn on a blocking thread | no gossip in 10 s while a sink has the only one |
//! | a reader per lane | [`receiver`]`::a_lane_that_stands_still_delays_no_other` | readers wait for room one after the other | other lanes' tells are not acknowledged in 10 s |
//! | large tells and small ones | [`backlog`]`::tells_of_16_mib_delay_their_own_lane_alone` | a connection writes one lane's chunk at a time | 3.6 s, at most 4.2 s, instead of 13 and 43 ms |
//! | the application's runtime | [`runtime`]`::a_transport_with_threads_of_its_own_needs_none_of_the_application_s` | `Runtime::Dedicated` runs on the current one | no gossip in 10 s |
//! | peers among each other | [`peers`]`::a_peer_that_takes_nothing_delays_no_other` | one lock for all calls of sinks; or readers of all peers wait for room one after the other | no tells to a third node in 10 s |
//!
//! "x, at most y" are the middle and the longest of gossip's delays. On the simulated network in
//! simulated time they were the same to the millisecond in 25 runs: the network and quinn draw from one
//! seed, and a sink takes no simulated time. The longest ones, of 40 to 60 ms, belong to the connection's
//! startup; a second later it is 19 ms.
//!
//! A rule is taken away by hand: a switch for it would be code that only tests run.

#[path = "../simulated/network.rs"]
#[allow(dead_code)] // It has faults that the benchmarks and other tests use.
mod network;

mod backlog;
mod both;
mod delays;
mod gate;
mod peers;
mod priority;
mod receiver;
mod runtime;
mod window;
mod world;
