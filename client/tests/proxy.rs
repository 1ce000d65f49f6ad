//! A client over a network that breaks: what one call loses, the next one finds again.

mod support;

use std::time::Duration;

use daybook_client::{AppendError, CallError};
use support::node::{State, cluster};
use support::proxy::{Cut, Plan, Proxy};
use support::{append, client, soon};

/// Of the proxy's connections; any other is as good.
const SEED: u64 = 7;

#[tokio::test]
async fn a_lost_connection_is_there_again_for_the_next_call() {
    let (_, nodes) = cluster(&[State::Leader]).await;
    let proxy = Proxy::start(nodes[0].address, SEED).await;
    let options = "tls=false&keepAliveInterval=50&keepAliveTimeout=500";
    let client = client(&format!("esdb://{}?{options}", proxy.address));
    let many = async {
        let (mut done, mut failed) = (0, 0);
        while proxy.cuts() < 40 {
            match append(&client).await {
                Ok(node) => {
                    assert_eq!(node, 0);
                    done += 1;
                }
                // Each failure says whether something may have been written.
                Err(
                    AppendError::Unknown { .. } | AppendError::Call(CallError::Unreachable { .. }),
                ) => {
                    failed += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        (done, failed)
    };
    let (done, failed) = soon("40 cuts", many).await;
    println!("{done} appends done, {failed} failed");
    assert!(done > 0 && failed > 0);
    proxy.heal();
    let healed = async { while append(&client).await.is_err() {} };
    soon("a connection that stays", healed).await;
    assert_eq!(append(&client).await, Ok(0));
}

#[tokio::test]
async fn a_peer_that_has_gone_silent_is_noticed_by_probes() {
    let (board, nodes) = cluster(&[State::Leader]).await;
    for down in [0, 40, 100] {
        let plan = Plan { up: u64::MAX, down, delay: Duration::ZERO, cut: Cut::Stall };
        let proxy = Proxy::cutting_first(nodes[0].address, plan).await;
        // The call alone would wait for longer than anybody has patience here.
        let options = "tls=false&keepAliveInterval=20&keepAliveTimeout=1000&defaultDeadline=600000";
        let client = client(&format!("esdb://{}?{options}", proxy.address));
        let silenced = append(&client).await;
        assert!(matches!(silenced, Err(AppendError::Unknown { .. })), "{silenced:?}");
        assert_eq!(append(&client).await, Ok(0));
        assert_eq!(proxy.cuts(), 1);
    }
    assert!(board.appends() >= 3);
}
