//! Channels: what moves them, and what they keep.

use std::collections::BTreeMap;

use proptest::prelude::*;
use semver::{Version, VersionReq};
use store::{
    Action, Channel, ChannelOptions, DEFAULT_CHANNEL, Error, Follow, NewChannel, NewRevision,
    Published, Quotas, Release, Sticky, Weight,
};

use crate::support::{ACTOR, TestStore, new, ours, publish};

fn set(name: &str, follow: Follow) -> NewChannel<'_> {
    NewChannel {
        name,
        follow,
        weights: Vec::new(),
        sticky: Sticky::None,
        options: ChannelOptions::default(),
        max: 8,
        actor: ACTOR,
        now_ms: 3_000,
    }
}

async fn put(
    test: &TestStore,
    function: &str,
    new: NewChannel<'_>,
) -> store::Result<Option<Published>> {
    test.store.put_channel(&ours(), function, new, |_| Ok(())).await
}

fn range(range: &str) -> Follow {
    Follow::Range(range.to_owned())
}

async fn publish_version(test: &TestStore, version: &str) -> store::Published {
    let release = Release { semver: Some(version.to_owned()), ..Release::default() };
    publish(&test.store, NewRevision { release, ..new("f") }, version.as_bytes()).await.unwrap()
}

async fn at(test: &TestStore, name: &str) -> Option<u32> {
    let channels = test.store.channels(&ours(), "f").await.unwrap();
    channels.into_iter().find(|channel| channel.name == name).map(|channel| channel.revision)
}

#[tokio::test]
async fn a_publish_moves_only_the_channels_whose_range_takes_its_version() {
    let test = TestStore::new().await;
    for version in ["1.2.8", "1.3.0", "2.0.0-rc.1"] {
        publish_version(&test, version).await;
    }
    for (name, follow) in [
        ("old", range("~1.2")),
        ("stable", range("1")),
        ("next", range(">=2.0.0-0")),
        ("fixed", Follow::Revision(1)),
    ] {
        put(&test, "f", set(name, follow)).await.unwrap().unwrap();
    }
    let all = async || {
        [at(&test, "old").await, at(&test, "stable").await, at(&test, "next").await]
            .map(Option::unwrap)
    };
    assert_eq!(all().await, [1, 2, 3]);

    assert_eq!(publish_version(&test, "1.2.9").await.revision.number, 4);
    assert_eq!(all().await, [4, 2, 3], "1.2.9 moves only those that want ~1.2");
    publish_version(&test, "2.0.0").await;
    assert_eq!(all().await, [4, 2, 5]);
    test.publish("f", b"no version").await;
    assert_eq!(all().await, [4, 2, 5]);
    assert_eq!(at(&test, "fixed").await, Some(1));

    let history = test.store.history(&ours(), "f", None, 100).await.unwrap();
    let of = |channel: &str| {
        let changes = history.iter().rev().filter(|change| change.channel == channel);
        changes.map(|change| (change.action, change.before, change.after)).collect::<Vec<_>>()
    };
    assert_eq!(of("old"), [(Action::Channel, None, 1), (Action::Deploy, Some(1), 4)]);
}

#[tokio::test]
async fn a_default_channel_that_is_tied_leaves_a_publish_inactive() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    let tied = set(DEFAULT_CHANNEL, Follow::Revision(1));
    put(&test, "f", tied).await.unwrap().unwrap();

    let second = publish_version(&test, "1.1.0").await;
    assert_eq!((second.revision.number, second.active.number), (2, 1));
    assert_eq!(second.function.active_revision, 1);

    let in_range = set(DEFAULT_CHANNEL, range("~1"));
    let moved = put(&test, "f", in_range).await.unwrap().unwrap();
    assert_eq!(moved.active.number, 2);
    assert_eq!(publish_version(&test, "2.0.0").await.active.number, 2);
    assert_eq!(publish_version(&test, "1.2.0").await.active.number, 4);

    let deleted = test.store.delete_channel(&ours(), "f", DEFAULT_CHANNEL, ACTOR, 1).await.unwrap();
    assert_eq!(deleted.unwrap().active.number, 4);
    assert_eq!(publish_version(&test, "2.1.0").await.active.number, 5, "the newest again");
}

#[tokio::test]
async fn a_roll_back_ends_the_weights_of_the_default_channel() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    publish_version(&test, "1.1.0").await;
    let weights = vec![Weight { revision: 1, percent: 10 }];
    let canary = NewChannel { weights, ..set(DEFAULT_CHANNEL, Follow::Revision(2)) };
    let put = put(&test, "f", canary).await.unwrap().unwrap();
    let numbers: Vec<u32> = put.channels[0].revisions.iter().map(|r| r.number).collect();
    assert_eq!(numbers, [2, 1]);

    let back = test.store.roll_back(&ours(), "f", ACTOR, 4_000).await.unwrap().unwrap();

    assert_eq!(back.active.number, 1);
    assert_eq!(back.channels[0].channel.weights, []);
    assert_eq!(back.channels[0].channel.revision, 1);
}

#[tokio::test]
async fn what_cannot_be_a_channel_is_refused_and_changes_nothing() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    let set_to = async |new| put(&test, "f", new).await;
    let weighted = NewChannel {
        weights: vec![Weight { revision: 7, percent: 1 }],
        ..set("a", Follow::Revision(1))
    };
    let none_left = NewChannel { max: 0, ..set("a", Follow::Revision(1)) };

    let refused = set_to(set("a", Follow::Revision(9))).await;
    assert!(matches!(refused, Err(Error::NoSuchRevision { number: 9 })), "{refused:?}");
    let refused = set_to(weighted).await;
    assert!(matches!(refused, Err(Error::NoSuchRevision { number: 7 })), "{refused:?}");
    assert!(matches!(set_to(set("a", range("~2"))).await, Err(Error::RangeNotMet)));
    assert!(matches!(set_to(none_left).await, Err(Error::Quota { max: 0, .. })));
    let absent = put(&test, "g", set("a", Follow::Revision(1))).await;
    assert_eq!(absent.unwrap(), None);
    assert_eq!(test.store.channels(&ours(), "f").await.unwrap(), []);
    let deleted = test.store.delete_channel(&ours(), "f", "a", ACTOR, 1).await.unwrap();
    assert_eq!(deleted, None);
}

#[tokio::test]
async fn revisions_that_a_channel_points_to_are_not_removed() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    publish_version(&test, "1.1.0").await;
    let weights = vec![Weight { revision: 2, percent: 5 }];
    let pinned = NewChannel { weights, ..set("prod", Follow::Revision(1)) };
    put(&test, "f", pinned).await.unwrap().unwrap();
    let quotas = Quotas { revisions_per_function: 2, ..Quotas::default() };
    for artifact in [b"3".as_slice(), b"4", b"5"] {
        publish(&test.store, NewRevision { quotas, ..new("f") }, artifact).await.unwrap();
    }

    let kept = test.store.revisions(&ours(), "f", None, 9).await.unwrap();

    assert_eq!(kept.iter().map(|r| r.number).collect::<Vec<_>>(), [5, 4, 2, 1]);
    assert_eq!(test.store.channel_targets(kept[0].function_id).await.unwrap().len(), 1);
}

/// One step of an owner.
#[derive(Clone, Debug)]
enum Step {
    Publish(Option<(u64, u64)>),
    Set(usize, Result<u32, usize>),
    Delete(usize),
    Activate(u32),
}

const CHANNELS: [&str; 3] = [DEFAULT_CHANNEL, "prod", "next"];
const RANGES: [&str; 3] = ["~1.1", "1", ">=2.0.0-0"];

fn step() -> impl Strategy<Value = Step> {
    let follow = prop_oneof![(1u32..8).prop_map(Ok), (0..RANGES.len()).prop_map(Err)];
    prop_oneof![
        4 => prop::option::of((1u64..3, 0u64..3)).prop_map(Step::Publish),
        3 => (0..CHANNELS.len(), follow).prop_map(|(channel, follow)| Step::Set(channel, follow)),
        1 => (0..CHANNELS.len()).prop_map(Step::Delete),
        1 => (1u32..8).prop_map(Step::Activate),
    ]
}

/// What the store must say, kept in the plainest way.
#[derive(Default)]
struct Model {
    versions: Vec<Option<Version>>,
    channels: BTreeMap<&'static str, (Option<&'static str>, u32)>,
    active: u32,
}

impl Model {
    fn newest_in(&self, range: &str) -> Option<u32> {
        let range = VersionReq::parse(range).unwrap();
        let numbered = self.versions.iter().zip(1u32..);
        let met = numbered.filter_map(|(version, number)| Some((version.clone()?, number)));
        met.filter(|(version, _)| range.matches(version)).max().map(|(_, number)| number)
    }

    fn publish(&mut self, version: Option<Version>) {
        self.versions.push(version);
        let moved: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(name, (range, _))| Some((*name, self.newest_in((*range)?)?)))
            .collect();
        for (name, revision) in moved {
            self.channels.get_mut(name).unwrap().1 = revision;
        }
        self.active = match self.channels.get(DEFAULT_CHANNEL) {
            Some((_, revision)) => *revision,
            None => self.versions.len() as u32,
        };
    }

    fn set(&mut self, name: &'static str, follow: Result<u32, &'static str>) -> bool {
        let (range, revision) = match follow {
            Ok(revision) if revision as usize <= self.versions.len() => (None, revision),
            Ok(_) => return false,
            Err(range) => match self.newest_in(range) {
                Some(revision) => (Some(range), revision),
                None => return false,
            },
        };
        self.channels.insert(name, (range, revision));
        if name == DEFAULT_CHANNEL {
            self.active = revision;
        }
        true
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let test = TestStore::new().await;
    let mut model = Model::default();
    test.publish("f", b"first").await;
    model.publish(None);
    for step in steps {
        match step {
            Step::Publish(version) => {
                // The patch counts up, so that no version comes twice.
                let patch = model.versions.len() as u64;
                let version = version.map(|(major, minor)| Version::new(major, minor, patch));
                let release = Release {
                    semver: version.as_ref().map(ToString::to_string),
                    ..Release::default()
                };
                let bytes = patch.to_string();
                let new = NewRevision { release, ..new("f") };
                publish(&test.store, new, bytes.as_bytes()).await.unwrap();
                model.publish(version);
            }
            Step::Set(channel, follow) => {
                let name = CHANNELS[channel];
                let follow = follow.map_err(|range| RANGES[range]);
                let asked = match follow {
                    Ok(revision) => Follow::Revision(revision),
                    Err(text) => range(text),
                };
                let put = put(&test, "f", set(name, asked)).await;
                prop_assert_eq!(put.is_ok(), model.set(name, follow));
            }
            Step::Delete(channel) => {
                let name = CHANNELS[channel];
                let deleted =
                    test.store.delete_channel(&ours(), "f", name, ACTOR, 1).await.unwrap();
                prop_assert_eq!(deleted.is_some(), model.channels.remove(name).is_some());
            }
            Step::Activate(revision) => {
                let went = test.store.activate(&ours(), "f", revision, ACTOR, 1).await.unwrap();
                let exists = revision as usize <= model.versions.len();
                prop_assert_eq!(went.is_some(), exists);
                if exists {
                    model.active = revision;
                    if let Some(default) = model.channels.get_mut(DEFAULT_CHANNEL) {
                        default.1 = revision;
                    }
                }
            }
        }
        let active = test.store.function(&ours(), "f").await.unwrap().unwrap();
        prop_assert_eq!(active.revision.number, model.active);
        let stored = test.store.channels(&ours(), "f").await.unwrap();
        let stored: BTreeMap<_, _> = stored.iter().map(state).collect();
        let expected: BTreeMap<_, _> = model
            .channels
            .iter()
            .map(|(name, (range, revision))| (*name, (*range, *revision)))
            .collect();
        prop_assert_eq!(stored, expected);
    }
    Ok(())
}

fn state(channel: &Channel) -> (&str, (Option<&str>, u32)) {
    (&channel.name, (channel.range.as_deref(), channel.revision))
}

/// 24 walks, or 10,000 with `MAYFLY_LONG=1`.
#[test]
fn channels_are_where_a_model_says_after_any_changes() {
    let long = std::env::var_os("MAYFLY_LONG").is_some_and(|value| value == "1");
    let cases = if long { 10_000 } else { 24 };
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest!(config, |(steps in prop::collection::vec(step(), 1..20))| {
        runtime.block_on(run(steps))?;
    });
}
