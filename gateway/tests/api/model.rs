//! Random walks through the API, held against a model of it that fits on a page.

use std::collections::BTreeMap;

use http::Method;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{client::FullResponse, guests::guest, test_gateway::TestGateway};

const NAMES: [&str; 3] = ["a", "b-1", "c"];
/// Guests that can be told apart by what they answer; the last one answers its environment.
const GUESTS: [&str; 3] = ["c-hello", "hello-cgi", "t-env"];
/// Steps of one walk.
const STEPS: usize = 25;

const SECRETS: [&str; 2] = ["key-1", "key-2"];
/// What the client calls its uploads.
const KEYS: [&str; 2] = ["one", "two"];
const SCOPES: [&str; 2] = ["read", "deploy"];

/// Something that an owner does.
#[derive(Clone, Debug)]
enum Step {
    Deploy { name: usize, guest: usize, change: Option<Change>, key: Option<usize> },
    Set { name: usize, change: Change },
    Describe { name: usize, description: String },
    Activate { name: usize, revision: u32 },
    Delete { name: usize },
    PutSecret { secret: usize, hosts: Vec<String> },
    DeleteSecret { secret: usize },
    CreateToken { scope: usize },
    RevokeToken { token: prop::sample::Index },
    UseToken { token: prop::sample::Index, writes: bool },
}

/// A merge patch on the environment: a variable and its value, or null.
type Change = BTreeMap<String, Option<String>>;
type Environment = BTreeMap<String, String>;

fn step() -> impl Strategy<Value = Step> {
    let change = || prop::collection::btree_map("[AB]", prop::option::weighted(0.7, "[xy]"), 0..3);
    let name = 0..NAMES.len();
    let key = prop::option::weighted(0.3, 0..KEYS.len());
    let deployed = (name.clone(), 0..GUESTS.len(), prop::option::of(change()), key);
    let secret = 0..SECRETS.len();
    let hosts = prop::collection::vec(Just("https://api.test".to_owned()), 0..2);
    let used = (any::<prop::sample::Index>(), any::<bool>());
    let described = (name.clone(), "[a-z]{0,3}");
    prop_oneof![
        6 => deployed
            .prop_map(|(name, guest, change, key)| Step::Deploy { name, guest, change, key }),
        3 => (name.clone(), change()).prop_map(|(name, change)| Step::Set { name, change }),
        1 => described.prop_map(|(name, description)| Step::Describe { name, description }),
        3 => (name.clone(), 0..6_u32).prop_map(|(name, revision)| Step::Activate { name, revision }),
        1 => name.prop_map(|name| Step::Delete { name }),
        1 => (secret.clone(), hosts).prop_map(|(secret, hosts)| Step::PutSecret { secret, hosts }),
        1 => secret.prop_map(|secret| Step::DeleteSecret { secret }),
        1 => (0..SCOPES.len()).prop_map(|scope| Step::CreateToken { scope }),
        1 => any::<prop::sample::Index>().prop_map(|token| Step::RevokeToken { token }),
        2 => used.prop_map(|(token, writes)| Step::UseToken { token, writes }),
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

/// An upload that had a key, and how it was answered.
#[derive(Clone, Debug)]
struct Answered {
    upload: (usize, usize, Option<Change>),
    status: u16,
}

#[derive(Debug)]
struct Token {
    text: String,
    id: String,
    scope: usize,
    revoked: bool,
}

/// All there is.
#[derive(Debug, Default)]
struct Model {
    functions: BTreeMap<usize, Function>,
    /// Where each may be sent.
    secrets: BTreeMap<usize, Vec<String>>,
    /// Those that were made on this walk.
    tokens: Vec<Token>,
    keys: BTreeMap<usize, Answered>,
}

impl Model {
    fn token(&self, which: &prop::sample::Index) -> Option<usize> {
        (!self.tokens.is_empty()).then(|| which.index(self.tokens.len()))
    }

    /// What an upload comes to.
    fn deploy(&mut self, name: usize, guest: usize, change: Option<Change>) -> u16 {
        let function = self.functions.entry(name).or_default();
        let before =
            if function.active == 0 { Environment::new() } else { function.active().1.clone() };
        let new = function.publish(guest, changed(before, change.unwrap_or_default()));
        if new { 201 } else { 200 }
    }
}

/// Does it to the model, and says with which status and problem the gateway should answer.
fn expected(model: &mut Model, step: &Step) -> (u16, Option<&'static str>) {
    const NOBODY: (u16, Option<&str>) = (404, Some("function-not-found"));
    match step.clone() {
        Step::Deploy { name, guest, change, key } => {
            let upload = (name, guest, change.clone());
            match key.and_then(|key| model.keys.get(&key)) {
                Some(before) if before.upload == upload => return (before.status, None),
                Some(_) => return (422, Some("idempotency-key-reused")),
                None => {}
            }
            let status = model.deploy(name, guest, change);
            if let Some(key) = key {
                model.keys.insert(key, Answered { upload, status });
            }
            (status, None)
        }
        Step::Set { name, change } => {
            let Some(function) = model.functions.get_mut(&name) else { return NOBODY };
            let (guest, before) = function.active().clone();
            function.publish(guest, changed(before, change));
            (200, None)
        }
        Step::Describe { name, description } => {
            let Some(function) = model.functions.get_mut(&name) else { return NOBODY };
            function.description = description;
            (200, None)
        }
        Step::Activate { name, revision } => {
            let Some(function) = model.functions.get_mut(&name) else { return NOBODY };
            let revision = revision as usize;
            if !(1..=function.revisions.len()).contains(&revision) {
                return (404, Some("revision-not-found"));
            }
            function.active = revision;
            (200, None)
        }
        Step::Delete { name } => {
            // What was answered about it is forgotten with it.
            model.keys.retain(|_, answered| answered.upload.0 != name);
            match model.functions.remove(&name) {
                Some(_) => (204, None),
                None => NOBODY,
            }
        }
        Step::PutSecret { secret, hosts } => match model.secrets.insert(secret, hosts) {
            Some(_) => (200, None),
            None => (201, None),
        },
        Step::DeleteSecret { secret } => match model.secrets.remove(&secret) {
            Some(_) => (204, None),
            None => (404, Some("secret-not-found")),
        },
        Step::CreateToken { .. } => (201, None),
        Step::RevokeToken { token } => {
            let Some(token) = model.token(&token) else { return (404, Some("token-not-found")) };
            model.tokens[token].revoked = true;
            (204, None)
        }
        Step::UseToken { token, writes } => {
            let token = model.token(&token).map(|token| &model.tokens[token]);
            match token {
                Some(token) if !token.revoked => match (SCOPES[token.scope], writes) {
                    (_, false) => (200, None),
                    ("read", true) => (403, Some("forbidden")),
                    _ => NOBODY,
                },
                _ => (401, Some("unauthorized")),
            }
        }
    }
}

/// Does it to the gateway.
async fn done(gateway: &TestGateway, model: &Model, step: &Step) -> FullResponse {
    let token = |which: &prop::sample::Index| model.token(which).map(|token| &model.tokens[token]);
    match step {
        Step::Deploy { name, guest: bytes, change, key } => {
            let mut put = gateway.put(NAMES[*name], guest(GUESTS[*bytes]));
            if let Some(change) = change {
                put = put.header("mayfly-settings", &json!({"environment": change}).to_string());
            }
            if let Some(key) = key {
                put = put.header("idempotency-key", KEYS[*key]);
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
        Step::PutSecret { secret, hosts } => {
            let put = gateway.control(Method::PUT, &format!("/v1/secrets/{}", SECRETS[*secret]));
            put.json(&json!({"value": "hunter2-hunter2", "hosts": hosts})).send().await
        }
        Step::DeleteSecret { secret } => {
            let target = format!("/v1/secrets/{}", SECRETS[*secret]);
            gateway.control(Method::DELETE, &target).send().await
        }
        Step::CreateToken { scope } => {
            let token = json!({"name": "walker", "scopes": [SCOPES[*scope]]});
            gateway.control(Method::POST, "/v1/tokens").json(&token).send().await
        }
        Step::RevokeToken { token: which } => {
            let id = token(which).map_or("0123456789abcdef", |token| token.id.as_str());
            gateway.control(Method::DELETE, &format!("/v1/tokens/{id}")).send().await
        }
        Step::UseToken { token: which, writes } => {
            let text = token(which).map_or("mfy_0123456789abcdef_0", |token| token.text.as_str());
            let call = match writes {
                true => gateway.anonymous(Method::DELETE, "/v1/functions/nobody"),
                false => gateway.anonymous(Method::GET, "/v1/functions"),
            };
            call.header("authorization", &format!("Bearer {text}")).send().await
        }
    }
}

/// The gateway shows and serves what the model holds, and nothing else.
async fn agrees(gateway: &TestGateway, model: &Model) {
    let secrets = gateway.api("/v1/secrets").await.json()["secrets"].as_array().unwrap().clone();
    let secrets = secrets.iter().map(|secret| (&secret["name"], &secret["hosts"]));
    let expected = model.secrets.iter().map(|(name, hosts)| (json!(SECRETS[*name]), json!(hosts)));
    let expected: Vec<_> = expected.collect();
    assert!(secrets.eq(expected.iter().map(|(name, hosts)| (name, hosts))), "{expected:?}");
    let list = gateway.api("/v1/functions").await.json().clone();
    let listed = list["functions"].as_array().unwrap();
    let names: Vec<&Value> = listed.iter().map(|view| &view["name"]).collect();
    assert_eq!(names, model.functions.keys().map(|name| NAMES[*name]).collect::<Vec<_>>());
    for (index, name) in NAMES.iter().enumerate() {
        let answer = gateway.get(&format!("/f/{name}/")).await;
        let shown = gateway.show(name).await;
        let revisions = gateway.api(&format!("/v1/functions/{name}/revisions")).await;
        let Some(function) = model.functions.get(&index) else {
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

/// Case M03.
#[test]
fn the_api_behaves_like_its_model() {
    // Two hundred steps here; ten thousand walks for those who have the time.
    let cases = if std::env::var_os("MAYFLY_LONG").is_some() { 10_000 } else { 10 };
    let runtime = Runtime::new().unwrap();
    // Tokens that were revoked are tried more often than somebody who guesses may.
    let gateway = runtime.block_on(TestGateway::with(&["server.auth_failures_per_minute=0"]));
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let walks = prop::collection::vec(step(), STEPS);
    let walked = TestRunner::new(config).run(&walks, |walk| {
        runtime.block_on(async {
            let mut model = Model::default();
            for name in 0..NAMES.len() {
                done(&gateway, &model, &Step::Delete { name }).await;
            }
            for secret in 0..SECRETS.len() {
                done(&gateway, &model, &Step::DeleteSecret { secret }).await;
            }
            for step in &walk {
                let (status, problem) = expected(&mut model, step);
                let answer = done(&gateway, &model, step).await;
                assert_eq!(answer.status(), status, "{step:?}: {answer:?}");
                if let Step::CreateToken { scope } = step {
                    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
                    let (text, id) = (text("token"), text("id"));
                    model.tokens.push(Token { text, id, scope: *scope, revoked: false });
                }
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
