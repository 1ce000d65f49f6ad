//! A client before a cluster: which node it uses, and what it does when that one is the wrong one
//! or dies.

mod support;

use daybook_client::{AppendError, CallError, Client, ReadAll, ReadError};
use futures_util::StreamExt as _;
use support::node::{State, cluster, string};
use support::{append, assert_says, client, soon, until};

/// Appends until a node takes it, as a caller would to whom each failure is told.
async fn append_at_last(client: &Client) -> u64 {
    let tries = async {
        loop {
            match append(client).await {
                Ok(node) => return node,
                Err(AppendError::Call(error)) if error.is_transient() => {}
                Err(AppendError::Unknown { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    soon("a node that takes an append", tries).await
}

#[tokio::test]
async fn the_node_that_is_preferred_is_used() {
    let states = [State::Follower, State::Leader, State::CatchingUp, State::ReadOnlyReplica];
    let (board, nodes) = cluster(&states).await;
    for (preference, expected) in [("leader", 1), ("follower", 0), ("readOnlyReplica", 3)] {
        let client = client(&string(&nodes, &format!("nodePreference={preference}")));
        for _ in 0..3 {
            assert_eq!(append(&client).await, Ok(expected), "{preference}");
        }
    }
    assert_eq!(board.gossips(), 3, "one question for each client");
}

#[tokio::test]
async fn a_leader_that_has_moved_is_followed_by_the_next_call() {
    let (board, nodes) = cluster(&[State::Leader, State::Follower, State::Follower]).await;
    let client = client(&string(&nodes, ""));
    assert_eq!(append(&client).await, Ok(0));
    let asked = board.gossips();
    for leader in [2, 1, 0] {
        for number in 0..3 {
            board.set(number, if number == leader { State::Leader } else { State::Follower });
        }
        let moved = append(&client).await.unwrap_err();
        let (host, port) = ("127.0.0.1".to_owned(), nodes[leader].address.port());
        assert_eq!(moved, CallError::NotLeader { host, port }.into());
        assert_eq!(append(&client).await, Ok(leader as u64));
    }
    assert_eq!(board.gossips(), asked, "the answer itself said where the leader is");
}

#[tokio::test]
async fn a_read_that_is_refused_at_its_end_is_heeded_too() {
    let (board, nodes) = cluster(&[State::Leader, State::Follower]).await;
    let client = client(&string(&nodes, ""));
    assert_eq!(append(&client).await, Ok(0));
    board.set(0, State::Follower);
    board.set(1, State::Leader);
    let mut events = client.read_all(ReadAll::default()).await.unwrap();
    let refused = soon("the read", events.next()).await;
    assert!(matches!(refused, Some(Err(ReadError::Call(CallError::NotLeader { .. })))));
    assert_eq!(append(&client).await, Ok(1));
}

#[tokio::test]
async fn a_node_that_does_not_know_its_leader_sends_the_next_call_to_ask_for_it() {
    let (board, nodes) = cluster(&[State::Leader, State::Follower]).await;
    let client = client(&string(&nodes, "discoveryInterval=1&maxDiscoverAttempts=10000"));
    assert_eq!(append(&client).await, Ok(0));
    board.set(0, State::Unknown);
    let refused = append(&client).await.unwrap_err();
    assert!(matches!(refused, AppendError::Call(CallError::Overloaded { .. })), "{refused}");
    // Nobody leads for a while; the call waits for the election.
    let asked = board.gossips();
    let waiting = tokio::spawn(async move { append(&client).await });
    until("the search goes on", || board.gossips() > asked + 4).await;
    board.set(1, State::Leader);
    assert_eq!(waiting.await.unwrap(), Ok(1));
}

#[tokio::test]
async fn a_node_that_dies_is_replaced_and_all_who_wait_ask_once() {
    let (board, mut nodes) = cluster(&[State::Leader, State::Follower, State::Follower]).await;
    let client = client(&string(&nodes, "discoveryInterval=1"));
    assert_eq!(append(&client).await, Ok(0));
    nodes.remove(0).kill().await;
    board.bury(0);
    board.set(1, State::Leader);
    // Whoever meets the broken connection is told; nothing was repeated for them.
    let broken = append(&client).await;
    assert!(broken.is_err() || broken == Ok(1), "{broken:?}");
    let asked = board.gossips();
    let together: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { append_at_last(&client).await })
        })
        .collect();
    for task in together {
        assert_eq!(task.await.unwrap(), 1);
    }
    assert!(board.gossips() <= asked + 1, "{} questions", board.gossips() - asked);
    assert!(board.gossips() <= 3, "one for the first leader, one for the next");
}

#[tokio::test]
async fn another_follower_takes_over_from_one_that_dies() {
    let (board, mut nodes) = cluster(&[State::Follower, State::Leader, State::Follower]).await;
    let client = client(&string(&nodes, "nodePreference=follower&discoveryInterval=1"));
    let first = append(&client).await.unwrap();
    let other = 2 - first;
    board.bury(usize::try_from(first).unwrap());
    nodes.remove(usize::try_from(first).unwrap()).kill().await;
    assert_eq!(append_at_last(&client).await, other);
}

#[tokio::test]
async fn a_cluster_without_a_usable_node_is_an_error_that_tells_what_each_one_said() {
    let (board, mut nodes) = cluster(&[State::Follower, State::Leader]).await;
    board.bury(1);
    let client = client(&string(&nodes, "maxDiscoverAttempts=3&discoveryInterval=1"));
    let (alive, dead) = (nodes[0].address, nodes[1].address);
    nodes.remove(1).kill().await;
    let error = append(&client).await.unwrap_err();
    assert!(matches!(error, AppendError::Call(CallError::Unreachable { .. })), "{error:?}");
    let says = [
        "asked 3 times",
        &format!("{alive}: it sees no leader that is alive ({alive} Follower; {dead} Leader, dead"),
        &format!("{dead}: "),
        "refused",
    ];
    assert_says(&error.to_string(), &says);
    assert_eq!(board.gossips(), 3);
    nodes.remove(0).kill().await;
    let error = append(&client).await.unwrap_err();
    assert!(matches!(error, AppendError::Call(CallError::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_call_waits_for_a_node_no_longer_than_its_deadline() {
    let (board, nodes) = cluster(&[State::Leader]).await;
    board.silence();
    let client = client(&string(&nodes, "gossipTimeout=600000&defaultDeadline=50"));
    let error = append(&client).await.unwrap_err();
    assert!(matches!(error, AppendError::Call(CallError::Unreachable { .. })), "{error:?}");
    assert_says(&error.to_string(), &["within the call's deadline of 50ms"]);
}

#[tokio::test]
async fn a_node_that_says_nothing_is_passed_over() {
    let (silent, dumb) = cluster(&[State::Leader]).await;
    silent.silence();
    let (_, mut nodes) = cluster(&[State::Leader]).await;
    nodes.extend(dumb);
    for _ in 0..4 {
        let client = client(&string(&nodes, "gossipTimeout=100"));
        assert_eq!(append(&client).await, Ok(0));
    }
    assert_eq!(silent.gossips(), 0);
}

#[tokio::test]
async fn one_host_is_used_unasked_and_its_leader_is_followed_while_it_lives() {
    let (board, mut nodes) = cluster(&[State::Follower, State::Leader]).await;
    let client = client(&format!("esdb://{}?tls=false", nodes[0].address));
    let refused = append(&client).await.unwrap_err();
    assert!(matches!(refused, AppendError::Call(CallError::NotLeader { .. })), "{refused}");
    assert_eq!(append(&client).await, Ok(1));
    nodes.remove(1).kill().await;
    board.bury(1);
    board.set(0, State::Leader);
    assert_eq!(append_at_last(&client).await, 0);
    assert_eq!(board.gossips(), 0);
}

#[tokio::test]
async fn a_cluster_of_one_is_used_under_the_name_that_was_dialled() {
    let (board, mut nodes) = cluster(&[State::Leader]).await;
    let port = nodes[0].address.port();
    // As a node in a container does, which knows nothing of what is mapped to it.
    board.mislead(0, "127.0.0.1:1".parse().unwrap());
    let client = client(&format!("esdb+discover://localhost:{port}?tls=false"));
    assert_eq!(append(&client).await, Ok(0));
    // It comes back where it was, and is found again.
    let _again = nodes.remove(0).restart(&board, 0).await;
    assert_eq!(append_at_last(&client).await, 0);
}
