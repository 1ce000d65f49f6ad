//! Which node of a cluster is wanted: asks those that are known until one says who is there.
//!
//! ```text
//!   round:  members seen last, then the seeds (a name with several addresses is several),
//!           each group in random order
//!             └─ ask ─> nothing, or too late ──> the next one
//!                       members ── alive, usable, as preferred? ── no ──> the next one
//!                                                                  yes ─> that node
//!   at most so many rounds, with a wait between them; then what each one said last is the error
//! ```
//!
//! A leader is wanted strictly: while there is none, the rounds go on, for an election takes as
//! long. Of the other preferences none is worth failing for, so the next best node is taken. A
//! cluster of one node is used under the address that was dialled, because a node behind a proxy or
//! in a container does not know under which name it is reached.
//!
//! INVARIANT: nothing is asked that changes anything, so all of it can be repeated.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use daybook_model::{Entropy, SystemEntropy};
use daybook_wire::proto::gossip::ClusterInfo;
use daybook_wire::proto::gossip::gossip_client::GossipClient;
use daybook_wire::proto::gossip::member_info::VNodeState as NodeState;
use daybook_wire::proto::shared::Empty;
use tonic::Request;
use tonic::transport::Channel;

use crate::connection::Headers;
use crate::connection::channel::Dialler;
use crate::error::reason;
use crate::settings::{Cluster, NodeAddress, NodePreference};

/// Members of one answer that are looked at: more than the largest cluster has.
const MEMBERS_MAX: usize = 64;
/// Addresses of one name that are asked.
const ADDRESSES_MAX: usize = 16;

/// No node could be found. Nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no node of the cluster can be used: {reason}")]
pub(crate) struct NoNode {
    pub(super) reason: String,
}

/// How a cluster is searched.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) cluster: Cluster,
    pub(super) preference: NodePreference,
    pub(super) dialler: Dialler,
    pub(super) headers: Headers,
}

/// The node to be used, and all that is known of its cluster.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) node: NodeAddress,
    pub(super) channel: Channel,
    pub(super) members: Vec<NodeAddress>,
}

/// Somebody to ask.
#[derive(Clone, Debug)]
struct Candidate {
    node: NodeAddress,
    /// One address of its name, if it has several.
    via: Option<SocketAddr>,
}

/// One node, as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    node: NodeAddress,
    state: NodeState,
    alive: bool,
}

impl Search {
    /// Asks `known`, then the seeds, in rounds.
    pub(super) async fn run(self, known: Vec<NodeAddress>) -> Result<Found, NoNode> {
        let mut said = BTreeMap::new();
        for round in 1..=self.cluster.attempts_max {
            if round > 1 {
                tokio::time::sleep(self.cluster.interval).await;
            }
            for candidate in self.candidates(&known, &mut said).await {
                match self.ask(&candidate).await {
                    Ok(found) => {
                        tracing::info!(node = %found.node, asked = %candidate.node, "node found");
                        return Ok(found);
                    }
                    Err(reason) => {
                        tracing::debug!(node = %candidate.node, reason, round, "no node yet");
                        said.insert(candidate.to_string(), reason);
                    }
                }
            }
        }
        let said: Vec<_> = said.iter().map(|(who, what)| format!("{who}: {what}")).collect();
        let rounds = self.cluster.attempts_max;
        Err(NoNode { reason: format!("asked {rounds} times; {}", said.join("; ")) })
    }

    /// Whom to ask in one round, each once.
    async fn candidates(
        &self,
        known: &[NodeAddress],
        said: &mut BTreeMap<String, String>,
    ) -> Vec<Candidate> {
        let mut first: Vec<_> =
            known.iter().map(|node| Candidate { node: node.clone(), via: None }).collect();
        shuffle(&mut first, &SystemEntropy);
        let mut then = Vec::new();
        for seed in self.cluster.seeds.iter().filter(|seed| !known.contains(seed)) {
            match addresses(seed).await {
                Ok(found) => then.extend(found),
                Err(reason) => _ = said.insert(seed.to_string(), reason),
            }
        }
        shuffle(&mut then, &SystemEntropy);
        first.extend(then);
        first
    }

    /// Asks one node which one to use; why not, if it cannot say.
    async fn ask(&self, candidate: &Candidate) -> Result<Found, String> {
        let dial = |node: &NodeAddress, via| {
            self.dialler.channel(node, via).map_err(|error| error.to_string())
        };
        let asked = dial(&candidate.node, candidate.via)?;
        let mut request = Request::new(Empty {});
        self.headers.put(request.metadata_mut());
        let mut gossip = GossipClient::new(asked.clone());
        let answer = tokio::time::timeout(self.cluster.gossip_timeout, gossip.read(request));
        let answer = match answer.await {
            Err(_) => {
                let waited = self.cluster.gossip_timeout;
                return Err(format!("no answer within {waited:?} (gossipTimeout)"));
            }
            Ok(Err(status)) => return Err(reason(&status)),
            Ok(Ok(answer)) => answer.into_inner(),
        };
        let mut members = members(answer);
        if let [only] = members.as_mut_slice() {
            only.node = candidate.node.clone();
        }
        let node = choose(&members, self.preference, &SystemEntropy)?;
        let channel = if node == candidate.node { asked } else { dial(&node, None)? };
        let members = members.into_iter().map(|member| member.node).collect();
        Ok(Found { node, channel, members })
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.via {
            None => self.node.fmt(f),
            Some(via) => write!(f, "{} ({})", self.node, via.ip()),
        }
    }
}

/// A seed as candidates: each address of its name, if it has several.
async fn addresses(seed: &NodeAddress) -> Result<Vec<Candidate>, String> {
    let itself = || vec![Candidate { node: seed.clone(), via: None }];
    let bare = seed.host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(itself());
    }
    let found = tokio::net::lookup_host((bare, seed.port)).await;
    let found = found.map_err(|error| format!("its name cannot be looked up: {error}"))?;
    let found: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if found.len() < 2 {
        return Ok(itself());
    }
    Ok(found.into_iter().map(|via| Candidate { node: seed.clone(), via: Some(via) }).collect())
}

/// The members that an answer names, those left out that cannot be reached by what it says.
fn members(answer: ClusterInfo) -> Vec<Member> {
    let member = |info: daybook_wire::proto::gossip::MemberInfo| {
        let state = info.state();
        let end_point = info.http_end_point?;
        let node = NodeAddress::told(&end_point.address, end_point.port)?;
        Some(Member { node, state, alive: info.is_alive })
    };
    answer.members.into_iter().filter_map(member).take(MEMBERS_MAX).collect()
}

/// How well a node in `state` suits; none if it cannot be used at all.
fn rank(preference: NodePreference, state: NodeState) -> Option<u8> {
    use NodePreference as Wanted;
    use NodeState as State;
    let replica = matches!(
        state,
        State::ReadOnlyReplica | State::ReadOnlyLeaderless | State::PreReadOnlyReplica
    );
    match (preference, state) {
        (Wanted::Leader | Wanted::Random, State::Leader) => Some(0),
        (Wanted::Follower | Wanted::Random, State::Follower) => Some(0),
        (Wanted::ReadOnlyReplica | Wanted::Random, _) if replica => Some(0),
        (Wanted::ReadOnlyReplica, State::Follower) => Some(1),
        (Wanted::Follower, _) if replica => Some(1),
        (Wanted::Follower | Wanted::ReadOnlyReplica, State::Leader) => Some(2),
        _ => None,
    }
}

/// The member to use; what is there instead, if none will do.
fn choose(
    members: &[Member],
    preference: NodePreference,
    entropy: &dyn Entropy,
) -> Result<NodeAddress, String> {
    let mut usable: Vec<_> = members
        .iter()
        .filter(|member| member.alive)
        .filter_map(|member| Some((rank(preference, member.state)?, &member.node)))
        .collect();
    if preference == NodePreference::Leader && usable.len() > 1 {
        return Err(format!("it sees several leaders ({})", seen(members)));
    }
    shuffle(&mut usable, entropy);
    match usable.into_iter().min_by_key(|(rank, _)| *rank) {
        Some((_, node)) => Ok(node.clone()),
        None if preference == NodePreference::Leader => {
            Err(format!("it sees no leader that is alive ({})", seen(members)))
        }
        None => Err(format!("it sees no node that can be used ({})", seen(members))),
    }
}

fn seen(members: &[Member]) -> String {
    let one = |member: &Member| {
        let dead = if member.alive { "" } else { ", dead" };
        format!("{} {:?}{dead}", member.node, member.state)
    };
    let all: Vec<_> = members.iter().map(one).collect();
    if all.is_empty() { "nobody".to_owned() } else { all.join("; ") }
}

/// Puts `items` in an order that chance decides.
fn shuffle<T>(items: &mut [T], entropy: &dyn Entropy) {
    for last in (1..items.len()).rev() {
        let [low, high, ..] = entropy.bytes().map(usize::from);
        items.swap(last, (high << 8 | low) % (last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodePreference as Wanted;
    use NodeState as State;

    /// Chance that is the same each time: a count, stirred (Fibonacci hashing).
    #[derive(Debug, Default)]
    struct Stirred(std::sync::atomic::AtomicU64);

    impl Entropy for Stirred {
        fn bytes(&self) -> [u8; 16] {
            let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (u128::from(count).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 64)
                .to_le_bytes()
        }
    }

    fn cluster(states: &[(&str, State, bool)]) -> Vec<Member> {
        let member = |(host, state, alive): &(&str, State, bool)| Member {
            node: NodeAddress::told(host, 2113).unwrap(),
            state: *state,
            alive: *alive,
        };
        states.iter().map(member).collect()
    }

    /// All that are chosen when chance is asked often, each once.
    fn chosen(members: &[Member], preference: Wanted) -> Result<String, String> {
        let entropy = Stirred::default();
        let mut hosts = std::collections::BTreeSet::new();
        for _ in 0..200 {
            hosts.insert(choose(members, preference, &entropy)?.host);
        }
        Ok(hosts.into_iter().collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_node_is_chosen_by_preference_among_those_that_can_be_used() {
        let whole = cluster(&[
            ("a", State::Follower, true),
            ("b", State::Leader, true),
            ("c", State::Follower, true),
            ("r", State::ReadOnlyReplica, true),
        ]);
        let small = cluster(&[
            ("a", State::Follower, false),
            ("b", State::Leader, true),
            ("c", State::CatchingUp, true),
            ("d", State::ResigningLeader, true),
            ("e", State::ShuttingDown, true),
        ]);
        for (members, preference, expected) in [
            (&whole, Wanted::Leader, "b"),
            (&whole, Wanted::Follower, "a,c"),
            (&whole, Wanted::ReadOnlyReplica, "r"),
            (&whole, Wanted::Random, "a,b,c,r"),
            (&small, Wanted::Leader, "b"),
            (&small, Wanted::Follower, "b"),
            (&small, Wanted::ReadOnlyReplica, "b"),
            (&small, Wanted::Random, "b"),
        ] {
            assert_eq!(chosen(members, preference), Ok(expected.to_owned()), "{preference:?}");
        }
    }

    #[test]
    fn a_leader_is_the_only_one_and_alive_or_there_is_none() {
        let election = cluster(&[
            ("a", State::Follower, true),
            ("b", State::Leader, false),
            ("c", State::Unknown, true),
        ]);
        let seen = "a:2113 Follower; b:2113 Leader, dead; c:2113 Unknown";
        let reason = format!("it sees no leader that is alive ({seen})");
        assert_eq!(chosen(&election, Wanted::Leader), Err(reason));
        let split = cluster(&[("a", State::Leader, true), ("b", State::Leader, true)]);
        let reason = "it sees several leaders (a:2113 Leader; b:2113 Leader)".to_owned();
        assert_eq!(chosen(&split, Wanted::Leader), Err(reason));
        let reason = "it sees no node that can be used (nobody)".to_owned();
        assert_eq!(chosen(&[], Wanted::Random), Err(reason));
    }
}
