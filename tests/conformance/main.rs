//! What every backend must do, run on each: QUIC over loopback, and the in-process network under a
//! paused clock (but for the tests in which a sink blocks a thread, which holds that clock).

mod endings;
mod faults;
mod harness;
mod limits;
mod losses;
mod traffic;
mod watchdog;

use harness::{InProcess, Quic};
use watchdog::Watchdog;

macro_rules! on_every_backend {
    (paused { $($paused:ident::$p:ident)* } real { $($real:ident::$r:ident)* }) => {
        mod quic {
            use super::{Quic, limit};
            $(#[tokio::test] async fn $p() { limit(super::$paused::$p(Quic::new())).await; })*
            $(#[tokio::test] async fn $r() { limit(super::$real::$r(Quic::new())).await; })*
        }
        mod in_process {
            use super::{InProcess, Watchdog, limit};
            $(#[tokio::test(start_paused = true)]
            async fn $p() {
                let _watchdog = Watchdog::set(stringify!($p));
                super::$paused::$p(InProcess::default()).await;
            })*
            $(#[tokio::test]
            async fn $r() { limit(super::$real::$r(InProcess::default())).await; })*
        }
    };
}

/// No test hangs: the clock is real here, and generous.
async fn limit(test: impl Future<Output = ()>) {
    tokio::time::timeout(std::time::Duration::from_secs(60), test).await.expect("in time");
}

on_every_backend! {
    paused {
        traffic::both_directions_share_one_association
        traffic::order_is_kept_per_target
        traffic::a_frame_of_the_largest_size_passes
        traffic::simultaneous_dials_lose_nothing
        traffic::what_comes_before_start_waits
        traffic::any_serde_gossip_passes
        traffic::flush_without_tells_is_done_at_once
        traffic::connecting_waits_for_the_association
        limits::a_peer_that_was_not_started_is_stuck
        limits::bad_calls_are_typed_errors
        limits::unwanted_gossip_of_another_type_costs_the_association
        limits::gossip_to_nobody_keeps_the_latest
        faults::tells_survive_any_number_of_cuts
        faults::a_restarted_peer_gets_only_what_was_never_sent
        faults::another_cluster_is_refused_on_both_sides
        faults::an_unreachable_peer_s_tells_expire
        faults::an_idle_association_is_released_and_comes_back
        faults::a_drain_delivers_everything
        faults::both_sides_drain
        faults::dropping_the_last_handle_says_goodbye
        faults::a_panicking_sink_is_reported
        faults::a_node_that_shuts_down_under_load_acknowledges_what_it_took
        faults::a_report_counts_every_loss_of_the_drain
        faults::after_a_shutdown_the_address_is_free_and_events_end
        faults::the_last_gossip_is_sent_before_goodbye
        faults::peers_that_are_not_needed_are_forgotten
        endings::dropping_the_last_handle_reports_what_is_pending
        losses::a_quarantined_peer_is_refused_until_it_restarts
        losses::what_is_lost_in_a_drain_is_given_back
    }
    real {
        limits::a_full_lane_hands_the_tell_back
        limits::who_waits_for_room_is_not_overtaken
        limits::a_prompt_sink_is_believed_until_it_blocks
        limits::a_blocked_sink_delays_its_lane_alone
        limits::a_lane_that_stands_still_is_reported_once
        endings::a_drain_past_its_deadline_reports_the_exact_loss
        endings::two_shutdowns_at_once_end_at_the_earlier_deadline
        endings::a_shutdown_that_was_given_up_can_be_ended
    }
}
