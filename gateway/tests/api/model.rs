//! Random walks through the API, held against a model of it that fits on a page.

use std::collections::BTreeMap;

use http::Method;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{client::Answer, guests::guest, test_gateway::TestGateway};

const NAMES: [&str; 3] = ["a", "b-1", "c"];
/// Guests that can be told apart by what they answer; the last one answers its environment.
const GUESTS: [&str; 3] = ["c-hello", "hello-cgi", "t-env"];
/// Steps of one walk.
const STEPS: usize = 20;

/// Something that an owner does.
#[derive(Clone, Debug)]
enum Step {
    Deploy { name: usize, guest: usize, change: Option<Change> },
    Set { name: usize, change: Change },
    Describe { name: usize, description: String },
    Activate { name: usize, revision: u32 },
    Delete { name: usize },
}

/// A merge patch on the environment: a variable and its value, or null.
type Change = BTreeMap<String, Option<String>>;
type Environment = BTreeMap<String, String>;

fn step() -> impl Strategy<Value = Step> {
    let change = || prop::collection::btree_map("[AB]", prop::option::weighted(0.7, "[xy]"), 0..3);
    let name = 0..NAMES.len();
    let deployed = (name.clone(), 0..GUESTS.len(), prop::option::of(change()));
    let described = (name.clone(), "[a-z]{0,3}");
    prop_oneof![
        5 => deployed.prop_map(|(name, guest, change)| Step::Deploy { name, guest, change }),
        3 => (name.clone(), change()).prop_map(|(name, change)| Step::Set { name, change }),
        1 => described.prop_map(|(name, description)| Step::Describe { name, description }),
        3 => (name.clone(), 0..6_u32).prop_map(|(name, revision)| Step::Activate { name, revision }),
        1 => name.prop_map(|name| Step::Delete { name }),
    ]
}

/// What a function is.
#[derive(Clone, Debug, Default)]
struct Function {
    /// Guest and environment; the first one has the number 1.
    revisions: Vec<(usize, Environment)>,
    active: usize,
    description: String,
}

impl Function {
    fn active(&self) -> &(usize, Environment) {
        &self.revisions[self.active - 1]
    }

    /// Says whether that is a new revision.
    fn publish(&mut self, guest: usize, environment: Environment) -> bool {
        let new = self.active == 0 || *self.active() != (guest, environment.clone());
        if new {
            self.revisions.push((guest, environment));
            self.active = self.revisions.len();
        }
        new
    }

    fn says(&self) -> String {
        let (guest, environment) = self.active();
        match GUESTS[*guest] {
            "c-hello" => "hello from c\n".to_owned(),
            "hello-cgi" => "hello from rust\n".to_owned(),
            _ => environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        }
    }
}

fn changed(mut environment: Environment, change: Change) -> Environment {
    for (name, value) in change {
        match value {
            Some(value) => environment.insert(name, value),
            None => environment.remove(&name),
        };
    }
    environment
}

type Model = BTreeMap<usize, Function>;

/// Does it to the model, and says with which status and problem the gateway should answer.
fn expected(model: &mut Model, step: &Step) -> (u16, Option<&'static str>) {
    const NOBODY: (u16, Option<&str>) = (404, Some("function-not-found"));
    match step.clone() {
        Step::Deploy { name, guest, change } => {
            let function = model.entry(name).or_default();
            let before =
                if function.active == 0 { Environment::new() } else { function.active().1.clone() };
            let new = function.publish(guest, changed(before, change.unwrap_or_default()));
            (if new { 201 } else { 200 }, None)
        }
        Step::Set { name, change } => {
            let Some(function) = model.get_mut(&name) else { return NOBODY };
            let (guest, before) = function.active().clone();
            function.publish(guest, changed(before, change));
            (200, None)
        }
        Step::Describe { name, description } => {
            let Some(function) = model.get_mut(&name) else { return NOBODY };
            function.description = description;
            (200, None)
        }
        Step::Activate { name, revision } => {
            let Some(function) = model.get_mut(&name) else { return NOBODY };
            let revision = revision as usize;
            if !(1..=function.revisions.len()).contains(&revision) {
                return (404, Some("revision-not-found"));
            }
            function.active = revision;
            (200, None)
        }
        Step::Delete { name } => match model.remove(&name) {
            Some(_) => (204, None),
            None => NOBODY,
        },
    }
}

/// Does it to the gateway.
async fn done(gateway: &TestGateway, step: &Step) -> Answer {
    match step {
        Step::Deploy { name, guest: bytes, change } => {
            let mut put = gateway.put(NAMES[*name], guest(GUESTS[*bytes]));
            if let Some(change) = change {
                put = put.header("mayfly-settings", &json!({"environment": change}).to_string());
            }
            put.send().await
        }
        Step::Set { name, change } => {
            let patch = json!({"settings": {"environment": change}});
            gateway.patch(NAMES[*name], &patch).await
        }
        Step::Describe { name, description } => {
            gateway.patch(NAMES[*name], &json!({"description": description})).await
        }
        Step::Activate { name, revision } => {
            let target = format!("/v1/functions/{}/revisions/{revision}/activate", NAMES[*name]);
            gateway.control(Method::POST, &target).send().await
        }
        Step::Delete { name } => {
            let target = format!("/v1/functions/{}", NAMES[*name]);
            gateway.control(Method::DELETE, &target).send().await
        }
    }
}

/// The gateway shows and serves what the model holds, and nothing else.
async fn agrees(gateway: &TestGateway, model: &Model) {
    let list = gateway.api("/v1/functions").await.json().clone();
    let listed = list["functions"].as_array().unwrap();
    let names: Vec<&Value> = listed.iter().map(|view| &view["name"]).collect();
    assert_eq!(names, model.keys().map(|name| NAMES[*name]).collect::<Vec<_>>());
    for (index, name) in NAMES.iter().enumerate() {
        let answer = gateway.get(&format!("/f/{name}/")).await;
        let shown = gateway.show(name).await;
        let revisions = gateway.api(&format!("/v1/functions/{name}/revisions")).await;
        let Some(function) = model.get(&index) else {
            assert_eq!(answer.problem(), (404, "function-not-found"));
            assert_eq!(shown.problem(), (404, "function-not-found"));
            assert_eq!(revisions.problem(), (404, "function-not-found"));
            continue;
        };
        assert_eq!(answer.plain(), (200, function.says().as_str()));
        let shown = shown.json();
        assert_eq!(
            (&shown["revision"], &shown["description"]),
            (&json!(function.active), &json!(function.description))
        );
        let revisions = revisions.json()["revisions"].as_array().unwrap().clone();
        assert_eq!(revisions.len(), function.revisions.len());
        for (view, number) in revisions.iter().zip((1..=function.revisions.len()).rev()) {
            let (_, environment) = &function.revisions[number - 1];
            assert_eq!(view["revision"], number);
            assert_eq!(view["active"], number == function.active);
            let shown = view["settings"].get("environment").cloned().unwrap_or_else(|| json!({}));
            assert_eq!(shown, json!(environment));
        }
    }
}

#[test]
fn m03_the_api_does_what_its_model_does() {
    // Two hundred steps here; ten thousand walks for those who have the time.
    let cases = if std::env::var_os("MAYFLY_LONG").is_some() { 10_000 } else { 10 };
    let runtime = Runtime::new().unwrap();
    let gateway = runtime.block_on(TestGateway::start());
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let walks = prop::collection::vec(step(), STEPS);
    let walked = TestRunner::new(config).run(&walks, |walk| {
        runtime.block_on(async {
            for name in 0..NAMES.len() {
                done(&gateway, &Step::Delete { name }).await;
            }
            let mut model = Model::new();
            for step in &walk {
                let (status, problem) = expected(&mut model, step);
                let answer = done(&gateway, step).await;
                assert_eq!(answer.status(), status, "{step:?}: {answer:?}");
                if let Some(slug) = problem {
                    assert_eq!(answer.problem(), (status, slug), "{step:?}");
                }
                agrees(&gateway, &model).await;
            }
        });
        Ok(())
    });
    if let Err(error) = walked {
        panic!("{error}");
    }
}
