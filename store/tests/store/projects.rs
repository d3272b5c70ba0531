//! Projects: all changes of a manifest in one transaction, and what belongs to whom.

use std::collections::BTreeSet;

use store::{
    ChannelOptions, Digest, Error, Follow, FunctionChanges, NewChannel, ProjectChanges,
    ProjectError, ProjectItem, ProjectQuotas, ProjectRevision, PutDocument, PutSchedule, Quota,
    Quotas, Release, Settings, Sticky,
};

use crate::support::{ACTOR, TestStore, ours, tenant, timeout};

const MANY: ProjectQuotas = ProjectQuotas {
    functions: Quotas {
        functions: 10,
        artifact_bytes: u64::MAX,
        files: u64::MAX,
        revisions_per_function: 10,
        idempotency_keys: 10,
    },
    routes: 2,
    schedules: 2,
    queues: 2,
    flows: 2,
};

fn nothing(project: &str) -> ProjectChanges<'_> {
    ProjectChanges {
        tenant: ours(),
        project,
        functions: Vec::new(),
        routes: Vec::new(),
        schedules: Vec::new(),
        queues: Vec::new(),
        flows: Vec::new(),
        deleted: Vec::new(),
        owned: Vec::new(),
        quotas: MANY,
        actor: ACTOR,
        now_ms: 5_000,
    }
}

fn document(name: &str) -> PutDocument {
    let document = format!("{{\"of\":\"{name}\"}}");
    PutDocument { tenant: ours(), name: name.to_owned(), document, now_ms: 5_000 }
}

fn schedule(name: &str) -> PutSchedule {
    let PutDocument { tenant, name, document, now_ms } = document(name);
    PutSchedule { tenant, name, document, seed: "s".to_owned(), since_ms: 1, now_ms }
}

fn function(name: &str, bytes: &[u8], version: &str) -> FunctionChanges<'static> {
    FunctionChanges {
        name: name.to_owned().leak(),
        expected: None,
        revision: Some(ProjectRevision {
            digest: Digest::of(bytes),
            kind: "component".to_owned(),
            settings: Settings::default(),
            release: Release { semver: Some(version.to_owned()), ..Release::default() },
        }),
        description: Some("described"),
        channels: Vec::new(),
    }
}

fn channel(name: &'static str, follow: Follow) -> NewChannel<'static> {
    NewChannel {
        name,
        follow,
        weights: Vec::new(),
        sticky: Sticky::None,
        options: ChannelOptions::default(),
        canary: None,
        max: 4,
        actor: ACTOR,
        now_ms: 5_000,
    }
}

impl TestStore {
    async fn artifact(&self, bytes: &[u8]) {
        let upload = self.receive(bytes).await;
        self.store.put_artifact(&ours(), &upload, &Quotas::default(), 1_000).await.unwrap();
    }

    async fn apply(
        &self,
        changes: ProjectChanges<'_>,
    ) -> Result<store::AppliedProject, ProjectError> {
        self.store.apply_project(changes, |_| Ok::<_, ProjectError>(())).await
    }

    /// What belongs to the project, and the names of everything that there is.
    async fn belongs(&self, project: &str) -> Vec<ProjectItem> {
        let state = self.store.project_state(&ours(), project, &BTreeSet::new()).await.unwrap();
        let own = state.projects.into_iter().filter(|(_, owner)| owner == project);
        own.map(|(item, _)| item).collect()
    }

    async fn names(&self) -> Vec<String> {
        let store = &self.store;
        let functions = store.all_active().await.unwrap().into_iter().map(|it| it.function.name);
        let routes = store.all_routes().await.unwrap().into_iter().map(|it| it.name);
        let schedules = store.all_schedules().await.unwrap().into_iter().map(|it| it.name);
        let queues = store.all_queues().await.unwrap().into_iter().map(|it| it.name);
        let flows = store.all_flows().await.unwrap().into_iter().map(|it| it.name);
        functions.chain(routes).chain(schedules).chain(queues).chain(flows).collect()
    }
}

fn everything() -> ProjectChanges<'static> {
    let range = Follow::Range("~1.2".to_owned());
    let f =
        FunctionChanges { channels: vec![channel("prod", range)], ..function("f", b"f", "1.2.0") };
    ProjectChanges {
        functions: vec![f],
        routes: vec![document("r")],
        schedules: vec![schedule("s")],
        queues: vec![document("q")],
        flows: vec![document("w")],
        owned: vec![
            ProjectItem::Function("f".to_owned()),
            ProjectItem::Channel("f".to_owned(), "prod".to_owned()),
            ProjectItem::Route("r".to_owned()),
            ProjectItem::Schedule("s".to_owned()),
            ProjectItem::Queue("q".to_owned()),
            ProjectItem::Flow("w".to_owned()),
        ],
        ..nothing("shop")
    }
}

/// Case E04.
#[tokio::test]
async fn a_project_is_stored_as_a_whole_and_belongs_to_itself() {
    let test = TestStore::new().await;
    test.artifact(b"f").await;
    let applied = test.apply(everything()).await.unwrap();
    let [published] = &applied.functions[..] else { panic!("{applied:?}") };
    assert_eq!((published.created_function, published.active.number), (true, 1));
    assert_eq!(published.function.description, "described");
    assert_eq!(published.channels[0].channel.range.as_deref(), Some("~1.2"));
    let made = (applied.routes.len(), applied.schedules.len(), applied.queues.len());
    assert_eq!((made, applied.flows.len()), ((1, 1, 1), 1));
    assert_eq!(test.belongs("shop").await, everything().owned);
    assert_eq!(test.belongs("other").await, []);

    let test = test.reopen().await;
    assert_eq!(test.names().await, ["f", "r", "s", "q", "w"]);
    let named = BTreeSet::from([ProjectItem::Route("r".to_owned())]);
    let state = test.store.project_state(&ours(), "other", &named).await.unwrap();
    assert_eq!(state.documents.len(), 1, "{state:?}");
    assert!(state.functions.is_empty(), "{state:?}");
    let state = test.store.project_state(&tenant("other"), "shop", &named).await.unwrap();
    assert!(state.documents.is_empty() && state.projects.is_empty(), "{state:?}");

    // What is made again under the same name by a person does not belong to the project.
    test.store.delete_function(&ours(), "f").await.unwrap();
    test.publish("f", b"f").await;
    test.store.delete_route(&ours(), "r").await.unwrap();
    test.store.put_route(&ours(), "r", "{}", 9, 1).await.unwrap();
    assert_eq!(test.belongs("shop").await, everything().owned[3..]);
}

/// Changes, what of them cannot be stored, and why.
type RefusedCase = (ProjectChanges<'static>, &'static str, fn(&Error) -> bool);

/// Case E04.
#[tokio::test]
async fn what_cannot_be_stored_names_its_place_and_nothing_is() {
    let test = TestStore::new().await;
    test.artifact(b"f").await;
    test.artifact(b"g").await;
    let with = |change: fn(&mut ProjectChanges<'static>)| {
        let mut changes = everything();
        change(&mut changes);
        changes
    };
    let cases: [RefusedCase; 8] = [
        (
            with(|it| it.functions.push(function("g", b"unknown", "1.0.0"))),
            "function \"g\"",
            |error| matches!(error, Error::NoSuchArtifact),
        ),
        (
            with(|it| it.functions[0].channels[0].follow = Follow::Range("~2".to_owned())),
            "channel \"prod\" of \"f\"",
            |error| matches!(error, Error::RangeNotMet),
        ),
        (
            with(|it| it.functions[0].channels[0].follow = Follow::Revision(7)),
            "channel \"prod\" of \"f\"",
            |error| matches!(error, Error::NoSuchRevision { number: 7 }),
        ),
        (with(|it| it.routes.extend([document("a"), document("b")])), "route \"b\"", |error| {
            matches!(error, Error::Quota { quota: Quota::Routes, max: 2 })
        }),
        (with(|it| it.flows.extend([document("a"), document("b")])), "flow \"b\"", |error| {
            matches!(error, Error::Quota { quota: Quota::Flows, .. })
        }),
        (with(|it| it.queues.extend([document("a"), document("b")])), "queue \"b\"", |error| {
            matches!(error, Error::Quota { quota: Quota::Queues, .. })
        }),
        (
            with(|it| it.schedules.extend([schedule("a"), schedule("b")])),
            "schedule \"b\"",
            |error| matches!(error, Error::Quota { quota: Quota::Schedules, .. }),
        ),
        (with(|it| it.functions[0].expected = Some(3)), "function \"f\"", |error| {
            matches!(error, Error::Conflict)
        }),
    ];
    for (changes, place, is_expected) in cases {
        let planned = test.store.planned_project(changes.clone()).await.unwrap_err();
        let refused = test.apply(changes).await.unwrap_err();
        for refused in [planned, refused] {
            assert_eq!(refused.to_string(), place);
            assert!(is_expected(&refused.error), "{place}: {:?}", refused.error);
        }
        assert_eq!(test.names().await, [] as [&str; 0], "{place}");
    }
    let admitted = test.store.apply_project(everything(), |applied| {
        assert_eq!(applied.functions.len(), 1);
        Err(ProjectError::from(Error::Busy))
    });
    assert!(matches!(admitted.await, Err(ProjectError { item: None, error: Error::Busy })));
    test.store.planned_project(everything()).await.unwrap();
    assert_eq!(test.names().await, [] as [&str; 0]);
}

/// Case E05.
#[tokio::test]
async fn what_goes_makes_room_and_what_is_taken_over_changes_its_project() {
    let test = TestStore::new().await;
    test.artifact(b"f").await;
    let full = ProjectChanges { routes: vec![document("r"), document("r2")], ..everything() };
    let before = test.apply(full).await.unwrap().functions.remove(0);
    let gone = |name: &str| ProjectItem::Route(name.to_owned());
    let changes = ProjectChanges {
        functions: vec![FunctionChanges {
            expected: Some(before.function.version),
            revision: Some(ProjectRevision {
                settings: timeout(7),
                ..function("f", b"f", "1.2.1").revision.unwrap()
            }),
            ..function("f", b"f", "1.2.1")
        }],
        routes: vec![document("a"), document("b")],
        deleted: vec![
            gone("r"),
            gone("r2"),
            ProjectItem::Channel("f".to_owned(), "prod".to_owned()),
            ProjectItem::Queue("q".to_owned()),
            ProjectItem::Flow("w".to_owned()),
            ProjectItem::Schedule("s".to_owned()),
        ],
        owned: vec![ProjectItem::Function("f".to_owned()), gone("a")],
        ..nothing("other")
    };
    let applied = test.apply(changes).await.unwrap();
    let published = &applied.functions[0];
    assert_eq!((published.active.number, published.channels.len()), (2, 0));
    assert_eq!(published.active.settings, timeout(7));
    assert_eq!(test.names().await, ["f", "a", "b"]);
    assert_eq!(test.belongs("other").await, [ProjectItem::Function("f".to_owned()), gone("a")]);
    assert_eq!(test.belongs("shop").await, []);
    let all =
        ProjectChanges { deleted: vec![ProjectItem::Function("f".to_owned())], ..nothing("other") };
    test.apply(all).await.unwrap();
    assert_eq!(test.names().await, ["a", "b"]);
}
